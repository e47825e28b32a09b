"""Finds a formula for your own table, or for a known function.

  python -m experiments.formula --task=hello
  python -m experiments.formula --csv=table.csv --target=y --workdir=runs/table

The formula is looked for by structure, and, where that does not reach the
noise, by networks; with --networks, by these alone. Of more than ten columns,
those that matter most are chosen first; of more than six for networks alone.
See kan_jax/symbolic/discovery.py. Nothing is written without --workdir, which
gets the formula as text and as LaTeX, pictures of the network before and after
its edges got functions, if there is one, and view.html, a page with all of it.
"""

from collections.abc import Callable
import html
import pathlib
import signal
import textwrap
import time
from typing import Any
from typing import NamedTuple

from absl import flags
import jax
import numpy as np
import sympy

from experiments import cli
from experiments.data import csv_files
import kan_jax
from kan_jax import symbolic
from kan_jax.estimators import estimators
from kan_jax.estimators import inputs
from kan_jax.plotting import _figures
from kan_jax.plotting import _interactive
from kan_jax.plotting import _pages
from kan_jax.plotting import edge_panels
from kan_jax.symbolic import by_structure
from kan_jax.symbolic import discovery
from kan_jax.symbolic import expressions

_EDGES = 24  # Most edges of each layer on the page.
_ROWS_TO_CHOOSE = 5000  # That decide which columns matter.
_STYLE = """
.front :is(th, td):last-child, .front :is(th, td):nth-child(3) {
  text-align: left;
}
.front .chosen { background: var(--right); }
"""
_MOST_ROWS = 25_000  # Of a table; a fifth of them only test.


class Task(NamedTuple):
  """A function to find again, of inputs uniform within a box."""
  names: tuple[str, ...]
  low: tuple[float, ...]
  high: tuple[float, ...]
  fn: Callable[..., np.ndarray]


def _lennard_jones(r: np.ndarray) -> np.ndarray:
  return 4 * (r**-12 - r**-6)


TASKS = {
    'hello': Task(('x', 'y'), (-1, -1), (1, 1),
                  lambda x, y: np.exp(np.sin(np.pi * x) + y**2)),
    'product': Task(('x', 'y'), (-1, -1), (1, 1), lambda x, y: x * y),
    'ratio': Task(('x', 'y'), (-1, 0.5), (1, 2), lambda x, y: x / y),
    'relativity': Task(('u', 'v'), (-0.9, -0.9), (0.9, 0.9),
                       lambda u, v: (u + v) / (1 + u * v)),
    'distance': Task(('x_1', 'x_2', 'y_1', 'y_2'), (-1,) * 4, (1,) * 4,
                     lambda a, b, c, d: np.hypot(a - b, c - d)),
    'lennard_jones': Task(('r',), (0.95,), (2.5,), _lennard_jones),
}


