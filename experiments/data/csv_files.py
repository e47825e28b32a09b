"""Reads tables of numbers from CSV files, as they are written in many places.

With the csv module alone: the programs need no pandas, and a field that a
person would not read as a number must be an error here, not text or NaN.
"""

import csv
import io
import pathlib
from typing import NamedTuple

import numpy as np

from experiments import cli

_LEAST = 50  # Rows; fewer hardly decide between formulas.
_SEPARATORS = {',': 'commas', ';': 'semicolons', '\t': 'tabs', '|': 'bars',
               ' ': 'spaces'}
_GUESSED = ',;\t|'  # In this order; spaces are part of many names.
_WORDS = {'tab': '\t', r'\t': '\t', 'space': ' '}
_TRIED = 10  # Rows that decide between separators.


class Format(NamedTuple):
  """How the fields of a file are written; None where the file is to tell.

  Attributes:
    separator: One character between fields, or 'tab' or 'space'.
    decimal: '.' or ','.
  """
  separator: str | None = None
  decimal: str | None = None


class Table(NamedTuple):
  """What a file holds.

  Attributes:
    x: The columns that explain, [n, in].
    y: The column to be explained, [n].
    names: The names of the columns that explain.
    understood: How the file was read, in one line.
  """
  x: np.ndarray
  y: np.ndarray
  names: tuple[str, ...]
  understood: str


class _Lines(NamedTuple):
  """The fields of a file, as text."""
  names: list[str]
  rows: list[tuple[int, list[str]]]  # With their line numbers.


def read(
    path: pathlib.Path, target: str, form: Format = Format()) -> Table:  # noqa: B008
  """Reads a table with a line of names and then numbers.

  A first column without a name, as `DataFrame.to_csv()` writes it, counts the
  rows and is left out.

  Args:
    path: The file.
    target: Name of the column to be explained.
    form: How fields are written.

  Raises:
    cli.UsageError: If the file cannot be read, a line has too few or too many
      fields, a field is missing or is no finite number, a column is constant,
      names are missing or there twice, or there are fewer than 50 rows.
  """
  lines, separator = _split(path, form.separator)
  lines, has_index = _without_index(path, lines)
  names, rows = lines
  if target not in names:
    raise cli.UsageError(
        f'--target={target} is no column of {path}; it has {", ".join(names)} '
        f'between {_SEPARATORS.get(separator, separator)}')
  if len(names) < 2 or len(rows) < _LEAST:
    raise cli.UsageError(
        f'{path} needs 2 columns and {_LEAST} rows at least; it has '
        f'{len(names)} and {len(rows)}')
  decimal = form.decimal or _guess_decimal(separator, rows)
  if decimal == separator or decimal not in ('.', ','):
    raise cli.UsageError(
        f'--decimal={decimal} is not possible; it is . or , and differs from '
        f'--separator={separator}')
  table = np.array([
      [_number(path, line, name, field, decimal)
       for name, field in zip(names, fields, strict=True)]
      for line, fields in rows])
  constant = [name for name, column in zip(names, table.T, strict=True)
              if column.min() == column.max()]
  if constant:
    raise cli.UsageError(
        f'{path} has constant columns: {", ".join(constant)}; take them out')
  column = names.index(target)
  others = names[:column] + names[column + 1:]
  understood = (
      f'{path}: {len(rows)} rows; {target} by {", ".join(others)}; fields '
      f'between {_SEPARATORS.get(separator, separator)}, decimal '
      f'{"commas" if decimal == "," else "points"}'
      + ('; the first column has no name and is left out'
         if has_index else ''))
  return Table(np.delete(table, column, 1), table[:, column], tuple(others),
               understood)


def _split(
    path: pathlib.Path, separator: str | None) -> tuple[_Lines, str]:
  """Returns the fields of a file, and the separator."""
  separator = _WORDS.get(separator, separator) if separator else None
  if separator and (len(separator) != 1 or separator in '"\r\n'):
    raise cli.UsageError(
        f'--separator={separator} is not possible; it is one character, tab '
        'or space')
  try:
    text = path.read_text(encoding='utf-8-sig')
    separator = separator or _guess_separator(text)
    reader = csv.reader(
        io.StringIO(text, newline=''), delimiter=separator,
        skipinitialspace=separator == ' ')
    names = [name.strip() for name in next(reader, [])]
    rows = [(reader.line_num, fields) for fields in reader if fields]
  except (OSError, UnicodeDecodeError, csv.Error) as error:
    raise cli.UsageError(f'--csv={path} cannot be read: {error}') from error
  for line, fields in rows:
    if len(fields) != len(names):
      raise cli.UsageError(
          f'{path}, line {line}: {len(fields)} fields for {len(names)} columns '
          f'between {_SEPARATORS.get(separator, separator)}; --separator names '
          'another character')
  return _Lines(names, rows), separator


def _guess_separator(text: str) -> str:
  """Returns what splits the first lines most evenly, and the first the most."""
  lines = [line for line in text.splitlines()[:_TRIED + 1] if line.strip()]

  def score(separator):
    count, *others = (
        [len(fields) for fields in csv.reader(lines, delimiter=separator)]
        or [0])
    even = sum(other == count for other in others)
    return (count > 1) * even, count

  return max(_GUESSED, key=score)  # The first one of equals.


def _guess_decimal(
    separator: str, rows: list[tuple[int, list[str]]]) -> str:
  """Returns a comma where fields have some, and no field a point."""
  if separator == ',':
    return '.'
  has_comma = any(',' in field for _, fields in rows for field in fields)
  has_point = any('.' in field for _, fields in rows for field in fields)
  return ',' if has_comma and not has_point else '.'


def _without_index(
    path: pathlib.Path, lines: _Lines) -> tuple[_Lines, bool]:
  """Leaves out a first column without a name; says whether there is one."""
  has_index = len(lines.names) > 1 and not lines.names[0]
  if has_index:
    lines = _Lines(lines.names[1:],
                   [(line, fields[1:]) for line, fields in lines.rows])
  names = lines.names
  if not (names and all(names)) or len(set(names)) < len(names):
    raise cli.UsageError(
        f'{path} needs another name for each column in its first line; got '
        f'{", ".join(names) or "nothing"}')
  return lines, has_index


def _number(
    path: pathlib.Path, line: int, name: str, field: str,
    decimal: str) -> float:
  """Reads one field; unlike Python's `float`, it takes no underscores."""
  field = field.strip()
  place = f'{path}, line {line}: column {name}'
  if not field:
    raise cli.UsageError(f'{place} is empty; fill it or take the line out')
  number = field
  if decimal == ',':
    number = field.replace('.', '_').replace(',', '.')  # No point is allowed.
  try:
    if '_' in number or not number.isascii():
      raise ValueError('not written as a number')
    value = float(number)
  except ValueError as error:
    raise cli.UsageError(
        f'{place} has {field!r}, which is no number with a decimal '
        f'{"comma" if decimal == "," else "point"}; code text as numbers or '
        'take the column out') from error
  if not np.isfinite(value):
    raise cli.UsageError(f'{place} is {field}; numbers are finite')
  return value
