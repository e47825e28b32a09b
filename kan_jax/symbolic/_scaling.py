"""Tables in units of ordinary size, as 6.67e-11 and 1.99e30 are not.

The search multiplies columns, takes powers and roots, and compares numbers
with 1. So columns of very large or very small values are divided by a power of
ten first, and the formula is written for the table as it was in the end.
"""

from collections.abc import Mapping

import numpy as np
import sympy

_SMALL, _LARGE = -4, 5  # Powers of ten of columns that stay as they are.
_NEAR = 3  # Powers of ten between columns that get the same unit.
_SAME = 1e-9  # Relative difference of coefficients that are one.


def choose(x: np.ndarray) -> np.ndarray:
  """Returns a unit for each column of x [n, in], 1 for most.

  Columns of like size get the same unit: sums of them stay sums.
  """
  with np.errstate(divide='ignore'):
    sizes = np.floor(np.log10(np.median(np.abs(x), 0)))
  sizes = np.where(np.isfinite(sizes), sizes, 0)
  units = np.ones(len(sizes))
  last, unit = -np.inf, 1.0
  for i in np.argsort(sizes):
    if _SMALL <= sizes[i] <= _LARGE:
      continue
    if sizes[i] > last + _NEAR:
      unit = 10.0**sizes[i]
    last, units[i] = sizes[i], unit
  return units


def undo(
    expr: sympy.Expr, units: Mapping[sympy.Symbol, float],
    unit: float) -> sympy.Expr:
  """Writes a formula for a table as it was.

  Args:
    expr: The formula for the table in units.
    units: Unit of each variable.
    unit: Unit of the target.
  """
  there = {symbol: symbol * sympy.Float(1 / size, 17)
           for symbol, size in units.items() if size != 1}
  changed = _take_out(expr.xreplace(there)) if there else expr
  return changed * sympy.Float(unit, 17) if unit != 1 else changed


def _take_out(node: sympy.Expr) -> sympy.Expr:
  """Takes factors that all summands have out of sums in products and powers.

  sympy would multiply a single number into a sum again.
  """
  if not node.args:
    return node
  args = [_take_out(argument) for argument in node.args]
  if node.is_Pow and args[0].is_Add:
    factor, rest = _split(args[0])
    return factor**args[1] * rest**args[1]
  if node.is_Mul:
    pairs = [_split(arg) if arg.is_Add else (sympy.S.One, arg) for arg in args]
    return sympy.Mul(*(part for pair in pairs for part in pair))
  return node.func(*args)


def _split(total: sympy.Expr) -> tuple[sympy.Expr, sympy.Expr]:
  """Returns the factor of all summands, and the sum without it."""
  pairs = [summand.as_coeff_Mul() for summand in total.args]
  sizes = np.abs([float(number) for number, _ in pairs])
  first = pairs[0][0]
  if not first.is_Float or np.ptp(sizes) > _SAME * sizes[0]:
    return sympy.S.One, total
  return abs(first), sympy.Add(*(
      rest if number > 0 else -rest for number, rest in pairs))
