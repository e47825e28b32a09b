"""Every name of the library that documents use is there after one import."""

import functools
import json
import re
import subprocess
import sys

from helpers import pages
import pytest

_NAME = re.compile(r'(?<![\w./-])kan_jax((?:\.[A-Za-z_]\w*)+)')
_FROM = re.compile(r'^from (kan_jax[\w.]*) import (.+)$', re.MULTILINE)
_PATHS = sorted([
    *pages.ROOT.glob('*.md'), *(pages.ROOT / 'docs').rglob('*.md'),
    *(pages.ROOT / 'notebooks').glob('*.ipynb')])

# Resolves names in a new interpreter, where nothing was imported before.
_RESOLVE = '''
import functools, sys
import kan_jax
for name in sys.stdin.read().split():
  try:
    functools.reduce(getattr, name.split('.')[1:], kan_jax)
  except AttributeError as error:
    print(name, error)
'''


def _text(path):
  if path.suffix != '.ipynb':
    return path.read_text()
  cells = json.loads(path.read_text())['cells']
  return '\n'.join(''.join(cell['source']) for cell in cells)


@functools.cache
def _names():
  """The dotted names of all documents, with where they stand."""
  names = {}
  for path in _PATHS:
    text = _text(path)
    dotted = {f'kan_jax{rest}' for rest in _NAME.findall(text)}
    for module, imported in _FROM.findall(text):
      dotted |= {f'{module}.{name.strip()}' for name in imported.split(',')}
    for name in dotted:
      names.setdefault(name, path.name)
  return names


def test_every_name_is_there_after_import_kan_jax():
  names = _names()
  assert len(names) > 40  # The documents are read at all.
  done = subprocess.run(
      [sys.executable, '-c', _RESOLVE], input='\n'.join(names), text=True,
      capture_output=True, check=True, cwd=pages.ROOT, timeout=200)
  missing = {line.split()[0]: names[line.split()[0]]
             for line in done.stdout.splitlines()}
  assert missing == {}


@pytest.mark.parametrize('package', [
    'estimators', 'interop', 'layers', 'nnx', 'plotting', 'pruning',
    'splines', 'symbolic', 'training'])
def test_a_room_hands_out_what_its_face_lists(package):
  import kan_jax
  room = getattr(kan_jax, package)
  assert room.__all__ == sorted(room.__all__)
  assert set(room.__all__) <= set(dir(room))
  for name in room.__all__:
    assert getattr(room, name) is not None


def test_importing_imports_nothing_optional():
  code = ("import sys, kan_jax; "
          "print(sorted({'jax', 'flax', 'matplotlib', 'sympy', 'sklearn', "
          "'onnx', 'orbax', 'grain', 'safetensors', 'tqdm', 'scipy'} "
          "& set(sys.modules)))")
  done = subprocess.run(
      [sys.executable, '-c', code], capture_output=True, text=True, check=True,
      cwd=pages.ROOT)
  assert done.stdout.strip() == '[]'
