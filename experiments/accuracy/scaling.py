"""Measures how errors fall with the number of intervals.

  python -m experiments.accuracy.scaling --functions=exp,xy --seeds=3

Five functions of arXiv 2404.19756, section 3.1, each by a KAN of its own shape,
in float64, without noise. The floor is the error of that composition with each
of its functions fitted by a spline alone. Nothing is written without --workdir,
which gets the tables and a picture, or --document.
"""

from collections.abc import Callable
from collections.abc import Iterator
import pathlib
import time
from typing import Any
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from experiments import cli
from experiments.data import tables
from kan_jax.layers import linen
from kan_jax.splines import grids as grids_lib
from kan_jax.training import fitting
from kan_jax.training import multistart
from kan_jax.training import optimizers

_TEST, _TRAIN, _TRAIN_FINE, _FINE = 1000, 3000, 10_000, 200


class Function(NamedTuple):
  """A function to fit, of inputs uniform on [-1, 1].

  Attributes:
    features: Shape of its KAN.
    fn: Of inputs [n, in], the values [n].
    floors: For 5, 10, 20, 50, 100 and 200 intervals.
    published: The least test RMSE of a KAN known for it.
    curved: Whether networks start from random curves on all edges, which finds
      what is hidden in a sum; else from almost straight lines, which suits
      functions that begin linear.
    frozen: Parameters that stay as they are; see `LevenbergMarquardt`.
    starts: How many are tried.
    trial: Steps of each.
    margin: How far grids reach beyond the samples, as a part of their range.
      Where both inputs of a sum are at their ends samples are few, so that some
      test point is often further out than all of them.
    smooth: Weight of the roughness; see `LevenbergMarquardt`.
    pace: After the start, the number of steps from one entry of the history
      and from one grid update to the next, and the step where updates end.
  """
  features: tuple[int, ...]
  fn: Callable[[np.ndarray], np.ndarray]
  floors: tuple[float, ...]
  published: float
  curved: bool = True
  frozen: tuple[str, ...] = ()
  starts: int = 6
  trial: int = 30
  margin: float = 0.02
  smooth: float = 1e-14
  pace: tuple[int, int] = (5, 10)


def _deep(x: np.ndarray) -> np.ndarray:
  pairs = np.square(x).reshape(-1, 2, 2).sum(-1)
  return np.exp(np.sin(np.pi * pairs).sum(-1) / 2)


GRIDS = (5, 10, 20, 50, 100, 200)
FUNCTIONS = {
    'bessel': Function(
        (1, 1), lambda x: special.j0(20 * x[:, 0]),
        (2.8e-1, 1.9e-1, 8.1e-3, 9.0e-5, 4.8e-6, 2.8e-7), 4e-7, starts=1),
    'exp': Function(
        (2, 1, 1), lambda x: np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1]**2),
        (6.6e-3, 3.0e-4, 1.7e-5, 4.3e-7, 2.6e-8, 1.7e-9), 3.3e-8),
    'xy': Function((2, 2, 1), lambda x: x.prod(1), (0.0,) * 6, 2.4e-8,
                   curved=False, starts=8, trial=100, margin=0.1),
    'mean': Function(
        (100, 1, 1), lambda x: np.exp((np.sin(np.pi * x / 2)**2).mean(1)),
        (1.9e-4, 8.8e-6, 5.3e-7, 1.3e-8, 8.1e-10, 5.1e-11), 1.1e-4,
        # A step takes a second, and ten are enough for a grid.
        curved=False, frozen=('scale_spline',), starts=1, smooth=1e-16,
        pace=(2, 2)),
    'deep': Function(
        (4, 2, 1, 1), _deep,
        (3.3e-3, 1.5e-4, 8.2e-6, 2.1e-7, 1.3e-8, 8.0e-10), 5.1e-7, starts=16),
}


class Point(NamedTuple):
  """What one fit reached on one grid."""
  function: str
  seed: int
  grid: int
  parameters: int
  rmse: float  # On the test points.
  seconds: float  # Of the call that went through this grid and those before.


def climb(
    name: str, seed: int, grids: tuple[int, ...],
    progress: bool = True) -> Iterator[Point]:
  """Fits one function on finer and finer grids and yields what each reaches."""
  function = FUNCTIONS[name]
  rng = np.random.default_rng(seed)

  def sample(rows):
    x = rng.uniform(-1, 1, (rows, function.features[0]))
    return x, function.fn(x)[:, None]

  test, train = sample(_TEST), sample(_TRAIN)
  options: fitting.FitOptions = {
      'optimizer': optimizers.LevenbergMarquardt(
          tolerance=0.05, smooth=function.smooth, frozen=function.frozen),
      'grid_update': grids_lib.GridUpdate(margin=function.margin),
      'validation': test, 'progress': progress}
  log_every, last = function.pace
  first: fitting.FitOptions = {
      **options, 'steps': function.trial, 'log_every': 5,
      'update_steps': (0, 5)}
  finer: fitting.FitOptions = {
      **options, 'steps': 200, 'log_every': log_every,
      'update_steps': range(0, last, log_every)}
  started = time.monotonic()
  coarse = tuple(grid for grid in grids if grid < _FINE)
  fitted = multistart.fit_best(
      _model(function, coarse[0]), *train, key=jax.random.key(seed),
      starts=function.starts, **first)
  # Test points beyond all rows are best met by polynomials, but a start must
  # not lose itself there.
  model = fitted.model.clone(outside='polynomial')
  for rows, part in ((train, coarse),
                     (sample(_TRAIN_FINE), grids[len(coarse):])):
    if part:
      finer['refine'] = part
      fitted = fitting.fit(model, fitted.variables, *rows, **finer)
      model = fitted.model
      yield from _points(name, seed, fitted, time.monotonic() - started)


