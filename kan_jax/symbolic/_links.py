"""What an output may be before the rest of a formula is simple.

A link is a function T of the output, as in generalized linear models: T(y) is
then a sum or a product of simpler terms, and y is its inverse.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import numpy as np
import sympy

Array = np.ndarray


class Link(NamedTuple):
  """A function of the output and its inverse.

  Attributes:
    name: What it is called.
    apply: T of an array.
    slope: Derivative of T.
    undo: The inverse of T, of an array.
    to_sympy: The inverse of T, of an expression.
    allowed: Whether T and its inverse are one to one for such outputs.
    cost: Operations that the inverse adds to a formula.
  """
  name: str
  apply: Callable[[Array], Array]
  slope: Callable[[Array], Array]
  undo: Callable[[Array], Array]
  to_sympy: Callable[[Any], Any]
  allowed: Callable[[Array], bool]
  cost: int


def _any(y: Array) -> bool:
  return bool(np.isfinite(y).all())


def _positive(y: Array) -> bool:
  return bool((y > 0).all())


def _nonzero(y: Array) -> bool:
  return bool((y != 0).all())


def _one_sign(y: Array) -> bool:
  return bool((y > 0).all() or (y < 0).all())


def _within(limit: float) -> Callable[[Array], bool]:
  return lambda y: bool((np.abs(y) < limit).all())


LINKS: tuple[Link, ...] = (
    Link('y', lambda y: y, np.ones_like, lambda t: t, lambda t: t, _any, 0),
    Link('1/y', lambda y: 1 / y, lambda y: -1 / y**2, lambda t: 1 / t,
         lambda t: 1 / t, _nonzero, 1),
    Link('log y', np.log, lambda y: 1 / y, np.exp, sympy.exp, _positive, 1),
    Link('y^2', np.square, lambda y: 2 * y, np.sqrt, sympy.sqrt, _positive, 1),
    Link('1/y^2', lambda y: y**-2.0, lambda y: -2 * y**-3.0,
         lambda t: t**-0.5, lambda t: 1 / sympy.sqrt(t), _positive, 2),
    Link('sqrt y', np.sqrt, lambda y: 0.5 / np.sqrt(y), np.square,
         lambda t: t**2, _positive, 1),
    Link('exp y', np.exp, np.exp, np.log, sympy.log, _within(20), 1),
    Link('sin y', np.sin, np.cos, np.arcsin, sympy.asin, _within(np.pi / 2), 1),
    Link('tan y', np.tan, lambda y: np.cos(y)**-2.0, np.arctan, sympy.atan,
         _within(np.pi / 2), 1),
    Link('atanh y', np.arctanh, lambda y: 1 / (1 - y**2), np.tanh, sympy.tanh,
         _within(1), 1),
    Link('cos y', np.cos, lambda y: -np.sin(y), np.arccos, sympy.acos,
         lambda y: bool(((y > 0) & (y < np.pi)).all()), 1),
)
