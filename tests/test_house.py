"""The rooms of the library and of the programs: few, and one way down."""

import graphlib
import re

from helpers import imports
import pytest

# Lowest first. Rooms of one line do not import each other.
_FLOORS = (
    ('_faces', '_progress', 'checkpoints', 'checks', 'compiling'),
    ('splines',),
    ('layers',),
    ('interop', 'plotting', 'pruning', 'training'),
    ('export', 'model_file', 'symbolic'),
    ('estimators', 'network'),
)
_FLOOR = {room: k for k, rooms in enumerate(_FLOORS) for room in rooms}


@pytest.mark.parametrize('top', ['kan_jax', 'experiments'])
def test_no_modules_import_each_other_in_a_circle(top):
  graphlib.TopologicalSorter(imports.arrows(top)).prepare()
  graphlib.TopologicalSorter(imports.rooms(top)).prepare()


def test_imports_lead_down():
  upwards = {
      f'{room} -> {other}' for room, others in imports.rooms('kan_jax').items()
      for other in others if _FLOOR[other] >= _FLOOR[room]}
  assert upwards == set()


def test_the_library_knows_no_program():
  for path in imports.modules('kan_jax').values():
    assert not re.search(r'\b(import|from) experiments\b', path.read_text())


def test_there_are_few_rooms():
  packages, files = imports.entries('kan_jax')
  assert len(packages) <= 8
  assert len(set(files) - {'__init__.py'}) <= 8
  assert sum(map(len, imports.entries('experiments'))) <= 9


def test_a_room_is_named_by_a_floor():
  packages, files = imports.entries('kan_jax')
  rooms = {*packages, *(name.removesuffix('.py') for name in files)}
  assert rooms - {'__init__'} <= _FLOOR.keys()


def test_every_module_of_the_library_has_tests():
  tests = {path.name: path.read_text()
           for path in (imports.ROOT / 'tests').rglob('test_*.py')}
  untested = []
  for module in imports.modules('kan_jax'):
    package, _, name = module.rpartition('.')
    mentions = (f'from {package} import {name}\n', f'{name}.py')
    if f'test_{name.lstrip("_")}.py' not in tests and not any(
        mention in text for text in tests.values() for mention in mentions):
      untested.append(module)
  assert untested == []


def test_test_files_have_names_of_their_own():
  """pytest takes two files of one name for the same module."""
  names = [path.name for path in (imports.ROOT / 'tests').rglob('test_*.py')]
  assert len(names) == len(set(names))
