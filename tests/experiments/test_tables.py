"""Tables: read as they are, or an error that says where; and written."""

import pathlib
import tempfile

from absl.testing import parameterized
import numpy as np

from experiments import cli
from experiments.data import tables

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


class ReadTest(parameterized.TestCase):

  @parameterized.parameters(
      ('y', (0, 1), ('a', 'b')), ('a', (1, 2), ('b', 'y')))
  def test_columns(self, target, columns, names):
    x, y, found = tables.read(_table(), target)
    self.assertEqual(found, names)
    np.testing.assert_array_equal(x, _ROWS[:, columns])
    np.testing.assert_array_equal(y, np.delete(_ROWS, columns, 1)[:, 0])

  def test_byte_order_mark_and_empty_lines(self):
    path = _table()
    text = path.read_text()
    x, _, names = tables.read(
        _write(text + '\n\n', encoding='utf-8-sig'), 'y')
    self.assertEqual((len(x), names), (60, ('a', 'b')))

  @parameterized.parameters(
      (_put(3, 1, ''), 'line 5: column b is empty'),
      (_put(3, 1, 'red'), "line 5: column b has 'red'"),
      (_put(0, 0, 'nan'), 'line 2: column a is nan'),
      (_put(0, 2, '1e999'), 'line 2: column y is 1e999'),
      (lambda rows: rows[9].append('1'), 'line 11: 4 fields for 3 columns'),
      (lambda rows: [row.__setitem__(0, '7') for row in rows],
       'constant columns: a'),
      (lambda rows: rows.__delitem__(slice(20, None)), 'it has 3 and 20'))
  def test_what_is_wrong(self, change, message):
    with self.assertRaisesRegex(cli.UsageError, message):
      tables.read(_table(change), 'y')

  @parameterized.parameters(
      ('a,b', '3 fields for 2 columns'), ('a,a,y', 'another name'),
      ('a,,y', 'another name'),
      ('a,b,z', '--target=y is no column.*a, b, z'))
  def test_names(self, names, message):
    with self.assertRaisesRegex(cli.UsageError, message):
      tables.read(_table(names=names), 'y')

  @parameterized.parameters(
      (b'', 'got nothing'), (b'\xff\xfe\x00', 'cannot be read'))
  def test_no_table(self, content, message):
    path = _write('')
    path.write_bytes(content)
    with self.assertRaisesRegex(cli.UsageError, message):
      tables.read(path, 'y')

  def test_no_file(self):
    with self.assertRaisesRegex(cli.UsageError, '--csv=.*nowhere.csv.*No such'):
      tables.read(pathlib.Path('nowhere.csv'), 'y')


_TABLE = tables.markdown(('name', 'n'), [('a', 1), ('b', 2)])


class MarkdownTest(parameterized.TestCase):

  def test_markdown(self):
    self.assertEqual(
        _TABLE, '| name | n |\n| --- | --- |\n| a | 1 |\n| b | 2 |')

  def test_put_replaces_and_adds_rows(self):
    path = _write(f'# Title\n\n{_TABLE}\n\nThe end.\n')
    new = tables.markdown(('name', 'n'), [('b', 3), ('c', 4)])
    tables.put(str(path), new, 1)
    merged = tables.markdown(('name', 'n'), [('a', 1), ('b', 3), ('c', 4)])
    self.assertEqual(path.read_text(), f'# Title\n\n{merged}\n\nThe end.\n')

  def test_put_without_rows_changes_nothing(self):
    path = _write(f'{_TABLE}\n')
    tables.put(str(path), tables.markdown(('name', 'n'), []), 1)
    self.assertEqual(path.read_text(), f'{_TABLE}\n')

  @parameterized.parameters(
      ('no table', '0 times'), (f'{_TABLE}\n\n{_TABLE}', '2 times'))
  def test_put_needs_one_table(self, text, message):
    path = _write(text)
    with self.assertRaisesRegex(cli.UsageError, message):
      tables.put(str(path), _TABLE, 1)
    self.assertEqual(path.read_text(), text)

  def test_put_without_a_file(self):
    with self.assertRaisesRegex(cli.UsageError, '--document=nowhere.md'):
      tables.put('nowhere.md', _TABLE, 1)
