"""Reads tables of numbers from CSV files, as they are written in many places.

With the csv module alone: the programs need no pandas, and a field that a
person would not read as a number must be an error here, not text or NaN.
"""

import csv
import io
import pathlib
import re
from typing import NamedTuple

import numpy as np

from experiments import cli

_LEAST = 50  # Rows; fewer hardly decide between formulas.
_SEPARATORS = {',': 'commas', ';': 'semicolons', '\t': 'tabs', '|': 'bars',
               ' ': 'spaces'}
_GUESSED = ',;\t|'  # In this order; spaces are part of many names.
_WORDS = {'tab': '\t', r'\t': '\t', 'space': ' '}
_TRIED = 10  # Rows that decide between separators.
_MISSING = frozenset(('', 'na', 'n/a', 'nan'))  # As R and pandas write it, too.
_PLAIN = frozenset('0123456789+-.eE')  # What most numbers are written with.
_WITH_COMMA = re.compile(r'[+-]?[\d.]*,\d+')
_WITH_POINT = re.compile(r'[+-]?\d*\.\d+([eE][+-]?\d+)?')
# Such as 2026-11-29, 29.11.26 and 11/29/2026 08:30.
_DATE = re.compile(r'\d{1,4}([-/.])\d{1,2}\1\d{1,4}([T ].*)?')


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
    left_out: A line on each column that is left out, and on rows.
  """
  x: np.ndarray
  y: np.ndarray
  names: tuple[str, ...]
  understood: str
  left_out: tuple[str, ...] = ()


class _Lines(NamedTuple):
  """The fields of a file, as text."""
  names: list[str]
  rows: list[tuple[int, list[str]]]  # With their line numbers.


class _Column(NamedTuple):
  """One column: its fields, their numbers, NaN where there is none."""
  name: str
  fields: list[str]
  values: np.ndarray
  missing: np.ndarray  # Which fields are empty, or say that nothing is known.


def read(
    path: pathlib.Path, target: str, form: Format = Format()) -> Table:  # noqa: B008
  """Reads a table with a line of names and then numbers.

  Left out are a first column without a name, as `DataFrame.to_csv()` writes it,
  columns of text or dates, constant ones, those that are another one again, and
  those with most fields missing; then the rows in which a field is missing.

  Args:
    path: The file.
    target: Name of the column to be explained.
    form: How fields are written.

  Raises:
    cli.UsageError: If the file cannot be read, a line has too few or too many
      fields, a column of numbers has a field that is no finite number, the
      target is constant or no number, names are missing or there twice, or
      fewer than 50 rows or no column is left.
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
  columns = [_read_column(name, [fields[k] for _, fields in rows], decimal)
             for k, name in enumerate(names)]
  columns, left_out = _with_numbers(path, columns, target)
  _refuse_text(path, columns, [line for line, _ in rows], decimal)
  table, more = _whole_rows(path, columns, [line for line, _ in rows])
  kept, again = _that_vary(path, [c.name for c in columns], table, target)
  y = table[:, [c.name for c in columns].index(target)]
  others = tuple(columns[k].name for k in kept)
  understood = (
      f'{path}: {len(table)} rows; {target} by {", ".join(others)}; fields '
      f'between {_SEPARATORS.get(separator, separator)}, decimal '
      f'{"commas" if decimal == "," else "points"}'
      + ('; the first column has no name and is left out'
         if has_index else ''))
  return Table(table[:, kept], y, others, understood,
               (*left_out, *more, *again))


def _read_column(name: str, fields: list[str], decimal: str) -> _Column:
  """Reads the numbers of a column."""
  fields = [field.strip() for field in fields]
  missing = np.array([field.lower() in _MISSING for field in fields])
  values: list[float] = []
  if decimal == '.' and not set().union(*map(set, fields)) - _PLAIN:
    try:  # Much faster than to look at each.
      values = list(map(float, fields))
    except ValueError:
      values = []
  return _Column(name, fields, np.array(
      values or [_number(field, decimal) for field in fields]), missing)


