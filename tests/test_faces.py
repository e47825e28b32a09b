"""Packages hand out their names, and say what to install where they cannot."""

import importlib
import sys

import pytest

_INIT = '''
from kan_jax import _faces
__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
  """A package with a function that needs matplotlib, and one that is broken."""
  folder = tmp_path / 'painting'
  folder.mkdir()
  for name, text in {
      '__init__.py': _INIT,
      '__init__.pyi': ('from .drawing import draw\nfrom .lost import find\n'
                       'from .numbers import one\n'),
      'drawing.py': 'from matplotlib import figure\ndraw = figure.Figure\n',
      'lost.py': 'import nothing_of_this_name\n',
      'numbers.py': 'one = 1\n'}.items():
    (folder / name).write_text(text)
  monkeypatch.syspath_prepend(tmp_path)
  yield importlib.import_module('painting')
  for name in [n for n in sys.modules if n.partition('.')[0] == 'painting']:
    del sys.modules[name]


def test_names(package):
  assert package.one == 1
  assert sorted(package.__all__) == ['draw', 'find', 'one']


def test_what_to_install(package, monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(ModuleNotFoundError, match=(
      r'^painting\.draw needs matplotlib, which is not installed; .*'
      r"pip install -e '\.\[plot\]'")):
    _ = package.draw


def test_other_missing_modules_keep_their_message(package):
  with pytest.raises(
      ModuleNotFoundError, match=r"^No module named 'nothing_of_this_name'$"):
    _ = package.find
