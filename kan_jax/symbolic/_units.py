"""Dimensional analysis: what units allow in a formula.

A unit is a product of powers of the seven base units of the SI; a dimension is
the vector of these powers. By the theorem of Buckingham, a law between n
quantities of r independent dimensions is one between n - r products of powers
that have none.
"""

import ast
from collections.abc import Mapping
from collections.abc import Sequence
import fractions
import itertools
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _problems

Dimension = tuple[fractions.Fraction, ...]

_BASE = ('kg', 'm', 's', 'A', 'K', 'mol', 'cd')
# Powers of kg, m, s and A.
_DERIVED = {
    'N': (1, 1, -2), 'Pa': (1, -1, -2), 'J': (1, 2, -2), 'W': (1, 2, -3),
    'Hz': (0, 0, -1), 'Bq': (0, 0, -1), 'Gy': (0, 2, -2), 'C': (0, 0, 1, 1),
    'V': (1, 2, -3, -1), 'ohm': (1, 2, -3, -2), 'S': (-1, -2, 3, 2),
    'F': (-1, -2, 4, 2), 'H': (1, 2, -2, -2), 'Wb': (1, 2, -2, -1),
    'T': (1, 0, -2, -1), 'rad': (), 'sr': ()}
_NONE: Dimension = (fractions.Fraction(0),) * len(_BASE)
_MOST = 6  # Greatest power in a product without dimension.
_STARTS = 3  # Ways to write the products that are tried.


class InconsistentError(ValueError):
  """A formula that adds metres to seconds, or the like."""


class Units(NamedTuple):
  """Dimensions of the columns of a table, and of its target."""
  of: tuple[Dimension, ...]
  target: Dimension


def read(
    names: Sequence[str], units: Mapping[str, str],
    target_unit: str | None) -> Units:
  """Reads the units of a table.

  Raises:
    ValueError: If one is missing, belongs to no input, or cannot be read.
  """
  if set(units) != set(names):
    raise ValueError(
        f'`units` has a unit for each of the inputs {list(names)}, 1 for those '
        f'that have none; got {list(units)}.')
  if target_unit is None:
    raise ValueError('`units` needs `target_unit`, the unit of the target.')
  return Units(tuple(parse(f'{name!r} in `units`', units[name])
                     for name in names), parse('`target_unit`', target_unit))


def parse(name: str, text: str) -> Dimension:
  """Returns the dimension of a unit such as 'kg*m/s**2', 'J/(mol*K)' or '1'.

  Raises:
    ValueError: If the text is no product of powers of SI units without
      prefixes; it says which `name` it belongs to.
  """
  try:
    tree = ast.parse(text.replace('^', '**').strip() or '?', mode='eval').body
    return _read(tree)
  except (SyntaxError, ValueError, RecursionError, AttributeError) as error:
    raise ValueError(
        f'the unit of {name} must be 1 or a product of powers such as '
        f'kg*m/s**2, of {", ".join((*_BASE, *_DERIVED))}, without prefixes; '
        f'got {text!r}.') from error


def _read(node: ast.AST) -> Dimension:
  match node:
    case ast.Constant(value=1):
      return _NONE
    case ast.Name(id=name) if name in _BASE:
      return tuple(fractions.Fraction(int(name == base)) for base in _BASE)
    case ast.Name(id=name) if name in _DERIVED:
      powers = _DERIVED[name]
      return tuple(fractions.Fraction(p) for p in (
          *powers, *(0,) * (len(_BASE) - len(powers))))
    case ast.BinOp(op=ast.Mult(), left=left, right=right):
      return _add(_read(left), _read(right))
    case ast.BinOp(op=ast.Div(), left=left, right=right):
      return _add(_read(left), _times(_read(right), fractions.Fraction(-1)))
    case ast.BinOp(op=ast.Pow(), left=left, right=right):
      return _times(_read(left), _power(right))
  raise ValueError


def _power(node: ast.AST) -> fractions.Fraction:
  """Returns a number, or a quotient of two."""
  match node:
    case ast.Constant(value=int() | float() as value):
      return fractions.Fraction(value).limit_denominator(12)
    case ast.UnaryOp(op=ast.USub(), operand=part):
      return -_power(part)
    case ast.BinOp(op=ast.Div(), left=left, right=right) if _power(right):
      return _power(left) / _power(right)
  raise ValueError


