"""The numbers of an expression: fitted, judged, and recognized.

Floats are numbers that the data decide; whole and rational numbers belong to
the form and stay.
"""

from collections.abc import Iterator
from collections.abc import Sequence
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
# Chance that a number lies near a simple one; whole numbers are likely anyway.
_RARE, _RARE_WHOLE = 0.05, 0.2
_MOST = (1, 2, 4, 8, 12, 24)  # Denominators, and
_LARGEST = 1000  # the greatest numerator of simple numbers.
_SURE = 3.0  # Standard errors within which a number may be another one.
_BROKEN = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)


class Fit(NamedTuple):
  """An expression with fitted numbers.

  Attributes:
    form: The expression with the numbers that it had before.
    sites: The Floats in it that were fitted.
    numbers: Their values, in the order of `sites`.
    error: Root mean square of the errors.
    covariance: Of the numbers, by linear theory, [numbers, numbers].
  """
  form: sympy.Expr
  sites: tuple[sympy.Float, ...]
  numbers: np.ndarray
  error: float
  covariance: np.ndarray

  def deviations(self) -> np.ndarray:
    """Returns the standard errors of the numbers."""
    return np.sqrt(np.diag(self.covariance))

  def named_deviations(self) -> dict[sympy.Float, float]:
    """Returns the standard errors by number, as these stand in `write`."""
    return dict(zip(self.written(), self.deviations().tolist(), strict=True))

  def written(self) -> tuple[sympy.Float, ...]:
    """Returns the numbers as they stand in `write`."""
    return tuple(sympy.Float(float(v), 17) for v in self.numbers)

  def write(self) -> sympy.Expr:
    """Returns the expression; sympy takes its time over that."""
    return self.form.xreplace(
        dict(zip(self.sites, self.written(), strict=True)))


def evaluate(
    expr: sympy.Expr, symbols: Sequence[sympy.Symbol],
    x: np.ndarray) -> np.ndarray:
  """Returns the values of an expression on rows [n, in], [n]."""
  try:
    values, _ = _evaluate.dual(expr, dict(zip(symbols, x.T, strict=True)), {})
  except (_evaluate.UnknownFunctionError, ArithmeticError, TypeError):
    return np.full(len(x), np.nan)
  return np.broadcast_to(np.asarray(values, float), (len(x),))


def slopes(
    expr: sympy.Expr, variables: Sequence[sympy.Symbol],
    symbols: Sequence[sympy.Symbol], x: np.ndarray) -> np.ndarray:
  """Returns the derivatives by some variables on rows [n, in], [n, variables].
  """
  return np.stack([
      evaluate(expr.diff(variable), symbols, x) for variable in variables], 1)