def _number(field: str, decimal: str) -> float:
  """Reads one field, NaN if it is no number.

  Unlike Python's `float`, it takes no underscores.
  """
  if decimal == ',':
    field = field.replace('.', '_').replace(',', '.')  # No point is allowed.
  if '_' in field or not field.isascii():
    return np.nan
  try:
    return float(field)
  except ValueError:
    return np.nan


def _with_numbers(
    path: pathlib.Path, columns: list[_Column],
    target: str) -> tuple[list[_Column], list[str]]:
  """Leaves out columns that hold no numbers, or hardly any."""
  kept, lines = [], []
  for column in columns:
    count, missing = len(column.fields), int(column.missing.sum())
    # Not what has digits alone: a number that is written in another way.
    words = [column.fields[k] for k in np.flatnonzero(
        np.isnan(column.values) & ~column.missing)
             if _DATE.fullmatch(column.fields[k])
             or any(map(str.isalpha, column.fields[k]))]
    what = ''
    if 2 * missing > count:
      what = f'is empty in {missing} of {count} rows'
    elif 2 * len(words) > count - missing:
      kind = 'dates' if _DATE.fullmatch(words[0]) else 'text'
      what = f'holds {kind}, such as {words[0]!r}'
    if what and column.name == target:
      raise cli.UsageError(
          f'{path}: the target {target} {what}; it needs numbers')
    if what:
      lines.append(f'{column.name} {what}: left out')
    else:
      kept.append(column)
  return kept, lines


def _refuse_text(
    path: pathlib.Path, columns: list[_Column], lines: list[int],
    decimal: str) -> None:
  """Raises an error for the first field that is no finite number."""
  for column in columns:
    bad = np.flatnonzero(~np.isfinite(column.values) & ~column.missing)
    if not len(bad):
      continue
    field = column.fields[bad[0]]
    place = f'{path}, line {lines[bad[0]]}: column {column.name}'
    if np.isnan(column.values[bad[0]]):
      raise cli.UsageError(
          f'{place} has {field!r}, which is no number with a decimal '
          f'{"comma" if decimal == "," else "point"}; code text as numbers or '
          'take the column out')
    raise cli.UsageError(f'{place} is {field}; numbers are finite')


def _whole_rows(
    path: pathlib.Path, columns: list[_Column],
    lines: list[int]) -> tuple[np.ndarray, list[str]]:
  """Returns the rows in which nothing is missing, [n, columns]."""
  missing = np.stack([column.missing for column in columns], 1)
  table = np.stack([column.values for column in columns], 1)
  gone = np.flatnonzero(missing.any(1))
  if not len(gone):
    return table, []
  where = columns[int(missing[gone[0]].argmax())].name
  text = (f'{len(gone)} of {len(table)} rows have an empty field, the first in '
          f'line {lines[gone[0]]}, column {where}')
  if len(table) - len(gone) < _LEAST:
    raise cli.UsageError(f'{path}: {text}; {_LEAST} others are needed')
  return np.delete(table, gone, 0), [f'{text}: left out']


def _that_vary(
    path: pathlib.Path, names: list[str], table: np.ndarray,
    target: str) -> tuple[list[int], list[str]]:
  """Returns the columns that can explain, without constant and equal ones."""
  kept: list[int] = []
  lines = []
  for k, name in enumerate(names):
    same = [names[j] for j in kept if np.array_equal(table[:, j], table[:, k])]
    if table[:, k].min() == table[:, k].max():
      if name == target:
        raise cli.UsageError(f'{path}: the target {target} is constant')
      lines.append(f'{name} is constant: left out')
    elif name != target and same:
      lines.append(f'{name} is the same as {same[0]}: left out')
    elif name != target:
      kept.append(k)
  if not kept:
    raise cli.UsageError(
        f'{path} has no column that explains {target}: {"; ".join(lines)}')
  return kept, lines


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
  """Returns a comma where numbers have some, and no number a point."""
  if separator == ',':
    return '.'
  def some(number):
    return any(number.fullmatch(field.strip())
               for _, fields in rows for field in fields)

  return ',' if some(_WITH_COMMA) and not some(_WITH_POINT) else '.'


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
