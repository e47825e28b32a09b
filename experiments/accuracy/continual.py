"""Learns five peaks one after another, without forgetting any.

  python -m experiments.accuracy.continual

A spline changes where its samples are and nowhere else (arXiv 2404.19756,
section 3.5). The peaks are exp(-300 (x - c)^2); each phase sees the samples of
one of them. Base function, scales and bias would move the whole curve, so they
are left out or frozen. Nothing is written without --document.
"""

import time
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import interpolate

from experiments import cli
from experiments.data import tables
from kan_jax.layers import linen
from kan_jax.training import fitting
from kan_jax.training import optimizers

CENTRES = (-0.8, -0.4, 0.0, 0.4, 0.8)
_REACH = 0.2  # Of a phase to both sides of its peak.


class Phase(NamedTuple):
  """How the curve stands after a phase."""
  order: int  # Degree of the spline.
  number: int  # From 1 on.
  rmse: float  # On all phases so far.
  best: float  # What the best spline has on all five.
  moved: float  # Largest change of the curve on the phases before.
  seconds: float


def peaks(x: np.ndarray) -> np.ndarray:
  """Returns the sum of the five peaks."""
  return np.exp(-300 * np.square(x[..., None] - np.array(CENTRES))).sum(-1)


def best(order: int, grid: int) -> float:
  """Returns the RMSE of the best spline for all peaks, without noise or model.
  """
  breaks = np.linspace(-1, 1, grid + 1)
  knots = np.pad(breaks, order, mode='edge')
  x = np.linspace(-1, 1, 100 * grid)
  spline = interpolate.make_lsq_spline(x, peaks(x), knots, order)
  return float(np.sqrt(np.square(spline(x) - peaks(x)).mean()))


def learn(
    seed: int, order: int = 3, rows: int = 10_000, grid: int = 200,
    progress: bool = True) -> list[Phase]:
  """Learns one peak after another and looks at all of them after each."""
  rng = np.random.default_rng(seed)
  model = linen.KAN([1, 1], grid=grid, order=order, bias=False, noise=0.0,
                     scale_base_init=nn.initializers.zeros,
                     param_dtype=jnp.float64)
  variables = jax.jit(model.init)(jax.random.key(seed), np.zeros((1, 1)))
  least = best(order, grid)
  phases: list[Phase] = []
  for number, centre in enumerate(CENTRES, 1):
    started = time.monotonic()
    x = rng.uniform(centre - _REACH, centre + _REACH, (rows, 1))
    fitted = fitting.fit(
        model, variables, x, peaks(x), steps=20, update_steps=(),
        optimizer=optimizers.LevenbergMarquardt(
            frozen=('scale_base', 'scale_spline')),
        progress=progress)
    seen = np.linspace(CENTRES[0] - _REACH, centre + _REACH, 4001)[:, None]
    outputs, before = (np.asarray(model.apply(v, seen))
                       for v in (fitted.variables, variables))
    old = seen < centre - _REACH
    phases.append(Phase(
        order, number, float(np.sqrt(np.square(outputs - peaks(seen)).mean())),
        least, float(np.abs(outputs - before)[old].max(initial=0)),
        time.monotonic() - started))
    variables = fitted.variables
  return phases


def table(phases: list[Phase]) -> str:
  """Returns a Markdown table: a row for each phase."""
  return tables.markdown((
      'order', 'phase', 'test RMSE, all peaks so far', 'best spline', 'ratio',
      'largest change of the old', 'seconds'), (
          (phase.order, phase.number, f'{phase.rmse:.2e}', f'{phase.best:.2e}',
           f'{phase.rmse / phase.best:.2f}', f'{phase.moved:.1e}',
           f'{phase.seconds:.1f}') for phase in phases))


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  tables.put(values.document, table([]), 2)  # Says at once if it cannot.
  phases: list[Phase] = []
  for order in map(int, cli.choose('orders', values.orders, '35')):
    phases += learn(values.seed, order)
  print(table(phases), flush=True)
  tables.put(values.document, table(phases), 2)


if __name__ == '__main__':
  flags.DEFINE_list('orders', ['3', '5'], 'Degrees of the spline: 3, 5.')
  cli.define_seed('Decides the samples.')
  tables.define_document()
  cli.run(main)
