"""The numbers of an expression: fitted, judged, and recognized.

Floats are numbers that the data decide; whole and rational numbers belong to
the form and stay.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import fractions
from typing import Any
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _evaluate

_STEPS = 30
_ROUNDING = 1e-12  # Relative error that is none.
_LONG = 40  # Operations up to which a formula is rewritten.
_EXACT = 1e-13  # Relative change of the errors at which steps end.
_PRECISION = 1e-9  # Relative; numbers are not known better than that.
_SURE = 3.0  # Standard errors within which a number may be another one.
_BROKEN = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)


class Fit(NamedTuple):
  """An expression with fitted numbers.

  Attributes:
    expr: The expression.
    error: Root mean square of the errors.
    numbers: The numbers, in the order of `sites`.
    deviations: Their standard errors.
    sites: The Floats in the expression that they are.
  """
  expr: sympy.Expr
  error: float
  numbers: np.ndarray
  deviations: np.ndarray
  sites: tuple[sympy.Float, ...]


def evaluate(
    expr: sympy.Expr, symbols: Sequence[sympy.Symbol],
    x: np.ndarray) -> np.ndarray:
  """Returns the values of an expression on rows [n, in], [n]."""
  try:
    values, _ = _evaluate.dual(expr, dict(zip(symbols, x.T, strict=True)), {})
  except (_evaluate.UnknownFunctionError, ArithmeticError, TypeError):
    return np.full(len(x), np.nan)
  return np.broadcast_to(np.asarray(values, float), (len(x),))


class _Model(NamedTuple):
  """An expression as a function of its numbers."""
  expr: sympy.Expr
  sites: tuple[sympy.Float, ...]
  columns: dict[Any, np.ndarray]
  y: np.ndarray

  def errors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the errors [n] and their derivatives [n, numbers]."""
    places = {site: (k, float(number)) for k, (site, number) in enumerate(
        zip(self.sites, numbers, strict=True))}
    values, slopes = _evaluate.dual(self.expr, self.columns, places)
    shape = self.y.shape
    jacobian = np.zeros((*shape, len(self.sites)))
    for k, slope in slopes.items():
      jacobian[:, k] = slope
    return np.broadcast_to(values, shape) - self.y, jacobian


def fit(
    expr: sympy.Expr, symbols: Sequence[sympy.Symbol], x: np.ndarray,
    y: np.ndarray, steps: int = _STEPS) -> Fit | None:
  """Fits the Floats of an expression by Levenberg and Marquardt's steps.

  Args:
    expr: The expression.
    symbols: Its variables, in the order of the columns of `x`.
    x: Inputs, [n, in].
    y: Targets, [n].
    steps: Greatest number of steps.

  Returns:
    The fit; None where the expression is not finite on the rows.
  """
  if expr.has(*_BROKEN):
    return None
  floats = tuple(sorted(expr.atoms(sympy.Float), key=float))
  model = _Model(expr, floats, dict(zip(symbols, x.T, strict=True)), y)
  numbers = np.array([float(f) for f in floats])
  try:
    errors, jacobian = model.errors(numbers)
  except (_evaluate.UnknownFunctionError, ArithmeticError, TypeError):
    return None
  if not _sound(errors, jacobian):
    return None
  numbers, errors, jacobian = _descend(model, numbers, errors, jacobian, steps)
  deviations = _deviations(
      errors, jacobian, _ROUNDING * float(np.sqrt(np.mean(y**2))))
  sites = tuple(sympy.Float(float(v), 17) for v in numbers)
  written = expr.xreplace(dict(zip(floats, sites, strict=True)))
  return Fit(written, float(np.sqrt(np.mean(errors**2))), numbers, deviations,
             sites)


def _sound(errors: np.ndarray, jacobian: np.ndarray) -> bool:
  return bool(
      np.isrealobj(errors) and np.isrealobj(jacobian)
      and np.isfinite(errors).all() and np.isfinite(jacobian).all())


def _descend(model, numbers, errors, jacobian, steps):
  """Takes damped Gauss-Newton steps as long as they help."""
  damping = 1e-6
  cost = errors @ errors
  floor = 1e-30 * (model.y @ model.y)
  for _ in range(steps if len(numbers) else 0):
    if cost <= floor:
      break
    size = np.linalg.norm(jacobian, axis=0)
    size[size == 0] = 1
    scaled = jacobian / size
    normal = scaled.T @ scaled
    for _ in range(8):
      move = np.linalg.lstsq(
          normal + damping * np.eye(len(size)), scaled.T @ errors,
          rcond=None)[0] / size
      tried, slopes = model.errors(numbers - move)
      if _sound(tried, slopes) and tried @ tried < cost:
        break
      damping *= 10
    else:
      break
    gain = 1 - (tried @ tried) / cost
    numbers, errors, jacobian = numbers - move, tried, slopes
    cost, damping = errors @ errors, max(damping / 10, 1e-14)
    if gain < _EXACT or (gain < 1e-6 and damping < 1e-5):
      break
  return numbers, errors, jacobian


