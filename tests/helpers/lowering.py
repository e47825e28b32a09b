"""What programs are for accelerators, read without having one.

A program is traced once and lowered for each platform, not compiled. The text
is StableHLO, https://openxla.org/stablehlo/spec.
"""

import collections
from collections.abc import Callable
import re
from typing import Any

import jax

PLATFORMS = ('cuda', 'tpu')

_PRODUCT = re.compile(r'stablehlo\.(?:dot_general|dot|convolution)\b')
_CALL = re.compile(r'stablehlo\.custom_call @"?([\w.$]+)')
_CONSTANT = re.compile(r'(%\S+) = stablehlo\.constant dense<(\d+)> : tensor<i')


def lower(fn: Callable[..., Any], *args: Any) -> dict[str, str]:
  """Returns the text of `fn(*args)` for each platform.

  Args:
    fn: A function, jitted or not.
    *args: Arrays, or `jax.ShapeDtypeStruct` in their place.
  """
  traced = (fn if hasattr(fn, 'trace') else jax.jit(fn)).trace(*args)
  return {platform: traced.lower(lowering_platforms=(platform,)).as_text()
          for platform in PLATFORMS}


def products(text: str) -> collections.Counter[str]:
  """Counts matrix products and convolutions by their precision."""
  found: collections.Counter[str] = collections.Counter()
  for line in text.splitlines():
    if _PRODUCT.search(line):
      names = set(re.findall(r'\b(DEFAULT|HIGH|HIGHEST)\b', line)) or {
          'DEFAULT'}
      found['/'.join(sorted(names))] += 1
  return found


def calls(text: str) -> set[str]:
  """Returns what a program calls that is not StableHLO."""
  return set(_CALL.findall(text))


def arrays(text: str, kind: str) -> set[str]:
  """Returns the types of arrays of a kind, such as 'f64'; no single numbers."""
  return set(re.findall(rf'tensor<(?:\d+x)+{kind}>', text))


def unsuited(text: str) -> list[str]:
  """Returns what accelerators are slow at.

  They are sums into places that are in no order, and sorts along any axis but
  the last.
  """
  found = re.findall(r'"stablehlo\.(?:select_and_)?scatter"', text)
  for sort in re.findall(r'"stablehlo\.sort".*?\n.*?\}\) : \(tensor<[^>]*>',
                         text, re.S):
    axis = re.search(r'dimension = (\d+)', sort)
    shape = re.search(r'tensor<((?:\d+x)+)\w+>$', sort)
    if axis and shape and int(axis[1]) != shape[1].count('x') - 1:
      found.append(sort)
  return found


def rounds(text: str) -> list[int]:
  """Returns the numbers that the conditions of loops compare with."""
  numbers = []
  for condition in re.findall(r'\n\s*cond \{\n(.*?)\n\s*\} do \{', text, re.S):
    numbers += [int(n) for _, n in _CONSTANT.findall(condition)]
  return numbers