def _model(function: Function, grid: int) -> linen.KAN:
  """A network whose base functions splines can cancel: none is left over."""
  curves: dict[str, Any] = {
      'scale_base_init': nn.initializers.zeros, 'noise': 1.0}
  return linen.KAN(
      function.features, grid=grid, base_fn=jax.nn.identity,
      outside='linear', param_dtype=jnp.float64,
      **curves if function.curved else {})


def _points(
    name: str, seed: int, fitted: fitting.Fitted,
    seconds: float) -> Iterator[Point]:
  """What the last entry of the history says on each grid."""
  history = fitted.history
  features = np.array(FUNCTIONS[name].features)
  edges, nodes = int(features[:-1] @ features[1:]), int(features[1:].sum())
  for grid in dict.fromkeys(history['grid'].tolist()):
    loss = history['validation_loss'][history['grid'] == grid][-1]
    # Coefficients of a cubic spline and two scales an edge, and the biases.
    size = edges * (int(grid) + 3 + 2) + nodes
    yield Point(name, seed, int(grid), size, float(np.sqrt(loss)), seconds)


def table(points: list[Point]) -> str:
  """Returns a Markdown table: functions by grids, over their seeds."""
  rows = []
  for name, grid in dict.fromkeys((p.function, p.grid) for p in points):
    runs = [p for p in points if (p.function, p.grid) == (name, grid)]
    errors = np.array([run.rmse for run in runs])
    function = FUNCTIONS[name]
    floor = function.floors[GRIDS.index(grid)]
    limit = 2 * floor or 1e-12  # Rounding, where splines are exact.
    rows.append((
        f'`{name}`', grid, runs[0].parameters, len(runs),
        f'{np.median(errors):.1e}', f'{errors.max():.1e}', f'{floor:.1e}',
        f'{np.median(errors) / floor:.2f}' if floor else '–',
        (errors <= limit).sum(), f'{function.published:.1e}'))
  return tables.markdown((
      'function', 'G', 'parameters', 'seeds', 'test RMSE, median', 'greatest',
      'floor', 'median / floor', 'seeds within 2 × floor', 'published best'),
                         rows)


def times(points: list[Point]) -> str:
  """Returns a Markdown table of the seconds that all grids of a seed took."""
  rows = []
  for name in dict.fromkeys(p.function for p in points):
    last = max(p.grid for p in points if p.function == name)
    seconds = [p.seconds for p in points
               if (p.function, p.grid) == (name, last)]
    rows.append((f'`{name}`', len(seconds), last, f'{seconds[0]:.0f}',
                 f'{np.median(seconds):.0f}', f'{max(seconds):.0f}'))
  return tables.markdown((
      'function', 'seeds', 'last G',
      'seconds for all grids, first seed with compiling', 'median',
      'greatest'), rows)


def draw(points: list[Point], path: pathlib.Path) -> None:
  """Draws error against parameters, with lines that fall as their -4th power.
  """
  from matplotlib import figure  # Slow to import, and needed here alone.
  chart = figure.Figure(figsize=(7, 5), layout='constrained')
  axes = chart.subplots()
  axes.set(xscale='log', yscale='log', xlabel='parameters', ylabel='test RMSE')
  for i, name in enumerate(dict.fromkeys(p.function for p in points)):
    runs = [p for p in points if p.function == name]
    sizes = sorted({run.parameters for run in runs})
    errors = [np.median([run.rmse for run in runs if run.parameters == size])
              for size in sizes]
    axes.plot(sizes, errors, 'o-', color=f'C{i}', label=name)
    floors = FUNCTIONS[name].floors[:len(sizes)]
    if any(floors):
      axes.plot(sizes, floors, ':', color=f'C{i}', linewidth=1)
  low, high = axes.get_xlim()
  limits = axes.get_ylim()
  ends = np.array([low, high])
  for start in 10.0 ** np.arange(-6, 15, 4):
    axes.plot(ends, start * (ends / low)**-4.0, color='0.85', zorder=0)
  axes.set(xlim=(low, high), ylim=limits,
           title='dotted: floor · grey: parameters to the power of -4')
  axes.legend()
  chart.savefig(path, dpi=150)


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  names = cli.choose('functions', values.functions, FUNCTIONS)
  if values.grid not in GRIDS:
    raise cli.UsageError(
        f'--grid is one of {", ".join(map(str, GRIDS))}; got {values.grid}')
  folder = cli.new_folder(values.workdir)
  points: list[Point] = []
  for make in (table, times):
    tables.put(values.document, make([]), 1)  # Says at once if it cannot.
  for name in names:
    for seed in range(values.seeds):
      for point in climb(name, seed, GRIDS[:GRIDS.index(values.grid) + 1]):
        print(f'{name}, seed {seed}, G = {point.grid}: '
              f'RMSE {point.rmse:.1e} after {point.seconds:.0f} s', flush=True)
        points.append(point)
    tables.put(values.document, table(points), 2)
    tables.put(values.document, times(points), 1)
  text = f'{table(points)}\n\n{times(points)}\n'
  print(text, flush=True)
  if folder:
    with cli.writing(folder):
      (folder / 'table.md').write_text(text)
      tables.write(folder / 'points.csv', points)
      draw(points, folder / 'scaling.png')


if __name__ == '__main__':
  flags.DEFINE_list(
      'functions', [], f'Which of {", ".join(FUNCTIONS)}; all by default.')
  cli.define_number('seeds', 3, 'Seeds, from 0 on.', low=1)
  cli.define_number('grid', 100, f'The last of {GRIDS} intervals.', low=1)
  flags.DEFINE_string(
      'workdir', None, 'Folder for tables and picture; it must not hold '
      'anything yet. Without it nothing is written.')
  tables.define_document()
  cli.run(main)
