"""Counts the laws of physics that `discover` finds from a table.

  python -m experiments.accuracy.laws --file=laws.txt --seeds=1

A line of the file is a law: name | formula | variable low high ; ...
Variables are uniform within their ranges. A law is found if its relative error
on 5,000 new rows without noise is at most 1e-6, or 1e-3 where there was noise,
and the formula has at most three times as many operations as the law. Without
--file, some laws of our own are looked for.
"""

import pathlib
import time
from typing import NamedTuple

from absl import flags
import jax
import numpy as np
import sympy

from experiments import cli
from experiments.accuracy import law_file
from experiments.data import tables
from kan_jax import symbolic

_TEST = 5000
_EXACT, _NOISY = 1e-6, 1e-3  # Relative errors of a law that is found.
_LONGER = 3  # Times as many operations as the law.
OWN = """
spring | -k*x | k 1 4 ; x -2 2
pendulum | 2*pi*sqrt(l/g) | l 1 4 ; g 2 10
damping | a*exp(-0.3*t/tau) | a 1 3 ; t 0 4 ; tau 1 2
lens | 1/(1/f-1/g) | f 1 2 ; g 3 6
far | m/((x-a)**2+(y-b)**2) | m 1 2 ; x 3 4 ; a 1 2 ; y 3 4 ; b 1 2
gas | n*r*t/(v-b) | n 1 3 ; r 1 3 ; t 1 3 ; v 4 6 ; b 1 2
"""


class Result(NamedTuple):
  """What came of one law with one seed."""
  law: str
  seed: int
  found: bool
  error: float  # Relative, on new rows without noise.
  operations: int
  of_law: int
  seconds: float
  expression: str


def rows_of(
    law: law_file.Law, rows: int, noise: float, dummies: int,
    seed: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
  """Returns a table: inputs, targets, and the names of the inputs.

  Args:
    law: The law.
    rows: Number of rows.
    noise: Deviation of the noise over the deviation of the target.
    dummies: Number of columns that do not matter, uniform on [1, 5].
    seed: Decides the rows.
  """
  rng = np.random.default_rng(seed)
  x, y = law.sample(rows, rng)
  y = y + noise * y.std() * rng.normal(size=rows)
  x = np.concatenate([x, rng.uniform(1, 5, (rows, dummies))], 1)
  return x, y, [*law.ranges, *(f'dummy_{i}' for i in range(dummies))]


def judge(
    law: law_file.Law, expression: sympy.Expr, names: list[str],
    noise: float) -> tuple[bool, float, int, int]:
  """Returns whether a law is found, the error, and both sizes."""
  rng = np.random.default_rng(2**31)
  x, y = law.sample(_TEST, rng)
  extra = rng.uniform(1, 5, (_TEST, len(names) - x.shape[1]))
  values = symbolic.lambdify([expression], names)(
      np.concatenate([x, extra], 1))[:, 0]
  error = float(np.sqrt(np.mean((values - y)**2)) / y.std())
  size, of_law = expression.count_ops(), law.expression.count_ops()
  found = error <= (_NOISY if noise else _EXACT) and size <= _LONGER * of_law
  return bool(found), error, int(size), int(of_law)


def attempt(
    law: law_file.Law, seed: int, rows: int, noise: float, dummies: int,
    seconds: float) -> Result:
  """Looks for one law; what goes wrong is written in place of a formula."""
  started = time.monotonic()
  try:
    x, y, names = rows_of(law, rows, noise, dummies, seed)
    discovered = symbolic.discover(
        x, y, key=jax.random.key(seed), names=names, time_limit=seconds)
    took = time.monotonic() - started
    found, error, size, of_law = judge(
        law, discovered.expression, names, noise)
    shown = str(symbolic.round_digits(discovered.expression, 6))
    return Result(law.name, seed, found, error, size, of_law, took, shown)
  except (ArithmeticError, ValueError, TypeError, np.linalg.LinAlgError,
          MemoryError) as problem:
    took = time.monotonic() - started
    return Result(law.name, seed, False, np.inf, 0, 0, took,
                  f'{type(problem).__name__}: {problem}'.partition('\n')[0])


def table(results: list[Result], noise: float, dummies: int) -> str:
  """Returns a Markdown table, a row for each law.

  The header says what the runs had in common, so that a document may hold a
  table of each kind. Of several seeds, a row has the greatest error, the mean
  time, and the formula of the first that was not found, or of the first.
  """
  kind = [f'noise {noise:g}'] * (noise > 0) + [f'{dummies} dummies'] * (
      dummies > 0)
  rows = []
  for law in dict.fromkeys(result.law for result in results):
    some = [result for result in results if result.law == law]
    shown = next((r for r in some if not r.found), some[0])
    rows.append((
        law, f'{sum(r.found for r in some)} of {len(some)}',
        f'{max(r.error for r in some):.1e}',
        f'{np.mean([r.seconds for r in some]):.1f}',
        f'`{shown.expression.replace("|", "¦")}`'))
  return tables.markdown(
      ('law', ', '.join(['found', *kind]), 'error', 'seconds', 'formula'), rows)


def load(file: str | None, only: list[str]) -> list[law_file.Law]:
  """Returns the laws that the flags --file and --only ask for.

  Raises:
    cli.UsageError: If the file cannot be read, or a name is not known.
  """
  text = OWN
  if file:
    try:
      text = pathlib.Path(file).read_text()
    except OSError as error:
      raise cli.UsageError(f'--file={file} cannot be read') from error
  try:
    laws = law_file.parse(text)
  except ValueError as error:
    raise cli.UsageError(str(error)) from error
  chosen = cli.choose('only', only, [law.name for law in laws])
  return [law for law in laws if law.name in chosen]


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  kind = values.noise, values.dummies
  results: list[Result] = []
  tables.put(values.document, table([], *kind), 1)  # Says if it cannot.
  for law in load(values.file, values.only):
    for seed in range(values.seeds):
      result = attempt(law, seed, values.rows, *kind, values.seconds)
      results.append(result)
      print(f'{law.name}, seed {seed}: '
            f'{"found" if result.found else "not found"} after '
            f'{result.seconds:.1f} s, error {result.error:.1e}: '
            f'{result.expression}', flush=True)
    tables.put(values.document, table(results, *kind), 1)
  count = sum(result.found for result in results)
  print(f'\n{table(results, *kind)}\n\nfound {count} of {len(results)}',
        flush=True)


if __name__ == '__main__':
  flags.DEFINE_string('file', None, 'Laws, one a line; our own by default.')
  flags.DEFINE_list('only', [], 'Names of laws; all by default.')
  cli.define_number('rows', 2000, 'Rows of each table.', low=50)
  cli.define_number(
      'noise', 0.0, 'Noise, in deviations of the target.', low=0)
  cli.define_number('dummies', 0, 'Columns that do not matter.', low=0)
  cli.define_number('seeds', 1, 'Seeds, from 0 on.', low=1)
  cli.define_number('seconds', 120.0, 'Time for each law.', above=0)
  tables.define_document()
  cli.run(main)
