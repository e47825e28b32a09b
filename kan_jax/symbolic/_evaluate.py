"""Values of an expression and their derivatives by its numbers, without a
compiler: a formula that is looked at once is not worth more.
"""

from collections.abc import Callable
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy

Array = np.ndarray
# Values, and derivatives by the numbers on which they depend.
_Dual = tuple[Any, dict[int, Any]]

_UNARY: dict[Any, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    sympy.exp: (np.exp, np.exp),
    sympy.log: (np.log, lambda z: 1 / z),
    sympy.sin: (np.sin, np.cos),
    sympy.cos: (np.cos, lambda z: -np.sin(z)),
    sympy.tan: (np.tan, lambda z: np.cos(z)**-2.0),
    sympy.asin: (np.arcsin, lambda z: (1 - z**2)**-0.5),
    sympy.acos: (np.arccos, lambda z: -(1 - z**2)**-0.5),
    sympy.atan: (np.arctan, lambda z: 1 / (1 + z**2)),
    sympy.sinh: (np.sinh, np.cosh),
    sympy.cosh: (np.cosh, np.sinh),
    sympy.tanh: (np.tanh, lambda z: 1 - np.tanh(z)**2),
    sympy.asinh: (np.arcsinh, lambda z: (1 + z**2)**-0.5),
    sympy.acosh: (np.arccosh, lambda z: (z**2 - 1)**-0.5),
    sympy.atanh: (np.arctanh, lambda z: 1 / (1 - z**2)),
    sympy.Abs: (np.abs, np.sign),
    sympy.sign: (np.sign, np.zeros_like),
}


class UnknownFunctionError(ValueError):
  """A function that is not among those of formulas."""


def dual(
    expr: sympy.Expr, columns: Mapping[sympy.Symbol, Array],
    numbers: Mapping[sympy.Expr, tuple[int, float]]) -> _Dual:
  """Returns values, and derivatives by place of the number.

  Args:
    expr: The expression.
    columns: Values of its variables, each [n].
    numbers: Place and value of the leaves that count as numbers.

  Raises:
    UnknownFunctionError: If the expression has a function that is not known.
  """
  seen: dict[sympy.Expr, _Dual] = {}

  def walk(node):
    if node not in seen:
      seen[node] = _visit(node, walk, columns, numbers)
    return seen[node]

  with np.errstate(all='ignore'):
    return walk(expr)


def _visit(node, walk, columns, numbers) -> _Dual:
  if node in numbers:
    place, value = numbers[node]
    return value, {place: 1.0}
  if node.is_Symbol:
    return columns[node], {}
  if node.is_number and not node.has(sympy.Float) and not numbers:
    return float(node), {}
  if node.is_Add or node.is_Mul:
    return _fold(node, [walk(argument) for argument in node.args])
  if node.is_Pow and node.base is not sympy.E:
    return _power(walk(node.base), walk(node.exp))
  if not node.args:
    return float(node), {}
  known = _UNARY.get(sympy.exp if node.is_Pow else node.func)
  if known is None:
    raise UnknownFunctionError(str(node.func))
  fn, slope = known
  value, slopes = walk(node.exp if node.is_Pow else node.args[0])
  outer = slope(value) if slopes else None
  return fn(value), {k: outer * v for k, v in slopes.items()}


def _fold(node, parts: list[_Dual]) -> _Dual:
  """Adds or multiplies."""
  value, slopes = parts[0]
  for other, more in parts[1:]:
    joined = {}
    for k in slopes.keys() | more.keys():
      a, b = slopes.get(k, 0.0), more.get(k, 0.0)
      joined[k] = a + b if node.is_Add else a * other + value * b
    slopes = joined
    value = value + other if node.is_Add else value * other
  return value, slopes


def _power(base: _Dual, exponent: _Dual) -> _Dual:
  value, slopes = base
  power, more = exponent
  result = np.power(value, power) if np.ndim(value) or np.ndim(power) else (
      float(value)**float(power) if value > 0 or float(power).is_integer()
      else np.nan)
  joined = {}
  if slopes:
    outer = power * np.power(value + 0.0, power - 1.0)
    joined = {k: outer * v for k, v in slopes.items()}
  if more:
    outer = result * np.log(value)
    for k, v in more.items():
      joined[k] = joined.get(k, 0.0) + outer * v
  return result, joined
