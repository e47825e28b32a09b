"""Which messages devices exchange: read from the text of a compiled program."""

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
         'collective-permute')

_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.-]+) .*\{$')
_COLLECTIVE = re.compile(rf' = (.*?) ({"|".join(KINDS)})(-start)?\(')
_CALLED = re.compile(
    r'(?:to_apply|body|condition|calls|true_computation|false_computation)='
    r'%?([\w.-]+)|branch_computations=\{([^}]*)\}')
_TRIPS = re.compile(r'known_trip_count[^0-9]*(\d+)')
_ARRAY = re.compile(r'\b([a-z]+)(\d*)\w*\[([\d,]*)\]')


class Collective(NamedTuple):
  """An exchange between devices.

  Attributes:
    kind: One of `KINDS`.
    shapes: Shapes of the arrays of its result on one device.
    size: Bytes of that result.
    times: Number of times in one run of the program. A loop with an unknown
      number of rounds counts as one round.
  """
  kind: str
  shapes: tuple[tuple[int, ...], ...]
  size: int
  times: int


def find(text: str) -> list[Collective]:
  """Returns the collectives of a program.

  Args:
    text: `jax.jit(...).lower(...).compile().as_text()`.
  """
  computations, entry = _split(text)
  return list(_walk(computations, entry, 1))


def has_loops(text: str) -> bool:
  """Whether a loop has more than one round as far as the program says."""
  return any(int(trips) > 1 for trips in _TRIPS.findall(text))


def _split(text: str) -> tuple[dict[str, list[str]], str]:
  """Returns the lines of each computation by name, and the name of the first.
  """
  computations: dict[str, list[str]] = {}
  lines: list[str] = []
  entry = ''
  for line in text.splitlines():
    if (start := _COMPUTATION.match(line)) and not line.startswith('HloModule'):
      lines = computations.setdefault(start[2], [])
      entry = start[2] if start[1] else entry
    else:
      lines.append(line)
  return computations, entry


def _walk(
    computations: dict[str, list[str]], name: str,
    times: int) -> Iterator[Collective]:
  for line in computations.get(name, ()):
    if collective := _COLLECTIVE.search(line):
      shapes, size = _arrays(collective[1])
      yield Collective(collective[2], shapes, size, times)
      continue
    trips = _TRIPS.search(line) if ' while(' in line else None
    for name, names in _CALLED.findall(line):
      for called in [name] if name else re.findall(r'[\w.-]+', names):
        yield from _walk(
            computations, called, times * (int(trips[1]) if trips else 1))


def _arrays(text: str) -> tuple[tuple[tuple[int, ...], ...], int]:
  """Reads shapes like f32[4,8]{1,0}: each, and their bytes in all."""
  shapes, size = [], 0
  for kind, bits, axes in _ARRAY.findall(text):
    shape = tuple(int(axis) for axis in axes.split(',') if axis)
    shapes.append(shape)
    bytes_each = 1 if kind == 'pred' else max(int(bits or 8) // 8, 1)
    size += bytes_each * math.prod(shape)
  return tuple(shapes), size