def _deviations(
    errors: np.ndarray, jacobian: np.ndarray, floor: float) -> np.ndarray:
  """Returns the standard errors of the numbers by linear theory.

  Errors below `floor` are rounding.
  """
  rows, count = jacobian.shape
  if not count:
    return np.zeros(0)
  variance = max(errors @ errors / max(rows - count, 1), floor**2)
  size = np.linalg.norm(jacobian, axis=0)
  size[size == 0] = 1
  inverse = np.linalg.pinv((jacobian / size).T @ (jacobian / size))
  return np.sqrt(variance * np.diag(inverse)) / size


_UNITS = ((1, sympy.Integer(1)), (np.pi, sympy.pi), (1 / np.pi, 1 / sympy.pi),
          (np.sqrt(2), sympy.sqrt(2)), (np.sqrt(3), sympy.sqrt(3)),
          (np.pi**2, sympy.pi**2), (np.pi**-2, sympy.pi**-2),
          (np.sqrt(np.pi), sympy.sqrt(sympy.pi)),
          (np.pi**-0.5, 1 / sympy.sqrt(sympy.pi)),
          ((2 * np.pi)**-0.5, 1 / sympy.sqrt(2 * sympy.pi)))


def simple(value: float, deviation: float) -> Iterator[sympy.Expr]:
  """Yields what a number may stand for, the simplest first.

  A number with more digits than the data support is no candidate: of all the
  candidates of a kind, less than one in a hundred would lie this near to an
  arbitrary number.
  """
  near = max(_SURE * deviation, _PRECISION * abs(value))
  if abs(value) <= near:
    yield sympy.Integer(0)
  for rank, (unit, exact) in enumerate(_UNITS):
    for most in (1, 2, 4, 8, 12, 24):
      share = fractions.Fraction(value / unit).limit_denominator(most)
      off = abs(float(share) * unit - value)
      # The distance between neighbours is about 1 / most^2.
      crowd = 2 * near / unit * most**2 * (1 + 2 * rank)
      if share and off <= near and crowd < 0.05 and (
          abs(share.numerator) <= 1000):
        yield sympy.Rational(share.numerator, share.denominator) * exact
        break


def recognize(
    fitted: Fit, symbols: Sequence[sympy.Symbol], x: np.ndarray,
    y: np.ndarray) -> Fit:
  """Replaces numbers by simple ones as long as the errors do not grow.

  One after another; the others are fitted again each time.
  """
  skip: set[float] = set()
  scale = float(np.sqrt(np.mean(y**2)))
  while True:
    order = [i for i in np.argsort(
        fitted.deviations / (np.abs(fitted.numbers) + 1e-300))
             if float(fitted.numbers[i]) not in skip]
    if not order:
      return fitted
    number = float(fitted.numbers[order[0]])
    again = _replace(fitted, int(order[0]), symbols, x, y, scale)
    if again is None:
      skip.add(number)
    else:
      fitted = again


def _replace(fitted, i, symbols, x, y, scale):
  """Puts a simple number in place of number i; None where none fits."""
  for exact in simple(float(fitted.numbers[i]), float(fitted.deviations[i])):
    changed = fitted.expr.xreplace({fitted.sites[i]: exact})
    if changed.has(*_BROKEN):
      continue
    again = fit(changed, symbols, x, y)
    # A true number costs about half a unit of the chi square.
    slack = 1 + 4.5 / len(y)
    if again is not None and again.error <= max(
        slack * fitted.error, _ROUNDING * scale):
      return again
  return None


def shorten(
    fitted: Fit, symbols: Sequence[sympy.Symbol], x: np.ndarray,
    y: np.ndarray) -> Fit:
  """Writes a formula with fewer operations, where sympy knows how."""
  best = fitted
  changes = [sympy.factor_terms, sympy.together]
  # With many terms, or numbers that are not exact, the others take minutes.
  if fitted.expr.count_ops() <= _LONG and not fitted.sites:
    changes += [sympy.cancel, sympy.simplify, _simplify_together]
  for change in changes:
    try:
      changed = change(fitted.expr)
    except (ArithmeticError, ValueError, NotImplementedError, TypeError,
            AttributeError, sympy.PolynomialError):
      continue
    if changed.count_ops() >= best.expr.count_ops() or changed.has(*_BROKEN):
      continue
    values = evaluate(changed, symbols, x)
    error = float(np.sqrt(np.mean((values - y)**2)))
    if error <= max(1.0001 * fitted.error, 1e-12 * float(np.abs(y).max())):
      again = fit(changed, symbols, x, y)
      best = again or best
  return best


def _simplify_together(expr: sympy.Expr) -> sympy.Expr:
  return sympy.simplify(sympy.together(expr))
