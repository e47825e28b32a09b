"""Five peaks, learned one after another without forgetting those before.

  python -m experiments.continual

A spline changes where its samples are and nowhere else (arXiv 2404.19756,
section 3.5). The peaks are exp(-300 (x - c)^2); each phase sees the samples of
one of them. Base function, scales and bias would move the whole curve, so they
are left out or frozen.
"""

import time
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from kan_jax import fitting
from kan_jax import layers

CENTRES = (-0.8, -0.4, 0.0, 0.4, 0.8)
_REACH = 0.2  # Of a phase to both sides of its peak.


class Phase(NamedTuple):
  """How the curve stands after a phase."""
  rmse: float  # On all phases so far.
  moved: float  # Largest change of the curve on the phases before.
  seconds: float


def peaks(x: np.ndarray) -> np.ndarray:
  """Returns the sum of the five peaks."""
  return np.exp(-300 * np.square(x[..., None] - np.array(CENTRES))).sum(-1)


def learn(
    seed: int, rows: int = 1000, grid: int = 200,
    progress: bool = True) -> list[Phase]:
  """Learns one peak after another and looks at all of them after each."""
  rng = np.random.default_rng(seed)
  model = layers.KAN([1, 1], grid=grid, bias=False, noise=0.0,
                     scale_base_init=nn.initializers.zeros,
                     param_dtype=jnp.float64)
  variables = jax.jit(model.init)(jax.random.key(seed), np.zeros((1, 1)))
  phases: list[Phase] = []
  for centre in CENTRES:
    started = time.monotonic()
    x = rng.uniform(centre - _REACH, centre + _REACH, (rows, 1))
    found = fitting.fit(
        model, variables, x, peaks(x), optimizer='lm', steps=20,
        stop_grid_update=0, frozen=('scale_base', 'scale_spline'),
        progress=progress)
    seen = np.linspace(CENTRES[0] - _REACH, centre + _REACH, 4001)[:, None]
    outputs, before = (np.asarray(model.apply(v, seen))
                       for v in (found.variables, variables))
    old = seen < centre - _REACH
    phases.append(Phase(
        float(np.sqrt(np.square(outputs - peaks(seen)).mean())),
        float(np.abs(outputs - before)[old].max(initial=0)),
        time.monotonic() - started))
    variables = found.variables
  return phases


def table(phases: list[Phase]) -> str:
  """Returns a Markdown table: a row for each phase."""
  lines = ['| phase | test RMSE, all peaks so far | largest change of the old '
           '| seconds |', '|---|---|---|---|']
  lines += [f'| {i} | {phase.rmse:.1e} | {phase.moved:.1e} '
            f'| {phase.seconds:.1f} |' for i, phase in enumerate(phases, 1)]
  return '\n'.join(lines)


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  print(table(learn(flags.FLAGS.seed)), flush=True)


if __name__ == '__main__':
  flags.DEFINE_integer('seed', 0, 'Decides the samples.', lower_bound=0)
  cli.run(main)