def _add(a: Dimension, b: Dimension) -> Dimension:
  return tuple(p + q for p, q in zip(a, b, strict=True))


def _times(a: Dimension, power: fractions.Fraction) -> Dimension:
  return tuple(p * power for p in a)


def dimension(
    expr: sympy.Expr, of: Mapping[sympy.Symbol, Dimension]) -> Dimension | None:
  """Returns the dimension of a formula whose numbers have none.

  Returns:
    The dimension; None for 0, which has any.

  Raises:
    InconsistentError: If it has no dimension.
  """
  if expr == 0:
    return None
  if expr in of:
    return of[expr]
  if not expr.free_symbols:
    return _NONE
  if expr.is_Add:
    parts = {dimension(part, of) for part in expr.args} - {None}
    if len(parts) != 1:
      raise InconsistentError
    return parts.pop()
  if expr.is_Mul:
    total = _NONE
    for part in expr.args:
      one = dimension(part, of)
      if one is None:
        return None
      total = _add(total, one)
    return total
  if expr.is_Pow and not expr.exp.free_symbols:
    base = dimension(expr.base, of)
    return base and _times(
        base, fractions.Fraction(float(expr.exp)).limit_denominator(100))
  if any(dimension(part, of) not in (None, _NONE) for part in expr.args):
    raise InconsistentError
  return _NONE


def is_consistent(
    expr: sympy.Expr, of: Mapping[sympy.Symbol, Dimension],
    target: Dimension) -> bool:
  """Whether a formula has the dimension of the target."""
  try:
    return dimension(expr, of) in (None, target)
  except InconsistentError:
    return False


def reduce(
    problem: _problems.Problem, of: Sequence[Dimension],
    target: Dimension) -> list[_problems.Problem]:
  """Returns the problem in products without dimension, in up to three ways.

  Args:
    problem: Find the target from the columns.
    of: Dimension of each column.
    target: Dimension of the target.

  Raises:
    ValueError: If no product of powers of the columns has that dimension.
  """
  matrix = sympy.Matrix([list(row) for row in of]).T
  rank = matrix.rank()
  if matrix.row_join(sympy.Matrix(target)).rank() > rank:
    raise ValueError(
        'no product of powers of the inputs has the unit `target_unit`. The '
        'law needs a constant with a unit, such as that of gravity: divide the '
        'target or a column by it, or leave `units` out.')
  ways = []
  for pivots in itertools.combinations(range(len(of)), rank):
    block = matrix[:, list(pivots)]
    if block.rank() < rank:
      continue
    powers = [_solve(block, dimension) for dimension in (*of, target)]
    size = max((abs(p) for row in powers for p in row), default=0)
    whole = sum(p.q for row in powers for p in row)
    if size <= _MOST:
      ways.append((whole, float(sum(
          abs(p) for row in powers for p in row)), pivots, powers))
  ways.sort(key=lambda way: way[:3])
  children = (_divide(problem, pivots, powers)
              for _, _, pivots, powers in ways)
  return list(itertools.islice((c for c in children if c), _STARTS))


def _solve(block: sympy.Matrix, wanted: Dimension) -> list[sympy.Rational]:
  """Returns the powers of the pivots that have a dimension."""
  right = sympy.Matrix([sympy.Rational(p.numerator, p.denominator)
                        for p in wanted])
  return list((block.T * block).LUsolve(block.T * right)) if (
      block.cols) else []


def _divide(
    problem: _problems.Problem, pivots: Sequence[int],
    powers: Sequence[Sequence[sympy.Rational]]) -> _problems.Problem | None:
  """Divides the other columns and the target by products of the pivots."""
  exponents = np.zeros(len(problem.exprs))
  exponents[list(pivots)] = [float(p) for p in powers[-1]]
  child = problem.divide(exponents.tolist())
  if child is None:
    return None
  exprs, columns = list(child.exprs), child.columns.copy()
  with np.errstate(all='ignore'):
    for i, row in enumerate(powers[:-1]):
      if i in pivots:
        continue
      for j, power in zip(pivots, row, strict=True):
        exprs[i] = exprs[i] * problem.exprs[j]**-power
        columns[:, i] *= problem.columns[:, j]**-float(power)
  if not np.isfinite(columns).all():
    return None
  return child._replace(exprs=tuple(exprs), columns=columns).drop(pivots)
