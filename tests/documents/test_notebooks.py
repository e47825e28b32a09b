"""The notebooks as they are stored; .ci/run executes them."""

import ast
import json
import pathlib
import re

from absl.testing import parameterized

_ROOT = pathlib.Path(__file__).parents[2]
_NOTEBOOKS = {path.stem: path
              for path in sorted((_ROOT / 'notebooks').glob('*.ipynb'))}
_MACHINE_PATH = re.compile(
    r'(?<![\w.])/(home|Users|root|tmp|work|opt|mnt|usr|var)/|\b[A-Z]:\\\\')


def _cells(name, kind):
  cells = json.loads(_NOTEBOOKS[name].read_text())['cells']
  return [cell for cell in cells if cell['cell_type'] == kind]


def _texts(cell):
  """What a cell says, without its pictures."""
  yield ''.join(cell['source'])
  for output in cell.get('outputs', ()):
    yield ''.join(output.get('text', ()))
    for kind, data in output.get('data', {}).items():
      if kind.startswith('text/'):
        yield ''.join(data)


class NotebooksTest(parameterized.TestCase):

  @parameterized.parameters(*_NOTEBOOKS)
  def test_ran_once_from_top_to_bottom(self, name):
    cells = _cells(name, 'code')
    self.assertEqual([cell['execution_count'] for cell in cells],
                     list(range(1, len(cells) + 1)))
    outputs = [output for cell in cells for output in cell['outputs']]
    for output in outputs:
      self.assertNotEqual(output['output_type'], 'error')
      self.assertNotEqual(output.get('name'), 'stderr', output)
    self.assertTrue(any('image/png' in output.get('data', {})
                        for output in outputs))

  @parameterized.parameters(*_NOTEBOOKS)
  def test_holds_no_path_of_a_machine(self, name):
    for cell in _cells(name, 'code') + _cells(name, 'markdown'):
      for text in _texts(cell):
        self.assertNotRegex(text, _MACHINE_PATH)

  @parameterized.parameters(*_NOTEBOOKS)
  def test_uses_public_names_alone(self, name):
    for cell in _cells(name, 'code'):
      for node in ast.walk(ast.parse(''.join(cell['source']))):
        if isinstance(node, ast.Attribute):
          self.assertFalse(node.attr.startswith('_'), node.attr)

  def test_the_page_lists_them_all(self):
    page = (_ROOT / 'docs' / 'notebooks.md').read_text()
    named = re.findall(r'`notebooks/(\w+)\.ipynb`', page)
    self.assertEqual(sorted(set(named)), list(_NOTEBOOKS))
    self.assertGreaterEqual(len(_NOTEBOOKS), 5)
