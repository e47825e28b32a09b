"""Fits fifteen special functions, beside the published errors.

  python -m experiments.accuracy.special --functions=jv,kv

The functions of arXiv 2404.19756, table 1, by one recipe: KAN [2, 5, 1] in
float64, without noise. Nothing is written without --document.
"""

from collections.abc import Callable
import time
from typing import NamedTuple

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from experiments import cli
from experiments.data import tables
from kan_jax.layers import linen
from kan_jax.splines import grids as grids_lib
from kan_jax.training import multistart
from kan_jax.training import optimizers

_UNIT = (0.0, 1.0)
_AWAY = (0.5, 1.5)  # From 0, where the function is infinite.


class Function(NamedTuple):
  """A function of x, uniform on [0, 1], and y, uniform on `y_range`."""
  fn: Callable[[np.ndarray, np.ndarray], np.ndarray]
  published: float  # Test RMSE of the best KAN in the table.
  y_range: tuple[float, float] = _UNIT


def _harmonic(m: int, n: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Real part, at the azimuth x and the polar angle y."""
  return lambda x, y: special.sph_harm_y(n, m, y, x).real


FUNCTIONS = {
    'ellipj': Function(lambda x, y: special.ellipj(x, y)[0], 1.33e-4),
    'ellipkinc': Function(special.ellipkinc, 1.24e-4),
    'ellipeinc': Function(special.ellipeinc, 8.26e-5),
    'jv': Function(special.jv, 1.64e-3),
    'yv': Function(special.yv, 1.49e-5, _AWAY),
    'kv': Function(special.kv, 2.52e-5, _AWAY),
    'iv': Function(special.iv, 9.28e-3),
    'lpmv_0': Function(lambda x, y: special.lpmv(0, x, y), 5.25e-5),
    'lpmv_1': Function(lambda x, y: special.lpmv(1, x, y), 6.90e-4),
    'lpmv_2': Function(lambda x, y: special.lpmv(2, x, y), 2.26e-4),
    'sph_harm_01': Function(_harmonic(0, 1), 2.21e-7),
    'sph_harm_11': Function(_harmonic(1, 1), 1.22e-4),
    'sph_harm_02': Function(_harmonic(0, 2), 1.95e-7),
    'sph_harm_12': Function(_harmonic(1, 2), 1.50e-5),
    'sph_harm_22': Function(_harmonic(2, 2), 9.45e-5),
}


class Result(NamedTuple):
  """How well one function was fitted."""
  rmse: float  # On the test points.
  seconds: float


def run(
    function: Function, seed: int, tries: int, grids: tuple[int, ...],
    progress: bool = True) -> Result:
  """Fits one function on finer and finer grids."""
  rng = np.random.default_rng(seed)
  started = time.monotonic()

  def sample(rows):
    x, y = rng.random(rows), rng.uniform(*function.y_range, rows)
    return np.stack([x, y], 1), function.fn(x, y)[:, None]

  test, train, validation = sample(1000), sample(3000), sample(1000)
  model = linen.KAN([2, 5, 1], grid=grids[0], grid_range=(-0.1, 1.6),
                     base_fn=jax.nn.identity, param_dtype=jnp.float64)
  fitted = multistart.fit_best(
      model, *train, key=jax.random.key(seed), starts=tries, refine=grids,
      optimizer=optimizers.LevenbergMarquardt(tolerance=0.05, smooth=1e-14),
      steps=100, log_every=5, update_steps=range(0, 20, 5),
      grid_update=grids_lib.GridUpdate(margin=0.02),
      validation=validation, patience=100, progress=progress)
  outputs = np.asarray(fitted.predict(test[0]))
  rmse = float(np.sqrt(np.square(outputs - test[1]).mean()))
  return Result(rmse, time.monotonic() - started)


def table(results: dict[str, list[Result]]) -> str:
  """Returns a Markdown table: a row for each function, over its seeds."""
  rows = []
  for name, runs in results.items():
    errors = np.array([run.rmse for run in runs])
    published = FUNCTIONS[name].published
    rows.append((
        f'`{name}`', len(runs), f'{np.median(errors):.1e}',
        f'{errors.max():.1e}', f'{published:.2e}',
        f'{published / np.median(errors):.2g}',
        f'{np.median([run.seconds for run in runs]):.0f}'))
  return tables.markdown((
      'function', 'seeds', 'test RMSE, median', 'greatest', 'published',
      'published / median', 'seconds, median'), rows)


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  names = cli.choose('functions', flags.FLAGS.functions, FUNCTIONS)
  tables.put(flags.FLAGS.document, table({}), 1)  # Says at once if it cannot.
  results: dict[str, list[Result]] = {}
  for name in names:
    for seed in range(flags.FLAGS.seeds):
      result = run(FUNCTIONS[name], seed, flags.FLAGS.starts, (5, 10, 20, 40))
      results.setdefault(name, []).append(result)
      print(f'{name}, seed {seed}: RMSE {result.rmse:.1e} after '
            f'{result.seconds:.0f} s', flush=True)
    tables.put(flags.FLAGS.document, table(results), 1)
  print(table(results), flush=True)


if __name__ == '__main__':
  flags.DEFINE_list(
      'functions', [], f'Which of {", ".join(FUNCTIONS)}; all by default.')
  cli.define_number('seeds', 1, 'Seeds, from 0 on.', low=1)
  cli.define_number('starts', 4, 'Random starts on the first grid.', low=1)
  tables.define_document()
  cli.run(main)
