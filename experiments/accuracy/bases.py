"""Fits two functions with each basis, as many coefficients for all.

  python -m experiments.accuracy.bases

KAN [2, 5, 1] on 1,000 rows without noise, 200 steps of L-BFGS in float64, grid
updates up to step 50. Nothing is written without --document.
"""

from collections.abc import Callable
from typing import get_args
from typing import NamedTuple

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.data import tables
from kan_jax.layers import linen
from kan_jax.splines import bases
from kan_jax.training import fitting

FUNCTIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'smooth': lambda x, y: np.exp(np.sin(np.pi * x) + y**2),
    # A step of the width 0.1 along a circle, and a crease.
    'steep': lambda x, y: np.tanh(20 * (x**2 + y**2 - 0.5)) + np.abs(x - 0.3),
}


class Result(NamedTuple):
  """Median, least and largest test RMSE of some seeds."""
  function: str
  grid: int
  basis: str
  median: float
  least: float
  largest: float
  seeds: int


def measure(
    function: str, grid: int, basis: bases.Name, seeds: int, steps: int = 200,
    progress: bool = True) -> Result:
  """Fits one function with one basis, from several first parameters."""
  x = np.random.default_rng(0).uniform(-1, 1, (3000, 2))
  y = FUNCTIONS[function](*x.T)[:, None]
  model = linen.KAN(
      [2, 5, 1], grid=grid, basis=basis, param_dtype=jnp.float64)
  errors = []
  for seed in range(seeds):
    variables = jax.jit(model.init)(jax.random.key(seed), x[:1])
    fitted = fitting.fit(
        model, variables, x[:1000], y[:1000], steps=steps,
        update_steps=range(0, 51, 10), progress=progress)
    outputs = jax.jit(model.apply)(fitted.variables, x[1000:])
    errors.append(float(np.sqrt(np.square(outputs - y[1000:]).mean())))
  return Result(function, grid, basis, float(np.median(errors)), min(errors),
                max(errors), seeds)


def table(results: list[Result]) -> str:
  """Returns a Markdown table: a row for each function, grid and basis."""
  return tables.markdown((
      'function', 'grid', 'basis', 'test RMSE, median', 'least to largest',
      'seeds'), ((
          r.function, r.grid, r.basis, f'{r.median:.1e}',
          f'{r.least:.1e} to {r.largest:.1e}', r.seeds) for r in results))


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  tables.put(values.document, table([]), 3)  # Says at once if it cannot.
  results = [
      measure(function, grid, basis, values.seeds)
      for function in cli.choose('functions', values.functions, FUNCTIONS)
      for grid in map(int, cli.choose('grids', values.grids, ('5', '20')))
      for basis in get_args(bases.Name)]
  print(table(results), flush=True)
  tables.put(values.document, table(results), 3)


if __name__ == '__main__':
  flags.DEFINE_list('functions', [], f'Some of {", ".join(FUNCTIONS)}; both by '
                    'default.')
  flags.DEFINE_list('grids', [], 'Intervals, 5 or 20; both by default.')
  cli.define_number('seeds', 3, 'Number of first parameters.', low=1)
  tables.define_document()
  cli.run(main)
