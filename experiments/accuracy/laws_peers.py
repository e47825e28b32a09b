"""Compares how many laws this library and three others find.

  python -m experiments.accuracy.laws_peers --file=laws.txt --noise=0.01

All get the same rows and the same time, and the judge of `laws` decides. pykan
has no limit of time: what it took is in the table. The others need the extra
`laws`: `pip install -e '.[laws]'`.
"""

import time
from typing import NamedTuple

from absl import flags
import jax
import numpy as np

from experiments import cli
from experiments.accuracy import law_file
from experiments.accuracy import laws
from experiments.accuracy import other_searches
from experiments.data import tables
from kan_jax import symbolic

_NEAR = 0.01  # Relative error of a formula that is near, found or not.


class Entry(NamedTuple):
  """What one library made of one law."""
  library: str
  noise: float
  result: laws.Result


def attempt(
    library: str, law: law_file.Law, rows: int, noise: float, seconds: float,
    seed: int, threads: int = 2) -> Entry:
  """Looks for one law; what goes wrong is written in place of a formula.

  Raises:
    ImportError: If the library is not installed.
  """
  x, y, names = laws.rows_of(law, rows, noise, 0, seed)
  started = time.monotonic()
  try:
    expression = other_searches.SEARCHES[library](
        other_searches.Rows(x, y, names, seconds, seed, threads))
    took = time.monotonic() - started
    found, error, size, of_law = laws.judge(law, expression, names, noise)
    shown = str(symbolic.round_digits(expression, 4))
  except ImportError:
    raise
  except Exception as problem:  # Other libraries fail in their own ways.
    found, error, size, of_law = False, np.inf, 0, 0
    took = time.monotonic() - started
    shown = f'{type(problem).__name__}: {problem}'.partition('\n')[0]
  return Entry(library, noise, laws.Result(
      law.name, seed, found, error, size, of_law, took, shown))


def counts(entries: list[Entry]) -> str:
  """Returns a Markdown table, a row for each library and noise."""
  rows = []
  for key in dict.fromkeys((e.library, e.noise) for e in entries):
    results = [e.result for e in entries if (e.library, e.noise) == key]
    rows.append((
        *key, f'{sum(r.found for r in results)} of {len(results)}',
        sum(r.error <= _NEAR for r in results),
        f'{np.median([r.seconds for r in results]):.1f}'))
  return tables.markdown(
      ('library', 'noise', 'found', f'error <= {_NEAR}', 'seconds, median'),
      rows)


def details(entries: list[Entry]) -> str:
  """Returns a Markdown table, a row for each attempt."""
  return tables.markdown(
      ('library', 'noise', 'law', 'found', 'error', 'operations', 'of the law',
       'seconds', 'formula'),
      [(e.library, e.noise, r.law, 'yes' if r.found else 'no',
        f'{r.error:.1e}', r.operations, r.of_law, f'{r.seconds:.1f}',
        f'`{r.expression.replace("|", "¦")[:200]}`')
       for e in entries for r in [e.result]])


def main() -> None:
  """Runs what the flags say."""
  cli.compile_quickly()
  jax.config.update('jax_enable_x64', True)
  values = flags.FLAGS
  libraries = cli.choose('peers', values.peers, other_searches.SEARCHES)
  chosen = laws.load(values.file, values.only)[::values.every]
  entries: list[Entry] = []
  tables.put(values.document, counts([]), 2)  # Says at once if it cannot.
  for library in libraries:
    for law in chosen:
      try:
        entry = attempt(library, law, values.rows, values.noise,
                        values.seconds, values.seed, values.threads)
      except ImportError as error:
        print(f"{library} is left out: {error}; pip install -e '.[laws]'",
              flush=True)
        break
      entries.append(entry)
      print(f'{library}, {law.name}: '
            f'{"found" if entry.result.found else "not found"} after '
            f'{entry.result.seconds:.1f} s, error {entry.result.error:.1e}: '
            f'{entry.result.expression}', flush=True)
  tables.put(values.document, counts(entries), 2)
  print(f'\n{details(entries)}\n\n{counts(entries)}', flush=True)


if __name__ == '__main__':
  flags.DEFINE_string('file', None, 'Laws, one a line; as for laws.')
  flags.DEFINE_list('only', [], 'Names of laws; all by default.')
  cli.define_number('every', 1, 'Every so many of these laws.', low=1)
  flags.DEFINE_list(
      'peers', [], f'Some of {", ".join(other_searches.SEARCHES)}; all by '
      'default.')
  cli.define_number('rows', 2000, 'Rows of each table.', low=50)
  cli.define_number(
      'noise', 0.0, 'Noise, in deviations of the target.', low=0)
  cli.define_number('seconds', 20.0, 'Time for each law.', above=0)
  cli.define_number(
      'threads', 2, 'Threads of a library that can use several.', low=1)
  cli.define_seed('Decides the rows and what is random in a search.')
  tables.define_document()
  cli.run(main)
