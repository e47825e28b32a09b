"""Solves Poisson's equation on a square from the equation alone.

  python -m experiments.accuracy.poisson

Laplace u = f on [-1, 1]^2 with the solution u = sin(pi x) sin(pi y^2) and its
boundary values (arXiv 2404.19756, section 3.4, with an error of 1e-7 in the
mean square): the loss is 0.01 times the mean square of the equation's residual
inside plus the mean square error on the boundary. Nothing is written without
--document.
"""

from collections.abc import Callable
import time
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.data import tables
from kan_jax.layers import linen
from kan_jax.splines import grids as grids_lib
from kan_jax.training import levenberg_marquardt
from kan_jax.training import multistart
from kan_jax.training import optimizers

GRIDS = (5, 10, 20)
_PUBLISHED = 1e-7
_INTERIOR = 0.01  # Weight of the equation against the boundary.


class Solution(NamedTuple):
  """How good the solution is on one grid."""
  order: int
  grid: int
  square: float  # Mean square of the error on a fine mesh.
  loss: float
  seconds: float  # Of the call that went through this grid and all others.


def exact(points: jax.Array) -> jax.Array:
  """The solution at points [..., 2]."""
  x, y = points[..., 0], points[..., 1]
  return jnp.sin(jnp.pi * x) * jnp.sin(jnp.pi * y**2)


def laplacian(
    fn: Callable[[jax.Array], jax.Array], points: jax.Array) -> jax.Array:
  """Sum of the second derivatives of a scalar function, at points [n, 2]."""
  return jax.vmap(lambda point: jnp.trace(jax.hessian(fn)(point)))(points)


@jax.jit
def source(points: jax.Array) -> jax.Array:
  """The right-hand side at points [n, 2]: the Laplacian of the solution."""
  return laplacian(exact, points)


def sample(rng: np.random.Generator, rows: int) -> tuple[jax.Array, jax.Array]:
  """Returns points [2 rows, 2] and for each a target and a weight, [.., 2].

  The first half are inside, with f as the target, the second half on the
  boundary, with u.
  """
  inside = rng.uniform(-1, 1, (rows, 2))
  edge = rng.uniform(-1, 1, (rows, 2))
  edge[np.arange(rows), rng.integers(2, size=rows)] = rng.choice([-1, 1], rows)
  points = jnp.concatenate([jnp.asarray(inside), jnp.asarray(edge)])
  targets = jnp.concatenate(
      [source(points[:rows]), exact(points[rows:])])
  # The mean over all rows gives each half the weight that the loss gives it.
  weights = np.repeat([(2 * _INTERIOR)**0.5, 2**0.5], rows)
  return points, jnp.stack([targets, weights], 1)


def make_residuals(model: nn.Module) -> levenberg_marquardt.Residuals:
  """Returns residuals of the equation inside and of u on the boundary."""
  def residuals(params, collection, points, rows):
    def u(point):
      variables = {'params': params, 'grid': collection}
      return model.apply(variables, point[None])[0, 0]

    on_edge = (jnp.abs(points) == 1).any(-1)
    values = jnp.where(on_edge, jax.vmap(u)(points), laplacian(u, points))
    return (values - rows[:, 0]) * rows[:, 1]

  return residuals


def solve(
    order: int, seed: int, grids: tuple[int, ...], rows: int, steps: int,
    progress: bool = True) -> list[Solution]:
  """Solves the equation on finer and finer grids."""
  data = sample(np.random.default_rng(seed), rows)
  mesh = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1, 1, 101)] * 2), -1)
  mesh = mesh.reshape(-1, 2)
  started = time.monotonic()
  model = linen.KAN([2, 10, 1], grid=grids[0], order=order,
                     base_fn=jax.nn.identity, param_dtype=jnp.float64)
  history = multistart.fit_best(
      model, *data, key=jax.random.key(seed), starts=1, refine=grids,
      optimizer=optimizers.LevenbergMarquardt(
          residuals=make_residuals, tolerance=0.3, smooth=1e-14),
      steps=steps, log_every=5, update_steps=(0, 5),
      grid_update=grids_lib.GridUpdate(margin=0.02),
      validation=(mesh, exact(mesh)[:, None]),
      progress=progress).history
  seconds = time.monotonic() - started
  ends = [np.flatnonzero(history['grid'] == grid)[-1] for grid in grids]
  return [Solution(order, grid, history['validation_loss'][end],
                   history['loss'][end], seconds)
          for grid, end in zip(grids, ends, strict=True)]


def table(solutions: list[Solution]) -> str:
  """Returns a Markdown table: orders by grids, over their seeds."""
  rows = []
  for order, grid in dict.fromkeys((s.order, s.grid) for s in solutions):
    runs = [s for s in solutions if (s.order, s.grid) == (order, grid)]
    squares = [run.square for run in runs]
    median = np.median(squares)
    rows.append((
        order, grid, len(runs), f'{median:.1e}', f'{max(squares):.1e}',
        f'{_PUBLISHED:.0e}', f'{_PUBLISHED / median:.2g}',
        f'{np.median([run.loss for run in runs]):.1e}',
        f'{np.median([run.seconds for run in runs]):.0f}'))
  return tables.markdown((
      'order', 'G', 'seeds', 'mean square error, median', 'greatest',
      'published', 'published / median', 'loss, median',
      'seconds for all grids, median'), rows)


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  tables.put(values.document, table([]), 2)  # Says at once if it cannot.
  solutions = []
  for order in map(int, cli.choose('orders', values.orders, '345')):
    for seed in range(values.seeds):
      solutions += solve(order, seed, GRIDS, 1000, 30)
      print(f'order {order}, seed {seed}: mean square '
            f'{solutions[-1].square:.1e} after {solutions[-1].seconds:.0f} s',
            flush=True)
    tables.put(values.document, table(solutions), 2)
  print(table(solutions), flush=True)


if __name__ == '__main__':
  flags.DEFINE_list('orders', ['3', '5'], 'Degrees of the splines, 3 to 5.')
  cli.define_number('seeds', 1, 'Seeds, from 0 on.', low=1)
  tables.define_document()
  cli.run(main)
