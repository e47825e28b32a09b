"""Times a network: this library, four others, an MLP and a floor.

  python -m experiments.speed.bench --shapes=2,4 --contenders=kan_jax,floor

Each shape is timed forward, and forward and backward, in float32; all
contenders take turns. `frozen` is this library's form for inference alone. The
floor is the time of the matrix products alone, over the expanded input:
outputs, gradient of the weights, gradient of the input. The other libraries are
in the extra `bench`; one that is not installed is left out. Nothing is written
without --workdir, which gets the table, all medians and a picture.
"""

from collections.abc import Callable
from collections.abc import Iterator
import json
import pathlib
import time
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

from absl import flags
import numpy as np

from experiments import cli
from experiments.speed import peers

if TYPE_CHECKING:
  from matplotlib import axes as mpl_axes

SHAPES = (
    peers.Shape((16, 20, 10), 128, 5), peers.Shape((784, 64, 10), 128, 5),
    peers.Shape((784, 64, 10), 1024, 5), peers.Shape((100, 100), 1024, 5),
    peers.Shape((256, 256, 256), 256, 5), peers.Shape((100, 100), 1024, 50),
    peers.Shape((2, 5, 1), 1000, 5), peers.Shape((2, 5, 1), 1000, 50),
    peers.Shape((2, 5, 1), 1000, 200), peers.Shape((2, 5, 1), 1000, 1000))
_PAUSE = 0.02  # Seconds for the threads of one library to leave the cores.
_TURN = 0.05  # Seconds that a contender has before the next one's turn.
_RATIOS: dict[str, tuple[str, tuple[str, ...]]] = {
    'kan_jax / best peer': ('kan_jax', peers.PEERS),
    'frozen / best peer': ('frozen', peers.PEERS),
    'kan_jax / floor': ('kan_jax', ('floor',))}
# Libraries have marks in colour, what is no KAN has black ones.
_MARKS: dict[str, dict[str, Any]] = {
    'frozen': {'color': 'C0', 'marker': '*', 'markersize': 9},
    'pykan': {'color': 'C1', 'marker': 's'},
    'jaxkan': {'color': 'C2', 'marker': '^'},
    'inkan': {'color': 'C3', 'marker': 'o'},
    'flashkan': {'color': 'C4', 'marker': 'D'},
    'mlp': {'color': 'k', 'marker': 'x'},
    'floor': {'color': 'k', 'marker': '|', 'markersize': 14}}


class Timing(NamedTuple):
  """Milliseconds of one contender on one shape.

  Attributes:
    shape: The shape, as text.
    contender: Its name.
    passes: 'forward' or 'forward + backward'.
    median: Median over all calls.
    low: Lower quartile.
    high: Upper quartile.
    calls: Number of calls.
  """
  shape: str
  contender: str
  passes: str
  median: float
  low: float
  high: float
  calls: int


# The flag --shapes belongs to the program that asks for it.
flags.disclaim_key_flags()

PASSES = ('forward', 'forward + backward')


def prepare(shape: peers.Shape, names: list[str]) -> dict[
    str, peers.Contender]:
  """Builds and warms up the contenders; says who is missing."""
  rng = np.random.default_rng(0)
  x = rng.uniform(-1, 1, (shape.batch, shape.features[0])).astype(np.float32)
  weight = rng.normal(size=(shape.batch, shape.features[-1])).astype(np.float32)
  contenders = {}
  for name in names:
    start = time.perf_counter()
    try:
      contender = peers.CONTENDERS[name](shape, x, weight)
      for run in filter(None, contender):
        run()
        run()
    except ImportError as error:
      print(f'{name} is left out: {error}', flush=True)
      continue
    print(f'{shape}: {name} is ready after '
          f'{time.perf_counter() - start:.1f} s', flush=True)
    contenders[name] = contender
  return contenders


def measure(
    shape: peers.Shape, names: list[str], budget: float) -> Iterator[Timing]:
  """Times all contenders in turn until the budget, in seconds, is spent.

  Nothing is yielded where none of them is there.
  """
  runs = [(name, passes, run)
          for name, contender in prepare(shape, names).items()
          for passes, run in zip(PASSES, contender, strict=True) if run]
  taken = in_turns([run for _, _, run in runs], budget) if runs else []
  for (name, passes, _), times in zip(runs, taken, strict=True):
    low, median, high = np.quantile(times, (0.25, 0.5, 0.75)) * 1e3
    yield Timing(str(shape), name, passes, median, low, high, len(times))


def in_turns(
    runs: list[Callable[[], Any]], budget: float) -> list[list[float]]:
  """Returns seconds of many calls of each function, within a budget or more."""
  taken: list[list[float]] = [[] for _ in runs]
  end = time.perf_counter() + budget
  while time.perf_counter() < end or len(taken[0]) < 3:
    for run, times in zip(runs, taken, strict=True):
      time.sleep(_PAUSE)
      run()  # Fills the caches anew.
      stop = time.perf_counter() + _TURN
      times.append(peers.seconds(run))
      while time.perf_counter() < stop:
        times.append(peers.seconds(run))
  return taken