class _Model(NamedTuple):
  """An expression as a function of its numbers."""
  expr: sympy.Expr
  sites: tuple[sympy.Float, ...]
  columns: dict[Any, np.ndarray]
  y: np.ndarray

  def errors(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the errors [n] and their derivatives [n, numbers]."""
    values, slopes = self.dual(numbers)
    shape = self.y.shape
    jacobian = np.zeros((*shape, len(self.sites)))
    for k, slope in slopes.items():
      jacobian[:, k] = slope
    return np.broadcast_to(values, shape) - self.y, jacobian

  def dual(self, numbers: np.ndarray) -> tuple[Any, dict[int, Any]]:
    places = {site: (k, float(number)) for k, (site, number) in enumerate(
        zip(self.sites, numbers, strict=True))}
    return _evaluate.dual(self.expr, self.columns, places)


def predict(
    fitted: Fit, symbols: Sequence[sympy.Symbol],
    x: np.ndarray) -> np.ndarray:
  """Returns the values of a fitted expression on rows [n, in], [n]."""
  model = _Model(fitted.form, fitted.sites,
                 dict(zip(symbols, x.T, strict=True)), np.zeros(len(x)))
  values, _ = model.errors(fitted.numbers)
  return values


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
  sites = tuple(sorted(expr.atoms(sympy.Float), key=float))
  model = _Model(expr, sites, dict(zip(symbols, x.T, strict=True)), y)
  numbers = np.array([float(f) for f in sites])
  try:
    errors, jacobian = model.errors(numbers)
  except (_evaluate.UnknownFunctionError, ArithmeticError, TypeError):
    return None
  if not _sound(errors, jacobian):
    return None
  numbers, errors, jacobian = _descend(model, numbers, errors, jacobian, steps)
  covariance = _covariance(
      errors, jacobian, _ROUNDING * float(np.sqrt(np.mean(y**2))))
  return Fit(expr, sites, numbers, float(np.sqrt(np.mean(errors**2))),
             covariance)


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


def _covariance(
    errors: np.ndarray, jacobian: np.ndarray, floor: float) -> np.ndarray:
  """Returns the covariance of the numbers by linear theory.

  Errors below `floor` are rounding.
  """
  rows, count = jacobian.shape
  if not count:
    return np.zeros((0, 0))
  variance = max(errors @ errors / max(rows - count, 1), floor**2)
  size = np.linalg.norm(jacobian, axis=0)
  size[size == 0] = 1
  inverse = np.linalg.pinv((jacobian / size).T @ (jacobian / size))
  return variance * inverse / size / size[:, None]


_UNITS = ((1, sympy.Integer(1)), (np.pi, sympy.pi), (1 / np.pi, 1 / sympy.pi),
          (np.sqrt(2), sympy.sqrt(2)), (np.sqrt(3), sympy.sqrt(3)),
          (np.pi**2, sympy.pi**2), (np.pi**-2, sympy.pi**-2),
          (np.sqrt(np.pi), sympy.sqrt(sympy.pi)),
          (np.pi**-0.5, 1 / sympy.sqrt(sympy.pi)),
          ((2 * np.pi)**-0.5, 1 / sympy.sqrt(2 * sympy.pi)))


class Simple(NamedTuple):
  """A number that another may stand for.

  Attributes:
    exact: The number.
    bits: Length of its description.
  """
  exact: sympy.Expr
  bits: float


def simple(value: float, deviation: float) -> Iterator[Simple]:
  """Yields what a number may stand for, the simplest first.

  A number with more digits than the data support is no candidate: of all the
  candidates of a kind, less than one in a hundred would lie this near to an
  arbitrary number.
  """
  near = max(_SURE * deviation, _PRECISION * abs(value))
  if abs(value) <= near:
    yield Simple(sympy.Integer(0), 0.0)
  for rank, (unit, exact) in enumerate(_UNITS):
    # The distance between neighbours is about 1 / most^2.
    crowd = 2 * near / unit * (1 + 2 * rank)
    for most in _MOST:
      whole = unit == most == 1
      if crowd * most**2 >= (_RARE_WHOLE if whole else _RARE):
        break
      found = _fraction(value / unit, most, near / unit * (1 + whole / 3))
      if found is not None:
        share = sympy.Rational(*found)
        yield Simple(share * exact, 1 + float(
            np.log2(abs(found[0]) * found[1] * (1 + 2 * rank))))
        break


def _fraction(
    value: float, most: int, near: float) -> tuple[int, int] | None:
  """Returns the fraction of least denominator that is near, if any."""
  if abs(value) > _LARGEST + 1:
    return None
  for below in range(1, most + 1):
    above = round(value * below)
    if above and abs(above / below - value) <= near and (
        abs(above) <= _LARGEST):
      return above, below
  return None


def recognize(
    fitted: Fit, symbols: Sequence[sympy.Symbol], x: np.ndarray,
    y: np.ndarray) -> Fit:
  """Replaces numbers by simple ones as long as the errors do not grow.

  One after another, the best known first. The others move as their covariance
  has it; a fit at the end says whether that holds. If not, each number gets a
  fit of its own.
  """
  exact, _ = choose(fitted)
  if not exact:
    return fitted
  whole = _replace(fitted, exact, symbols, x, y)
  if whole is not None:
    # What was left out, such as a factor 1, may show other simple numbers.
    return whole if len(whole.sites) == len(fitted.sites) else recognize(
        whole, symbols, x, y)
  for site, simpler in exact.items():
    changed = _replace(fitted, {site: simpler}, symbols, x, y)
    if changed is not None:
      return recognize(changed, symbols, x, y)
  return fitted


def choose(fitted: Fit) -> tuple[dict[sympy.Float, sympy.Expr], float]:
  """Returns a simple number for each site that may be one, without a fit.

  Also the bits that describe all numbers: those of simple ones, with what the
  errors grow by, and of the others the digits that the data decide.
  """
  numbers, covariance = fitted.numbers.copy(), fitted.covariance.copy()
  left = np.argsort(fitted.deviations() / (np.abs(numbers) + 1e-300)).tolist()
  chosen: dict[sympy.Float, sympy.Expr] = {}
  bits, again = 0.0, True
  while again:
    again = False
    for i in list(left):
      variance = max(float(covariance[i, i]), 0.0)
      value = float(numbers[i])
      nearest = next(simple(value, variance**0.5), None)
      if nearest is None:
        continue
      # Numbers that are known by others may be simple, too.
      left.remove(i)
      again = True
      chosen[fitted.sites[i]] = nearest.exact
      off = float(nearest.exact) - value
      bits += nearest.bits + 0.5 * off**2 / max(
          variance, (_PRECISION * value)**2, 1e-300) / np.log(2)
      if variance:
        along = covariance[i] / variance
        numbers = numbers + along * off
        covariance = covariance - np.outer(covariance[i], along)
  return chosen, float(bits + sum(
      _digits(numbers[i], covariance[i, i]) for i in left))


def _digits(number: float, variance: float) -> float:
  """Returns the bits of a number as far as it is known."""
  size = abs(float(number)) + 1e-300
  return 1 + float(np.log2(1 + size / max(
      max(float(variance), 0.0)**0.5, _PRECISION * size)))


def _replace(fitted, exact, symbols, x, y):
  """Puts simple numbers in the place of others; None where they do not fit."""
  there = dict(zip(fitted.sites, fitted.written(), strict=True)) | exact
  changed = fitted.form.xreplace(there)
  if changed.has(*_BROKEN):
    return None
  again = fit(changed, symbols, x, y)
  # A number that is 4 standard errors away costs 16 units of the chi square.
  slack = 1 + 8 * len(exact) / len(y)
  floor = _ROUNDING * float(np.sqrt(np.mean(y**2)))
  if again is not None and again.error <= max(slack * fitted.error, floor):
    return again
  return None


def shorten(
    fitted: Fit, symbols: Sequence[sympy.Symbol], x: np.ndarray,
    y: np.ndarray) -> Fit:
  """Writes a formula with fewer operations, where sympy knows how."""
  best, expr = fitted, fitted.write()
  operations = expr.count_ops()
  changes = [sympy.factor_terms, sympy.together]
  # With many terms, or numbers that are not exact, the others take minutes.
  if operations <= _LONG and not fitted.sites:
    changes += [sympy.cancel, sympy.simplify, _simplify_together]
  for change in changes:
    try:
      changed = change(expr)
    except (ArithmeticError, ValueError, NotImplementedError, TypeError,
            AttributeError, sympy.PolynomialError):
      continue
    if changed.count_ops() >= operations or changed.has(*_BROKEN):
      continue
    values = evaluate(changed, symbols, x)
    error = float(np.sqrt(np.mean((values - y)**2)))
    if error <= max(1.0001 * fitted.error, 1e-12 * float(np.abs(y).max())):
      again = fit(changed, symbols, x, y)
      if again is not None:
        best, operations = again, changed.count_ops()
  return best


def _simplify_together(expr: sympy.Expr) -> sympy.Expr:
  return sympy.simplify(sympy.together(expr))
