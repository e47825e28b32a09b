"""Reads what imports what: `python tests/helpers/imports.py` prints figures.

A room is a package or a single file directly below `kan_jax` or `experiments`.
"""

import ast
from collections.abc import Iterator
import graphlib
import pathlib

ROOT = pathlib.Path(__file__).parents[2]


def modules(top: str) -> dict[str, pathlib.Path]:
  """Returns the files of a package by dotted name, without the faces.

  An `__init__` that only hands out names is left out: nothing is imported
  through it before it is used.
  """
  return {
      '.'.join(path.relative_to(ROOT).with_suffix('').parts): path
      for path in sorted((ROOT / top).rglob('*.py'))
      if path.name != '__init__.py'}


def arrows(top: str) -> dict[str, set[str]]:
  """Returns for each module of a package which others of it it imports.

  Imports within functions count as well.
  """
  known = modules(top)
  return {name: {target for target in _targets(path) if target in known}
          for name, path in known.items()}


def _targets(path: pathlib.Path) -> Iterator[str]:
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and node.module:
      yield node.module
      for alias in node.names:
        yield f'{node.module}.{alias.name}'
    elif isinstance(node, ast.Import):
      for alias in node.names:
        yield alias.name


def room(module: str) -> str:
  """Returns the room of a module: the second part of its name."""
  return module.split('.')[1]


def rooms(top: str) -> dict[str, set[str]]:
  """Returns for each room of a package which others it imports."""
  found: dict[str, set[str]] = {}
  for module, targets in arrows(top).items():
    others = found.setdefault(room(module), set())
    others.update({room(target) for target in targets} - {room(module)})
  return found


def floors(top: str) -> list[list[str]]:
  """Returns the rooms of a package, those that import nothing of it first.

  Raises:
    graphlib.CycleError: If rooms import each other in a circle.
  """
  order = graphlib.TopologicalSorter(rooms(top))
  order.prepare()
  levels = []
  while order.is_active():
    ready = sorted(order.get_ready())
    order.done(*ready)
    levels.append(ready)
  return levels


def entries(top: str) -> tuple[list[str], list[str]]:
  """Returns the packages and the single files directly below a package."""
  packages = sorted(
      path.name for path in (ROOT / top).iterdir()
      if path.is_dir() and path.name != '__pycache__')
  files = sorted(
      path.name for path in (ROOT / top).glob('*.py'))
  return packages, files


def main() -> None:
  """Prints the figures of both packages."""
  for top in ('kan_jax', 'experiments'):
    packages, files = entries(top)
    inside = arrows(top)
    graphlib.TopologicalSorter(inside).prepare()  # Raises for a circle.
    print(f'{top}: {len(packages)} packages, {len(files)} single files with '
          f'__init__; {len(inside)} modules, '
          f'{sum(map(len, inside.values()))} imports among them, no circle')
    for level in reversed(floors(top)):
      print('  ' + '  '.join(level))


if __name__ == '__main__':
  main()
