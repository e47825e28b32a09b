"""Tables of results: what is written, and where."""

import contextlib
import io
import pathlib
import tempfile

from absl.testing import parameterized

from experiments import cli
from experiments.data import tables


def _write(text):
  with tempfile.NamedTemporaryFile(suffix='.md', delete=False) as file:
    file.write(text.encode())
  return pathlib.Path(file.name)


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

  def test_put_keeps_rows_of_more_seeds_and_says_so(self):
    header = ('name', 'seeds', 'error')
    path = _write(tables.markdown(header, [('a', 3, 0.1), ('b', 1, 0.2)]))
    new = tables.markdown(header, [('a', 1, 0.3), ('b', 1, 0.4), ('c', 1, 1)])
    with contextlib.redirect_stderr(io.StringIO()) as said:
      tables.put(str(path), new, 1)
    self.assertEqual(path.read_text().splitlines(), tables.markdown(
        header, [('a', 3, 0.1), ('b', 1, 0.4), ('c', 1, 1)]).splitlines())
    self.assertRegex(said.getvalue(), r'^\S* keeps the row a , which [^\n]*\n$')

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
