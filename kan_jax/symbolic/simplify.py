"""Formulas as people write them: whole numbers, fractions, multiples of pi.

A number is replaced where the formula computes the same without it, on given
rows and to a given error; what that is decides the caller, by what it knows of
the noise.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import fractions

import numpy as np
import sympy

from kan_jax.symbolic import formulas

_NEAR = 1e-4  # How far off, relatively, a number is still tried.
_DENOMINATORS = 12  # Of fractions, at most.
_PARTS_OF_PI = 6


def tidy(
    expr: sympy.Expr, names: Sequence[str | sympy.Symbol], x: np.ndarray,
    error: float) -> sympy.Expr:
  """Returns a simpler expression that is the same on all rows.

  Args:
    expr: The expression.
    names: Of its inputs, in the order of the columns of `x`.
    x: Rows to compare on, [n, in].
    error: Greatest change of the value of any row that is allowed, >= 0.
  """
  wanted = _values(expr, names, x)
  if wanted is None:
    return expr

  def same(candidate):
    values = _values(candidate, names, x)
    return values is not None and np.abs(values - wanted).max() <= error

  for change in (_join_exponentials, _lead_powers):
    changed = change(expr)
    if same(changed):
      expr = changed
  before = None
  while before != expr:  # Numbers that are simpler now may join to new ones.
    before, expr = expr, _replace(expr, same)
  return expr


def _replace(
    expr: sympy.Expr, same: Callable[[sympy.Expr], bool]) -> sympy.Expr:
  """Replaces every number that a simpler one can stand for."""
  # The smallest first: without it, others may come out simpler.
  for number in sorted(expr.atoms(sympy.Float), key=abs):
    for simple in _simple(number):
      candidate = expr.xreplace({number: simple})
      if same(candidate):
        expr = candidate
        break
  return expr


def _values(expr, names, x):
  """The expression on all rows, or None if it is not finite and real there."""
  if expr.has(sympy.zoo, sympy.nan, sympy.oo, -sympy.oo):
    return None
  with np.errstate(all='ignore'):
    values = np.asarray(formulas.lambdify([expr], names)(x))[..., 0]
  sound = np.isrealobj(values) and np.isfinite(values).all()
  return values if sound else None


def _simple(number: sympy.Float) -> Iterator[sympy.Expr]:
  """Yields what a number may stand for, the simplest first."""
  value = float(number)
  yield sympy.Integer(0)
  for unit, parts in ((1, 1), (sympy.pi, _PARTS_OF_PI), (1, _DENOMINATORS)):
    share = fractions.Fraction(value / float(unit)).limit_denominator(parts)
    if share and abs(float(share) * float(unit) - value) <= _NEAR * abs(value):
      yield sympy.Rational(share.numerator, share.denominator) * unit


def _join_exponentials(expr: sympy.Expr) -> sympy.Expr:
  """Takes constant summands out of exponents, where a factor can take them."""
  return sympy.powsimp(expr.replace(
      lambda e: isinstance(e, sympy.exp),
      lambda e: sympy.expand_power_exp(e)), combine='exp')


def _lead_powers(expr: sympy.Expr) -> sympy.Expr:
  """Takes the leading coefficient out of a power: (2x + 1)^2 = 4(x + 0.5)^2."""
  def lead(power):
    coefficient = power.base.as_ordered_terms()[0].as_coeff_Mul()[0]
    if not coefficient.is_Float or (
        coefficient < 0 and not power.exp.is_integer):
      return power
    inner = sympy.expand_mul(power.base / coefficient)
    return coefficient**power.exp * inner**power.exp

  return expr.replace(
      lambda e: e.is_Pow and e.base.is_Add and e.exp.is_Rational, lead)