def table(timings: list[Timing]) -> str:
  """Returns a Markdown table: shapes and passes by contenders."""
  names = list(dict.fromkeys(t.contender for t in timings))
  lines = [
      '| shape | pass | ' + ' | '.join([*names, *_RATIOS]) + ' |',
      '|---' * (len(names) + len(_RATIOS) + 2) + '|']
  for shape, passes in dict.fromkeys((t.shape, t.passes) for t in timings):
    row = {t.contender: t for t in timings
           if (t.shape, t.passes) == (shape, passes)}
    cells = [_cell(row[name]) if name in row else '–' for name in names]
    ratios = [_ratio(row, *quotient) for quotient in _RATIOS.values()]
    lines.append(f'| {shape} | {passes} | ' + ' | '.join(cells + ratios) + ' |')
  return '\n'.join(lines)


def _cell(timing: Timing) -> str:
  return f'{timing.median:.3g} ({timing.low:.3g}–{timing.high:.3g})'


def _ratio(
    row: dict[str, Timing], above: str, below: tuple[str, ...]) -> str:
  """A contender's median over the least of some others."""
  others = [row[name].median for name in below if name in row]
  if above not in row or not others:
    return '–'
  return f'{row[above].median / min(others):.2f}'


def draw(timings: list[Timing], path: pathlib.Path) -> None:
  """Draws how long each contender takes, in times that kan_jax takes."""
  from matplotlib import figure

  shapes = list(dict.fromkeys(t.shape for t in timings))
  picture = figure.Figure(
      figsize=(10, 1.6 + 0.42 * len(shapes)), layout='constrained')
  panels = picture.subplots(1, len(PASSES), sharey=True, squeeze=False)[0]
  for axes, passes in zip(panels, PASSES, strict=True):
    _draw_passes(axes, shapes, [t for t in timings if t.passes == passes])
    axes.set_title(passes)
  panels[0].set_yticks(range(len(shapes)), shapes)
  panels[0].invert_yaxis()
  picture.legend(
      *panels[0].get_legend_handles_labels(), loc='outside lower center',
      ncols=8, frameon=False)
  picture.savefig(path, dpi=120)


def _draw_passes(
    axes: 'mpl_axes.Axes', shapes: list[str], timings: list[Timing]) -> None:
  """Draws a row of marks for each shape, kan_jax being a line at 1."""
  own = {t.shape: t.median for t in timings if t.contender == 'kan_jax'}
  axes.axvline(1, color='C0', lw=3, label='kan_jax')
  for name in dict.fromkeys(t.contender for t in timings):
    marks = [(t.median / own[t.shape], shapes.index(t.shape))
             for t in timings if t.contender == name and t.shape in own]
    if name != 'kan_jax' and marks:
      axes.plot(*zip(*marks, strict=True), **_MARKS[name], ls='', label=name)
  axes.set_xscale('log')
  axes.xaxis.set_major_formatter('{x:g}')
  axes.set_xlabel('times as long as kan_jax')
  axes.grid(alpha=0.3)
  axes.spines[['top', 'right']].set_visible(False)


def define_shapes() -> None:
  """Defines the flag --shapes, which `shapes_of` takes."""
  flags.DEFINE_list(
      'shapes', [], 'Numbers of the shapes, all by default: ' + '; '.join(
          f'{i + 1} is {shape}' for i, shape in enumerate(SHAPES)))


def shapes_of(numbers: list[str]) -> list[peers.Shape]:
  """Returns the shapes of these numbers, or all without any.

  Raises:
    cli.UsageError: If there is no such shape.
  """
  known = {str(i + 1): shape for i, shape in enumerate(SHAPES)}
  if not set(numbers) <= known.keys():
    raise cli.UsageError(
        f'--shapes takes numbers from 1 to {len(SHAPES)}; got '
        f'{",".join(numbers)}')
  return [known[number] for number in numbers] or list(SHAPES)


def main() -> None:
  """Runs what the flags say."""
  names = cli.choose(
      'contenders', flags.FLAGS.contenders, peers.CONTENDERS)
  shapes = shapes_of(flags.FLAGS.shapes)
  folder = cli.new_folder(flags.FLAGS.workdir)
  timings: list[Timing] = []
  for shape in shapes:
    measured = list(measure(shape, names, flags.FLAGS.seconds))
    print(table(measured), flush=True)
    timings += measured
  print(table(timings), flush=True)
  if folder:
    with cli.writing(folder):
      (folder / 'table.md').write_text(table(timings) + '\n')
      (folder / 'timings.json').write_text(
          json.dumps([t._asdict() for t in timings], indent=1) + '\n')
      draw(timings, folder / 'bench.png')


if __name__ == '__main__':
  define_shapes()
  flags.DEFINE_list(
      'contenders', [],
      f'Which of {", ".join(peers.CONTENDERS)}; all by default.')
  cli.define_number(
      'seconds', 10.0, 'Time for the measurements of one shape, in which all '
      'contenders take turns; to compile takes longer.', low=0)
  flags.DEFINE_string(
      'workdir', None, 'Folder for table, timings and picture; it must not '
      'hold anything yet. Without it nothing is written.')
  cli.run(main)
