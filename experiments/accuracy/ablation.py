"""Takes apart the recipe for errors at the splines' floor.

  python -m experiments.accuracy.ablation --solvers=lm,lbfgs

exp(sin(pi x) + y^2) by KAN [2, 1, 1] on grids of 5, 10 and 20 intervals: every
solver in float32 and float64, with grids that are uniform, spaced by quantiles,
and half of each. Solvers have the same starts; their steps cost differently,
so each has a number of its own. Nothing is written without --document.
"""

import time
from typing import NamedTuple

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.accuracy import scaling
from experiments.data import tables
from kan_jax.layers import linen
from kan_jax.splines import grids as grids_lib
from kan_jax.training import fitting
from kan_jax.training import multistart
from kan_jax.training import optimizers

GRIDS = (5, 10, 20)
DTYPES = {'float32': jnp.float32, 'float64': jnp.float64}
BLENDS = (1.0, 0.5, 0.02)  # 1 is uniform, 0 by quantiles.
SOLVERS: dict[str, fitting.FitOptions] = {
    'lm': {'optimizer': optimizers.LevenbergMarquardt(smooth=1e-14),
           'steps': 50},
    # Without a weight on the roughness, which takes intervals to be equal.
    'lm_plain': {'optimizer': optimizers.LevenbergMarquardt(), 'steps': 50},
    'lbfgs': {'optimizer': optimizers.LBFGS(), 'steps': 200},
    'adam': {'optimizer': optax.adam(3e-3), 'steps': 2000},
}


class Run(NamedTuple):
  """What one combination reached from one seed."""
  dtype: str
  solver: str
  blend: float
  rmse: float  # On the test points.
  seconds: float


def run(
    dtype: str, solver: str, blend: float, seed: int,
    grids: tuple[int, ...] = GRIDS, tries: int = 3,
    progress: bool = True) -> Run:
  """Fits the function with one combination."""
  function = scaling.FUNCTIONS['exp']
  rng = np.random.default_rng(seed)

  def sample(rows):
    x = rng.uniform(-1, 1, (rows, 2))
    return tuple(jnp.asarray(a, DTYPES[dtype])
                 for a in (x, function.fn(x)[:, None]))

  test, train = sample(1000), sample(3000)
  started = time.monotonic()
  model = linen.KAN(
      function.features, grid=grids[0], base_fn=jax.nn.identity,
      param_dtype=DTYPES[dtype], scale_base_init=jax.nn.initializers.zeros,
      noise=1.0)
  options: fitting.FitOptions = {
      **SOLVERS[solver], 'refine': grids, 'update_steps': (0, 10),
      'grid_update': grids_lib.GridUpdate(margin=0.02, eps=blend),
      'validation': test, 'progress': progress}
  history = multistart.fit_best(
      model, *train, key=jax.random.key(seed), starts=tries, **options).history
  return Run(dtype, solver, blend, float(history['validation_loss'][-1])**0.5,
             time.monotonic() - started)


def table(runs: list[Run]) -> str:
  """Returns a Markdown table: a row for each combination, over its seeds."""
  function = scaling.FUNCTIONS['exp']
  floor = function.floors[scaling.GRIDS.index(GRIDS[-1])]
  rows = []
  for names in dict.fromkeys(run[:3] for run in runs):
    group = [run for run in runs if run[:3] == names]
    errors = np.array([run.rmse for run in group])
    rows.append((
        *names, len(group), f'{np.median(errors):.1e}', f'{errors.max():.1e}',
        f'{np.median(errors) / floor:.3g}',
        f'{np.median([run.seconds for run in group]):.1f}'))
  return tables.markdown((
      'dtype', 'solver', 'blend', 'seeds', f'test RMSE at G = {GRIDS[-1]}, '
      'median', 'greatest', 'median / floor', 'seconds, median'), rows)


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  solvers = cli.choose('solvers', values.solvers, SOLVERS)
  tables.put(values.document, table([]), 3)  # Says at once if it cannot.
  runs = []
  for solver in solvers:
    for dtype in DTYPES:
      for blend in BLENDS:
        for seed in range(values.seeds):
          runs.append(run(dtype, solver, blend, seed))
          print(', '.join(f'{name} {value}' for name, value in zip(
              Run._fields, runs[-1], strict=True)), flush=True)
        tables.put(values.document, table(runs), 3)
  print(table(runs), flush=True)


if __name__ == '__main__':
  flags.DEFINE_list(
      'solvers', [], f'Which of {", ".join(SOLVERS)}; all by default.')
  cli.define_number('seeds', 3, 'Seeds, from 0 on.', low=1)
  tables.define_document()
  cli.run(main)
