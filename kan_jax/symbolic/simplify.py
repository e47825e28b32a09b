"""Formulas as people write them: few digits, fractions, multiples of pi.

A number is replaced where the formula computes the same without it, on given
rows and up to a given error. The caller decides how large that error may be: it
knows the noise.
"""

from collections.abc import Callable
from collections.abc import Iterator
import fractions

import numpy as np
import sympy

from kan_jax.symbolic import expressions

_NEAR = 1e-4  # How far off, relatively, a number is still tried.
_DENOMINATORS = 12  # Of fractions, at most.
_PARTS_OF_PI = 6
_BROKEN = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo)


def tidy(
    expr: sympy.Expr, names: expressions.Names, x: np.ndarray,
    error: float) -> sympy.Expr:
  """Returns a simpler expression that is the same on all rows.

      tidy(3.14159265 * a, ['a'], x, error=1e-6)  # pi*a

  Args:
    expr: The expression.
    names: Names of its inputs, in the order of the columns of `x`.
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


def round_digits(
    expr: sympy.Expr, digits: int, names: expressions.Names | None = None,
    x: np.ndarray | None = None) -> sympy.Expr:
  """Rounds every number of an expression to significant digits.

      round_digits(expression, 3, ['mass', 'speed'], x)

  Before that, numbers that stand for one are joined: 0.36 * (1.7 x + 0.2)**2
  becomes 1.04 * (x + 0.118)**2. Whole and rational numbers that are part of a
  function, as the exponent of a power, stay as they are. No number but 0
  becomes 0.

  More digits are kept where the rounded expression would be infinite or lose a
  variable, as the difference of two functions that rounding makes alike; and,
  if rows are given, where a value would change by more than 10^(1 - digits) of
  the greatest one.

  Args:
    expr: The expression.
    digits: How many digits, >= 1.
    names: Names of its inputs, in the order of the columns of `x`; x_0, x_1,
      ... by default.
    x: Rows to compare on, [n, in]. Rows on which the expression is not finite
      are left out.
  """
  if digits < 1:
    raise ValueError(f'`digits` is a whole number >= 1; got {digits!r}.')

  def values(candidate):
    with np.errstate(all='ignore'):
      return expressions.lambdify([candidate], names, inputs=x.shape[1])(x)

  def sound(candidate):
    if (candidate.free_symbols != expr.free_symbols
        or candidate.has(*_BROKEN)):
      return False
    if x is None or not finite.any():
      return True
    change = np.abs(values(candidate) - wanted)[finite]
    return (change <= 10.0**(1 - digits) * np.abs(wanted[finite]).max()).all()

  if x is not None:
    wanted = values(expr)
    finite = np.isfinite(wanted)
  joined = _join_factors(expr)
  for kept in range(digits, 17):
    rounded = _round_all(joined, kept)
    if sound(rounded):
      return rounded
  return expr


def _round_all(expr: sympy.Expr, digits: int) -> sympy.Expr:
  """Rounds in decimal; the numbers then compute with full precision."""
  return expr.xreplace({
      number: sympy.Float(str(sympy.Float(number, digits)), 15)
      for number in expr.atoms(sympy.Float)})


def _join_factors(expr: sympy.Expr) -> sympy.Expr:
  """Gives each product one number: 7.7 / (7.7 x + 15.4) is 1.0 / (x + 2.0)."""
  def is_sum(factor):
    base, exponent = factor.as_base_exp()
    return base.is_Add and exponent.is_Rational

  def join(product):
    sums = [factor for factor in product.args if is_sum(factor)]
    others = [factor for factor in product.args if not is_sum(factor)]
    if len(sums) + any(factor.is_Float for factor in others) < 2:
      return product  # It has no number too many.
    return sympy.Mul(*others, *(
        part for factor in sums for part in _lead(*factor.as_base_exp())))

  return expr.replace(lambda e: e.is_Mul, join)


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
  if expr.has(*_BROKEN):
    return None
  with np.errstate(all='ignore'):
    values = np.asarray(expressions.lambdify([expr], names)(x))[..., 0]
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
  return expr.replace(
      lambda e: e.is_Pow and e.base.is_Add and e.exp.is_Rational,
      lambda power: sympy.Mul(*_lead(power.base, power.exp)))


def _lead(
    base: sympy.Add, exponent: sympy.Rational) -> tuple[sympy.Expr, sympy.Expr]:
  """Splits a power of a sum into that of its first coefficient and the rest."""
  first, *others = base.as_ordered_terms()
  coefficient, rest = first.as_coeff_Mul()
  if not coefficient.is_Float or (
      coefficient < 0 and not exponent.is_integer):
    return sympy.Integer(1), base**exponent
  inner = sympy.Add(rest, *(term / coefficient for term in others))
  return coefficient**exponent, inner**exponent