def sample(
    task: Task, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns inputs [rows, in] and targets [rows]."""
  rng = np.random.default_rng(seed)
  x = rng.uniform(task.low, task.high, (rows, len(task.names)))
  return x, task.fn(*x.T)


def report(discovered: discovery.Discovery, target: str) -> str:
  """Returns the formula to six digits, how good it is, and the others."""
  rounded = symbolic.round_digits(discovered.expression, 6)
  lines = [
      f'{target} = {rounded}', f'RMSE {discovered.error:.2e} on test rows, '
      f'{discovered.relative:.2e} of the standard deviation of {target}']
  rows = _front_rows(discovered)
  if len(rows) > 1:
    lines += ['', 'operations  relative error  formula']
    lines += [f'{size:>10}  {error:>14}  {formula}{mark}'
              for size, error, formula, mark in rows]
  return '\n'.join(lines)


def _front_rows(
    discovered: discovery.Discovery) -> list[tuple[str, str, str, str]]:
  """Returns size, error and text of the best formulas, and a mark.

  The one chosen need not be on the front: its description is the shortest, but
  a shorter one may be as good within a few per cent.
  """
  chosen = by_structure.Formula(
      discovered.expression, discovered.relative,
      int(discovered.expression.count_ops()))
  front = [*discovered.front]
  if all(formula.expression != chosen.expression for formula in front):
    front.append(chosen)
  return [
      (str(formula.operations), f'{formula.relative:.2g}',
       str(symbolic.round_digits(formula.expression, 4)),
       '  <- chosen' if formula.expression == chosen.expression else '')
      for formula in sorted(front, key=lambda formula: formula.operations)]


class Outcome(NamedTuple):
  """A formula that was found, and what it was found in.

  Attributes:
    found: The formula.
    x: Inputs, [n, in].
    y: Targets, [n].
    names: Names of the inputs.
    target: Name of the target.
    log: Lines about the search.
    settings: What the flags said.
  """
  found: discovery.Discovery
  x: np.ndarray
  y: np.ndarray
  names: tuple[str, ...]
  target: str
  log: list[str]
  settings: dict[str, Any]

  @property
  def networks(self) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Models and variables, before and after edges got functions."""
    found = self.found
    if not (found.model and found.variables and found.splines):
      return {}  # Found by structure.
    return {'splines': found.splines, 'symbols': (found.model, found.variables)}


def write(folder: pathlib.Path, outcome: Outcome) -> None:
  """Writes formula, pictures and page into a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  found, target = outcome.found, outcome.target
  lines = [report(found, target), f'{target} = {found.expression}']
  (folder / 'formula.txt').write_text('\n'.join(lines) + '\n')
  rounded = symbolic.round_digits(found.expression, 6)
  left, right = symbolic.latex(sympy.Symbol(target)), symbolic.latex(rounded)
  (folder / 'formula.tex').write_text(f'{left} = {right}\n')
  captions = {'splines': f'{target}, by splines',
              'symbols': f'{target} = {rounded}'}
  scaled, _ = outcome.found.scale.data(outcome.x, outcome.y)
  for stem, (model, variables) in outcome.networks.items():
    figure = edge_panels.plot(
        model, variables, scaled,
        names=[_figures.plain(name) for name in outcome.names],
        output_names=[_figures.plain(target)])
    text = textwrap.fill(captions[stem], 50)
    figure.text(0.5, 0, text, ha='center', va='top', parse_math=False)
    figure.savefig(folder / f'{stem}.png', dpi=150, bbox_inches='tight',
                   pad_inches=0.2)
  (folder / 'view.html').write_text(page(folder.absolute().name, outcome))


def page(title: str, outcome: Outcome) -> str:
  """Returns an HTML page with all that there is to see of an outcome."""
  found, target = outcome.found, outcome.target
  rounded = symbolic.round_digits(found.expression, 6)
  facts = {
      'RMSE on test rows': f'{found.error:.3g}',
      f'RMSE over deviation of {target}': f'{found.relative:.3g}',
      'rows': f'{len(outcome.y):,}'}
  scaled, _ = outcome.found.scale.data(outcome.x, outcome.y)
  names = _interactive.Names(outcome.names, [target])
  networks = {
      {'splines': 'Splines', 'symbols': 'Functions'}[stem]: _interactive.draw(
          *network, scaled, names, most=_EDGES, name=stem)
      for stem, network in outcome.networks.items()}
  charts = _pages.agreement_charts(outcome.y, _predict(outcome), target)
  return _pages.render(
      title, f'A formula of {target} in {", ".join(outcome.names)}', facts, [
          _pages.section('formula', 'Formula', _pages.formula_block(
              expressions.mathml(target, rounded), f'{target} = {rounded}')),
          _pages.network_section(networks) if networks else '',
          _front(found, target),
          _pages.section(
              'agreement', 'Predicted and true', _pages.charts(charts),
              'On all rows; the error above is on the fifth of them that '
              'nothing else has used.'),
          _pages.section('search', 'Search', '<pre>{}</pre>'.format(
              html.escape('\n'.join(outcome.log))))],
      outcome.settings, style=_STYLE)


def _front(found: discovery.Discovery, target: str) -> str:
  """A table of the best formula of each size; nothing if there is but one."""
  rows = _front_rows(found)
  if len(rows) < 2:
    return ''
  chosen = ' class="chosen"'
  lines = [
      f'<tr{chosen if mark else ""}>' + _pages.cells('td', [
          size, error, f'{target} = {formula}',
          'chosen' if mark else '']) + '</tr>'
      for size, error, formula, mark in rows]
  head = _pages.cells('th', ['operations', 'relative error', 'formula', ''])
  return _pages.section(
      'front', 'Shorter and longer formulas',
      f'<div class="wide"><table class="front"><tr>{head}</tr>{"".join(lines)}'
      '</table></div>', 'Each is the best of its size on the rows that decide. '
      'The one chosen has the shortest description: bits for its errors, and '
      'bits for its operations.')


def _predict(outcome: Outcome) -> dict[str, np.ndarray]:
  """Returns what the splines, if any, and the formula say of all rows, [n]."""
  predictions = {}
  if 'splines' in outcome.networks:
    model, variables = outcome.networks['splines']
    scale = outcome.found.scale
    scaled, _ = scale.data(outcome.x, outcome.y)
    predictions['splines'] = scale.output_std * np.asarray(
        model.apply(variables, scaled))[:, 0]
  formula = symbolic.lambdify(
      [outcome.found.expression], outcome.names)(outcome.x)
  return predictions | {'formula': formula[:, 0]}


def choose_rows(
    x: np.ndarray, y: np.ndarray, *, seed: int,
    log: Callable[[str], None]) -> tuple[np.ndarray, np.ndarray]:
  """Returns 25,000 rows of a longer table, and says so."""
  if len(x) <= _MOST_ROWS:
    return x, y
  log(f'{_MOST_ROWS} of {len(x)} rows, drawn at random')
  rows = np.random.default_rng(seed).permutation(len(x))[:_MOST_ROWS]
  return x[rows], y[rows]


def choose_inputs(
    x: np.ndarray, y: np.ndarray, names: tuple[str, ...], *, seed: int,
    log: Callable[[str], None],
    networks: bool = False) -> tuple[np.ndarray, tuple[str, ...]]:
  """Returns the columns that matter and their names; all, where they are few.

  A KAN with many inputs tells which these are in seconds, as in
  `KANRegressor.formula_`; the search for a formula would take minutes with all.

  Args:
    x: Inputs, [n, in].
    y: Targets, [n].
    names: Names of the inputs.
    seed: Decides the rows of a long table and the initial parameters.
    log: Takes a line before and after the choice.
    networks: Whether networks alone look for the formula, for which six columns
      are many; else, ten are.

  Raises:
    cli.RunError: If no column matters.
  """
  most, choose = ((inputs.MOST, inputs.strongest) if networks else
                  (inputs.MOST_BY_STRUCTURE, inputs.candidates))
  if len(names) <= most:
    return x, names
  log(f'looking which of the {len(names)} columns matter')
  rows = np.random.default_rng(seed).permutation(len(x))[:_ROWS_TO_CHOOSE]
  fitted = estimators.KANRegressor(random_state=seed).fit(x[rows], y[rows])
  columns = choose(fitted.feature_importances_)
  if not len(columns):
    raise cli.RunError('no column explains the target')
  chosen = tuple(names[i] for i in columns)
  log(f'{", ".join(chosen)} matter most; the others are left out')
  return x[:, columns], chosen


def _load() -> csv_files.Table:
  """Reads the table, or draws the rows of a task."""
  values = flags.FLAGS
  if bool(values.csv) == bool(values.task):
    raise cli.UsageError(
        f'--task or --csv says what to look at; allowed tasks are '
        f'{", ".join(TASKS)}')
  if values.csv:
    if not values.target:
      raise cli.UsageError('--target names the column to explain')
    return csv_files.read(
        pathlib.Path(values.csv), values.target,
        csv_files.Format(values.separator, values.decimal))
  if values.task not in TASKS:
    raise cli.UsageError(
        f'--task={values.task} is not known; allowed are {", ".join(TASKS)}')
  task = TASKS[values.task]
  return csv_files.Table(
      *sample(task, values.rows, values.seed), task.names,
      f'{values.task}: {values.rows} rows; f by {", ".join(task.names)}')


def _settings() -> dict[str, Any]:
  """Returns what the flags say, and the versions."""
  names = ['csv', 'target', 'separator', 'decimal', 'networks', 'seed']
  if flags.FLAGS.task:
    names = ['task', 'rows', 'networks', 'seed']
  given = {name: getattr(flags.FLAGS, name) for name in names}
  return {name: value for name, value in given.items() if value is not None} | {
      'kan_jax': kan_jax.__version__, 'jax': jax.__version__}


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  target = flags.FLAGS.target if flags.FLAGS.csv else 'f'
  table = _load()
  folder = cli.new_folder(flags.FLAGS.workdir)
  started = time.monotonic()

  lines: list[str] = []

  def log(line):
    lines.append(f'{time.monotonic() - started:5.1f} s  {line}')
    print(lines[-1], flush=True)

  for line in (table.understood, *table.left_out):
    log(line)
  seed, networks = flags.FLAGS.seed, flags.FLAGS.networks
  try:
    x, y = choose_rows(table.x, table.y, seed=seed, log=log)
    x, names = choose_inputs(
        x, y, table.names, seed=seed, log=log, networks=networks)
    discovered = discovery.discover(
        x, y, key=jax.random.key(seed), names=names, log=log,
        shapes=discovery.default_shapes(len(names)) if networks else None)
  except KeyboardInterrupt as error:
    raise cli.InterruptedRunError(
        'interrupted; there is no formula yet', signal.SIGINT) from error
  except ValueError as error:
    raise cli.RunError(str(error)) from error
  print(report(discovered, target), flush=True)
  if folder:
    with cli.writing(folder):
      write(folder, Outcome(
          discovered, x, y, names, target, lines, _settings()))
    print(f'{folder / "view.html"}: open it in a browser')


if __name__ == '__main__':
  flags.DEFINE_string('task', None, f'One of {", ".join(TASKS)}.')
  flags.DEFINE_string(
      'csv', None, 'A table with a line of names and then numbers.')
  flags.DEFINE_string(
      'separator', None, 'What stands between fields of --csv: a character, '
      'tab or space. By default, the one of , ; tab | that splits it evenly.')
  flags.DEFINE_string(
      'decimal', None, 'The decimal sign in --csv, a point or a comma. By '
      'default a comma, where fields have some and no field has a point.')
  flags.DEFINE_string(
      'target', None, 'The column of --csv to explain by the others.')
  cli.define_number(
      'rows', 2000, 'Rows of a --task.', low=50, high=1_000_000)
  cli.define_seed(
      'Decides the rows of a task, the order of the rows and the initial '
      'parameters.')
  flags.DEFINE_bool(
      'networks', False, 'Whether only networks are tried; --workdir then gets '
      'pictures of them.')
  flags.DEFINE_string(
      'workdir', None, 'Folder for formula and pictures; it must not hold '
      'anything yet. Without it nothing is written.')
  cli.run(main)
