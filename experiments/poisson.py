"""Poisson's equation on a square, by a KAN that sees the equation alone.

  python -m experiments.poisson

Laplace u = f on [-1, 1]^2 with the solution u = sin(pi x) sin(pi y^2) and its
boundary values (arXiv 2404.19756, section 3.4, with an error of 1e-7 in the
mean square): the loss is 0.01 times the mean square of the equation's residual
inside plus the mean square error on the boundary.
"""

from collections.abc import Iterator
import time
from typing import Any
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from kan_jax import layers
from kan_jax import least_squares
from kan_jax import refinement
from kan_jax import training

_INTERIOR = 0.01  # Weight of the equation against the boundary.


class Solution(NamedTuple):
  """How good the solution is on one grid."""
  grid: int
  square: float  # Mean square of the error on a fine mesh.
  loss: float
  seconds: float  # Since the beginning.


def exact(points: jax.Array) -> jax.Array:
  """The solution at points [..., 2]."""
  x, y = points[..., 0], points[..., 1]
  return jnp.sin(jnp.pi * x) * jnp.sin(jnp.pi * y**2)


def laplacian(fn: Any, points: jax.Array) -> jax.Array:
  """Sum of the second derivatives of a scalar function, at points [n, 2]."""
  return jax.vmap(lambda point: jnp.trace(jax.hessian(fn)(point)))(points)


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
      [laplacian(exact, points[:rows]), exact(points[rows:])])
  # The mean over all rows gives each half the weight that the loss gives it.
  weights = np.repeat([(2 * _INTERIOR)**0.5, 2**0.5], rows)
  return points, jnp.stack([targets, weights], 1)


def make_residuals(model: nn.Module) -> least_squares.Residuals:
  """Returns residuals of the equation inside and of u on the boundary."""
  def residuals(params, grid, points, rows):
    def u(point):
      variables = {'params': params, 'grid': grid}
      return model.apply(variables, point[None])[0, 0]

    on_edge = (jnp.abs(points) == 1).any(-1)
    values = jnp.where(on_edge, jax.vmap(u)(points), laplacian(u, points))
    return (values - rows[:, 0]) * rows[:, 1]

  return residuals


def solve(
    seed: int, grids: tuple[int, ...], order: int, rows: int,
    steps: int) -> Iterator[Solution]:
  """Solves the equation on finer and finer grids, and yields how well."""
  data = sample(np.random.default_rng(seed), rows)
  mesh = jnp.stack(jnp.meshgrid(*[jnp.linspace(-1, 1, 101)] * 2), -1)
  mesh = mesh.reshape(-1, 2)
  started = time.monotonic()
  model = layers.KAN([2, 10, 1], grid=grids[0], order=order,
                     base_fn=jax.nn.identity, param_dtype=jnp.float64)
  variables = jax.jit(model.init)(jax.random.key(seed), data[0])
  for grid in grids:
    model = model.clone(grid=grid)
    variables = refinement.refine(variables, grid)
    state = training.TrainState(
        step=jnp.zeros((), jnp.int32), params=variables['params'],
        grid=variables['grid'], opt_state=least_squares.init(jnp.float64))
    state = training.update_grids(state, data[0], model=model, margin=0.02)
    step = jax.jit(least_squares.make_step(
        make_residuals(model), smooth=1e-14))
    for _ in range(steps):
      state, metrics = step(state, data)
    variables = state.variables
    error = jax.jit(model.apply)(variables, mesh)[:, 0] - exact(mesh)
    yield Solution(grid, float(jnp.square(error).mean()),
                   float(metrics['loss']), time.monotonic() - started)


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  print('| order | G | mean square error | loss | seconds |\n|---|---|---|---|'
        '---|')
  for order in (3, 5):
    for found in solve(flags.FLAGS.seed, (5, 10, 20), order, 1000, 40):
      print(f'| {order} | {found.grid} | {found.square:.1e} | {found.loss:.1e} '
            f'| {found.seconds:.0f} |', flush=True)


if __name__ == '__main__':
  flags.DEFINE_integer(
      'seed', 0, 'Decides points and first parameters.', lower_bound=0)
  cli.run(main)
