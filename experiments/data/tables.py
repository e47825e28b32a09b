"""Tables: numbers in CSV files to read, checked, and results to write.

Results go to CSV files, or as Markdown to a terminal and to documents.
"""

from collections.abc import Iterable
from collections.abc import Sequence
import csv
import pathlib
from typing import Any

from absl import flags
import numpy as np

from experiments import cli

_LEAST = 50  # Rows; fewer hardly decide between formulas.


def read(
    path: pathlib.Path, target: str) -> tuple[
        np.ndarray, np.ndarray, tuple[str, ...]]:
  """Reads a table with a line of names and then numbers, comma-separated.

  Args:
    path: The file.
    target: Name of the column to be explained.

  Returns:
    The other columns [n, in], the target [n], and the names of the others.

  Raises:
    cli.UsageError: If the file cannot be read, a line has too few or too many
      fields, a field is missing or is no finite number, a column is constant,
      names are missing or there twice, or there are fewer than 50 rows.
  """
  names, lines = _lines(path)
  if target not in names:
    raise cli.UsageError(
        f'--target={target} is no column of {path}; it has {", ".join(names)}')
  if len(names) < 2 or len(lines) < _LEAST:
    raise cli.UsageError(
        f'{path} needs 2 columns and {_LEAST} rows at least; it has '
        f'{len(names)} and {len(lines)}')
  table = np.array([
      [_number(path, row, name, field)
       for name, field in zip(names, fields, strict=True)]
      for row, fields in lines])
  constant = [name for name, column in zip(names, table.T, strict=True)
              if column.min() == column.max()]
  if constant:
    raise cli.UsageError(
        f'{path} has constant columns: {", ".join(constant)}; take them out')
  at = names.index(target)
  return (np.delete(table, at, 1), table[:, at],
          tuple(names[:at] + names[at + 1:]))


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
      'replaced by those of this run, and new ones added. No other line '
      'changes.')


def put(name: str | None, table: str, keys: int) -> None:
  """Replaces rows of a table in a Markdown file, or adds them.

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
    lines[start:stop] = {
        tuple(row.split('|')[1:keys + 1]): row
        for row in lines[start:stop] + rows}.values()
    path.write_text('\n'.join(lines) + '\n')
  except (OSError, UnicodeDecodeError) as error:
    raise cli.UsageError(
        f'--document={name} cannot be used: {error}') from error


def _lines(path: pathlib.Path) -> tuple[
    list[str], list[tuple[int, list[str]]]]:
  """Returns the names and the other lines with their numbers in the file."""
  try:
    with path.open(newline='', encoding='utf-8-sig') as file:
      reader = csv.reader(file)
      names = [name.strip() for name in next(reader, [])]
      lines = [(reader.line_num, fields) for fields in reader if fields]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise cli.UsageError(f'--csv={path} cannot be read: {error}') from error
  if not (names and all(names)) or len(set(names)) < len(names):
    raise cli.UsageError(
        f'{path} needs another name for each column in its first line; got '
        f'{", ".join(names) or "nothing"}')
  for row, fields in lines:
    if len(fields) != len(names):
      raise cli.UsageError(
          f'{path}, line {row}: {len(fields)} fields for {len(names)} columns')
  return names, lines


def _number(path: pathlib.Path, row: int, name: str, field: str) -> float:
  field = field.strip()
  if not field:
    raise cli.UsageError(
        f'{path}, line {row}: column {name} is empty; fill it or take the '
        'line out')
  try:
    value = float(field)
  except ValueError as error:
    raise cli.UsageError(
        f'{path}, line {row}: column {name} has {field!r}, which is no number; '
        'code text as numbers or take the column out') from error
  if not np.isfinite(value):
    raise cli.UsageError(
        f'{path}, line {row}: column {name} is {field}; numbers are finite')
  return value
