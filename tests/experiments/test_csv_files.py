"""Tables are read as a person would read them, or an error says where not."""

import pathlib
import tempfile

from absl.testing import parameterized
import numpy as np
import pandas as pd

from experiments import cli
from experiments.data import csv_files

_ROWS = np.random.default_rng(0).normal(size=(60, 3)).round(3)


def _write(text, encoding='utf-8'):
  with tempfile.NamedTemporaryFile(suffix='.csv', delete=False) as file:
    file.write(text.encode(encoding))
  return pathlib.Path(file.name)


def _table(change=lambda rows: None, names='a, b,y'):
  rows = [[str(value) for value in row] for row in _ROWS]
  change(rows)
  return _write('\n'.join([names, *(','.join(row) for row in rows)]) + '\n')


def _put(row, column, text):
  return lambda rows: rows[row].__setitem__(column, text)


def _fill(column, text):
  """Puts a text that may name the row into a whole column."""
  return lambda rows: [row.__setitem__(column, text.format(i))
                       for i, row in enumerate(rows)]


class ReadTest(parameterized.TestCase):

  @parameterized.parameters(
      ('y', (0, 1), ('a', 'b')), ('a', (1, 2), ('b', 'y')))
  def test_columns(self, target, columns, names):
    x, y, found, _, left_out = csv_files.read(_table(), target)
    self.assertEqual(left_out, ())
    self.assertEqual(found, names)
    np.testing.assert_array_equal(x, _ROWS[:, columns])
    np.testing.assert_array_equal(y, np.delete(_ROWS, columns, 1)[:, 0])

  def test_byte_order_mark_and_empty_lines(self):
    path = _table()
    text = path.read_text()
    x, _, names, *_ = csv_files.read(
        _write(text + '\n\n', encoding='utf-8-sig'), 'y')
    self.assertEqual((len(x), names), (60, ('a', 'b')))

  @parameterized.parameters(
      (_put(3, 1, 'red'), "line 5: column b has 'red'"),
      (_put(0, 2, '1e999'), 'line 2: column y is 1e999'),
      (lambda rows: rows[9].append('1'), 'line 11: 4 fields for 3 columns'),
      (_fill(2, '7'), 'target y is constant'),
      (_fill(2, 'red'), "target y holds text, such as 'red'"),
      (_fill(2, ''), 'target y is empty in 60 of 60 rows'),
      (lambda rows: [_fill(k, '7')(rows) for k in (0, 1)],
       'no column that explains y: a is constant.*b is constant'),
      (lambda rows: [_put(i, 0, '')(rows) for i in range(7, 27)],
       '20 of 60 rows have an empty field, the first in line 9, column a; 50'),
      (lambda rows: rows.__delitem__(slice(20, None)), 'it has 3 and 20'))
  def test_what_is_wrong(self, change, message):
    with self.assertRaisesRegex(cli.UsageError, message):
      csv_files.read(_table(change), 'y')

  @parameterized.parameters(
      (_fill(0, 'city {}'), "a holds text, such as 'city 0': left out"),
      (_fill(0, '2026-11-{}'), "a holds dates, such as '2026-11-0': left out"),
      (_fill(0, '{}.1.26 08:30'), 'a holds dates.*: left out'),
      (_fill(0, '7'), 'a is constant: left out'),
      (_fill(0, 'NA'), 'a is empty in 60 of 60 rows: left out'),
      (lambda rows: [row.__setitem__(0, row[1]) for row in rows],
       'b is the same as a: left out'))
  def test_columns_that_are_left_out(self, change, line):
    x, y, names, understood, left_out = csv_files.read(_table(change), 'y')
    self.assertRegex(*left_out, line)
    self.assertLen(left_out, 1)
    self.assertLen(names, 1)
    self.assertIn(f'y by {names[0]};', understood)
    np.testing.assert_array_equal(x[:, 0], _ROWS[:, 1])
    np.testing.assert_array_equal(y, _ROWS[:, 2])

  @parameterized.parameters('', 'NA', 'nan', 'N/A')
  def test_rows_that_are_left_out(self, text):
    def change(rows):
      _put(3, 1, text)(rows)
      _put(9, 2, text)(rows)

    x, y, *_, left_out = csv_files.read(_table(change), 'y')
    self.assertEqual(left_out, (
        '2 of 60 rows have an empty field, the first in line 5, column b: left '
        'out',))
    np.testing.assert_array_equal(
        np.column_stack([x, y]), np.delete(_ROWS, [3, 9], 0))

  def test_points_of_dates_are_no_decimal_points(self):
    table = pd.DataFrame(_ROWS, columns=['a', 'b', 'y'])
    table.insert(0, 'day', [f'{i % 28 + 1}.11.2026' for i in range(60)])
    path = _write(table.to_csv(index=False, sep=';', decimal=','))
    x, *_, left_out = csv_files.read(path, 'y')
    self.assertLen(left_out, 1)
    np.testing.assert_array_equal(x, _ROWS[:, :2])

  @parameterized.parameters(
      ('a,b', '3 fields for 2 columns'), ('a,a,y', 'another name'),
      ('a,,y', 'another name'),
      ('a,b,z', '--target=y is no column.*a, b, z'))
  def test_names(self, names, message):
    with self.assertRaisesRegex(cli.UsageError, message):
      csv_files.read(_table(names=names), 'y')

  @parameterized.parameters(
      (b'', 'got nothing'), (b'\xff\xfe\x00', 'cannot be read'))
  def test_no_table(self, content, message):
    path = _write('')
    path.write_bytes(content)
    with self.assertRaisesRegex(cli.UsageError, message):
      csv_files.read(path, 'y')

  def test_no_file(self):
    with self.assertRaisesRegex(cli.UsageError, '--csv=.*nowhere.csv.*No such'):
      csv_files.read(pathlib.Path('nowhere.csv'), 'y')

  @parameterized.parameters('2000_01', '1_0', '１２', '0x10', 'None', '1,5')
  def test_what_python_or_pandas_would_read(self, text):
    """As a number, though a person would not."""
    path = _write(_table().read_text().replace(
        str(_ROWS[3, 1]), f'"{text}"', 1))
    with self.assertRaisesRegex(
        cli.UsageError,
        f"line 5: column b has '{text}', which is no number with a decimal po"):
      csv_files.read(path, 'y')

  @parameterized.product(
      separator=(';', '\t', '|'), decimal=('.', ','),
      said=(False, True))
  def test_other_separators_and_decimals(self, separator, decimal, said):
    """As pandas writes them, guessed or said; with commas within names."""
    table = pd.DataFrame(_ROWS, columns=['a, b', 'c', 'y'])
    path = _write(table.to_csv(index=False, sep=separator, decimal=decimal))
    form = csv_files.Format(
        separator.replace('\t', 'tab'), decimal) if said else (
            csv_files.Format())
    x, y, names, understood, _ = csv_files.read(path, 'y', form)
    np.testing.assert_array_equal(x, _ROWS[:, :2])
    np.testing.assert_array_equal(y, _ROWS[:, 2])
    self.assertEqual(names, ('a, b', 'c'))
    kind = {';': 'semicolons', '\t': 'tabs', '|': 'bars'}[separator]
    self.assertEndsWith(
        understood, f': 60 rows; y by a, b, c; fields between {kind}, decimal '
        f'{"commas" if decimal == "," else "points"}')

  @parameterized.parameters(list(range(60)), [f'day {i}' for i in range(60)])
  def test_the_index_of_pandas_is_left_out(self, *index):
    table = pd.DataFrame(_ROWS, index=index, columns=['a', 'b', 'y'])
    x, _, names, understood, _ = csv_files.read(
        _write(table.to_csv()), 'y')
    np.testing.assert_array_equal(x, _ROWS[:, :2])
    self.assertEqual(names, ('a', 'b'))
    self.assertEndsWith(
        understood, '; the first column has no name and is left out')

  def test_spaces(self):
    lines = ['a b y', *('  '.join(map(str, row)) for row in _ROWS)]
    x, *_ = csv_files.read(
        _write('\n'.join(lines)), 'y', csv_files.Format('space'))
    np.testing.assert_array_equal(x, _ROWS[:, :2])

  @parameterized.parameters(
      ('::', None, '--separator=:: is not possible'),
      ('"', None, '--separator=" is not possible'),
      (',', ',', '--decimal=, is not possible; .*differs from --separator=,'),
      (None, 'x', '--decimal=x is not possible'),
      (';', None, '--target=y is no column of .*between semicolons'))
  def test_formats_that_cannot_be(self, separator, decimal, message):
    with self.assertRaisesRegex(cli.UsageError, message):
      csv_files.read(
          _table(), 'y', csv_files.Format(separator, decimal))

  def test_thousands_are_no_numbers(self):
    text = 'a;y\n' + ''.join(f'1.{i:03},5;{i},5\n' for i in range(60))
    with self.assertRaisesRegex(cli.UsageError, "has '1.000,5', which is no n"):
      csv_files.read(_write(text), 'y')
