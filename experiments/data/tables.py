"""Writes tables of results: CSV files, or Markdown for terminal and documents.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import csv
import pathlib
import sys
from typing import Any

from absl import flags

from experiments import cli

# The flag --document belongs to the program that asks for it.
flags.disclaim_key_flags()


def write(path: pathlib.Path, rows: Sequence[Any]) -> None:
  """Writes named tuples of one kind, at least one, below a line of names."""
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(rows[0]._fields)
    writer.writerows(rows)


def markdown(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
  """Returns a Markdown table, a line for the header and for each row."""
  lines = [header, ['---'] * len(header), *rows]
  return '\n'.join(f'| {" | ".join(map(str, line))} |' for line in lines)


def define_document() -> None:
  """Defines the flag --document, which `put` takes."""
  flags.DEFINE_string(
      'document', None, 'Markdown file that holds this table: its rows are '
      'replaced by those of this run, and new ones added; a row of more seeds '
      'stays. No other line changes.')


def put(name: str | None, table: str, keys: int) -> None:
  """Replaces rows of a table in a Markdown file, or adds them.

  Where the table has a column of seeds, a row of more seeds than the new one
  stays, and a line on stderr says so.

  Args:
    name: The file; without one, nothing is done.
    table: Made by `markdown`. The table in the file has the same header.
    keys: Rows are the same where their first so many cells are.

  Raises:
    cli.UsageError: If the file cannot be read or written, or does not hold the
      header just once.
  """
  if not name:
    return
  path = pathlib.Path(name)
  header, _, *rows = table.splitlines()
  try:
    lines = path.read_text().splitlines()
    if lines.count(header) != 1:
      raise cli.UsageError(
          f'--document={name} needs a table with the header {header} once; it '
          f'has it {lines.count(header)} times')
    start = lines.index(header) + 2
    stop = start
    while stop < len(lines) and lines[stop].startswith('|'):
      stop += 1
    lines[start:stop], kept = _merge(header, lines[start:stop], rows, keys)
    path.write_text('\n'.join(lines) + '\n')
  except (OSError, UnicodeDecodeError) as error:
    raise cli.UsageError(
        f'--document={name} cannot be used: {error}') from error
  for row in kept:
    print(f'--document={name} keeps the row{"|".join(row)}, which is of more '
          'seeds than this run; delete it there to replace it', file=sys.stderr)


def _merge(
    header: str, old: list[str], new: list[str],
    keys: int) -> tuple[list[str], list[tuple[str, ...]]]:
  """Returns the rows of both, and the keys of those that stay for their seeds.
  """
  def key(row):
    return tuple(row.split('|')[1:keys + 1])

  names = [name.strip() for name in header.split('|')]

  def seeds(row):
    cells = row.split('|')
    number = cells[names.index('seeds')].strip() if (
        'seeds' in names and len(cells) == len(names)) else ''
    return int(number) if number.isdecimal() else 0

  merged = {key(row): row for row in old}
  kept = [key(row) for row in new
          if seeds(row) < seeds(merged.get(key(row), ''))]
  return list((merged | {
      key(row): row for row in new if key(row) not in kept}).values()), kept
