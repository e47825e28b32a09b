"""A problem of finding a formula, and the simpler ones that it becomes."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _links
from kan_jax.symbolic import _surfaces

_SURE = 2.5  # Standard errors by which a simpler problem may look worse.
CLEAN = 1e-4  # Error of a surface below which there is no noise.
_POSITIVE = 0.8  # Share of targets that must be positive for logarithms.
_WORST = 1e6  # Greatest error of a row, in deviations of y.
_ROUNDS = 2  # Of tangents.
_QUICK = 90  # Terms of a surface for a first glance.
_ROUNDING = 1e-9  # Relative error that no surface need fall below.


class Rows(NamedTuple):
  """Numbers of the rows to fit, and of those that judge."""
  train: np.ndarray
  held_out: np.ndarray


class Problem(NamedTuple):
  """Find target(columns), where y = factor * target + offset.

  Attributes:
    exprs: Expressions of the columns in the inputs.
    columns: Their values, [n, in].
    target: What is to be explained, [n].
    factor: Expression of the factor.
    weights: Values of the factor, [n].
    smooth: What a surface says in place of the target where that has noise,
      [n]; None where it has none.
    offset: Expression of what is known already.
  """
  exprs: tuple[sympy.Expr, ...]
  columns: np.ndarray
  target: np.ndarray
  factor: sympy.Expr
  weights: np.ndarray
  smooth: np.ndarray | None = None
  offset: sympy.Expr = sympy.S.Zero

  def respond(self, link: _links.Link) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns T of the target and weights of its errors, both [n].

    Noise would bend T, and shift it where the target is near 0. So T is the
    tangent at what is smooth, as in generalized linear models.

    Returns:
      None where T does not exist.
    """
    base = self.target if self.smooth is None else self.smooth
    if not link.allowed(base):
      return None
    with np.errstate(all='ignore'):
      slope = link.slope(base)
      values = link.apply(base) + slope * (self.target - base)
      weights = np.abs(self.weights / slope)
    sound = np.isfinite(values).all() and np.isfinite(weights).all()
    return (values, weights) if sound else None

  def drop(self, which: Sequence[int]) -> 'Problem':
    """Returns the problem without some columns."""
    kept = [i for i in range(len(self.exprs)) if i not in which]
    return self._replace(
        exprs=tuple(self.exprs[i] for i in kept),
        columns=self.columns[:, kept])

  def divide(self, powers: Sequence[float]) -> 'Problem | None':
    """Takes powers of the columns out of the target."""
    factor, values = self.factor, self.weights
    part = np.ones_like(values)
    for i, power in enumerate(powers):
      if power:
        part = part * self.columns[:, i]**power
        factor = factor * self.exprs[i]**exact_power(power)
    if not np.isfinite(part).all() or (np.abs(part) < 1e-12).any():
      return None
    return self._replace(
        target=self.target / part, factor=factor, weights=values * part,
        smooth=None if self.smooth is None else self.smooth / part)

  def key(self) -> tuple[object, ...]:
    return (frozenset(self.exprs), self.factor, self.offset)


class Look(NamedTuple):
  """How well a surface explains a problem.

  Attributes:
    link: What the surface explains of the target.
    surface: The surface.
    errors: Errors on the rows that were held out, in the units of y.
    size: Their root mean square over the deviation of y.
  """
  link: _links.Link
  surface: _surfaces.Surface
  errors: np.ndarray
  size: float

  def predict(self, problem: Problem) -> np.ndarray:
    """Returns what the surface says of the target, [n]."""
    with np.errstate(all='ignore'):
      return self.link.undo(self.surface(problem.columns))


def exact_power(power: float) -> sympy.Expr:
  """Returns a power as a fraction where it is one."""
  near = round(6 * power)
  if abs(near - 6 * power) < 1e-9:
    return sympy.Rational(near, 6)
  return sympy.Float(power)


def look(
    problem: Problem, rows: Rows, scale: float,
    links: Sequence[_links.Link], quick: bool = False) -> Look | None:
  """Fits surfaces through some links and returns the best.

  Args:
    problem: The problem.
    rows: Rows to fit and to judge.
    scale: Deviation of y.
    links: What of the target surfaces may explain.
    quick: Whether a surface of few terms is enough.
  """
  best: Look | None = None
  for link in links:
    response = problem.respond(link)
    if response is None:
      continue
    with np.errstate(all='ignore'):
      surface = _fit(problem.columns, *response, rows, scale, quick)
      if surface is None:
        continue
      part = rows.held_out
      errors = problem.weights[part] * (
          link.undo(surface(problem.columns[part])) - problem.target[part])
    # A surface may be very wrong at the edge; this wrong is enough.
    errors = np.clip(np.where(np.isfinite(errors), errors, scale),
                     -_WORST * scale, _WORST * scale)
    size = float(np.sqrt(np.mean(errors**2))) / scale
    if best is None or size < best.size:
      best = Look(link, surface, errors, size)
  return best


def smoothen(
    problem: Problem, rows: Rows, scale: float,
    links: Sequence[_links.Link]) -> tuple[Problem, Look | None]:
  """Returns a problem with its smooth target, and how well that explains it.

  Only where few targets are negative, and a surface says that none should be.
  Elsewhere the error of the surface may be greater than the noise.
  """
  best = look(problem, rows, scale, links)
  positive = (problem.target > 0).mean()
  if best is None or best.size < CLEAN or not _POSITIVE < positive < 1:
    return problem, best
  least = 0.05 * np.median(problem.target)
  for start in (best.predict(problem), np.maximum(problem.target, least)):
    for _ in range(_ROUNDS):
      # A surface may be infinite through a link, or below 0 at some rows.
      tried = problem._replace(smooth=start)
      seen = look(tried, rows, scale, links)
      if seen is None:
        break
      start = seen.predict(problem)
      if seen.size < best.size and np.isfinite(start).all():
        best = seen
  smooth = best.predict(problem)
  if not (np.isfinite(smooth) & (smooth > 0)).all():
    return problem, best
  return problem._replace(smooth=smooth), best


def _fit(columns, values, weights, rows, scale, quick):
  """Fits a surface, in logarithms of the columns or not."""
  most = _QUICK if quick else _surfaces.MOST
  surface = _surfaces.fit(columns, values, weights, *rows, most=most)
  few = quick or columns.shape[1] < 4
  if surface is None or (
      surface.logs.any() and (few or surface.error > 1e-3 * scale)):
    plain = _surfaces.fit(
        columns, values, weights, *rows, logs=False, most=most)
    if surface is None or (plain is not None and plain.error < surface.error):
      return plain
  return surface


def as_good(simpler: Look, other: Look) -> bool:
  """Whether a simpler problem's surface is not clearly worse than another's.

  The squared errors on the same rows are compared in pairs.
  """
  if simpler.size <= max(other.size, _ROUNDING):
    return True
  change = simpler.errors**2 - other.errors**2
  spread = change.std() / np.sqrt(len(change))
  return bool(change.mean() <= _SURE * spread
              and simpler.size < 1.1 * other.size)


def gradient(problem: Problem, seen: Look, part: np.ndarray) -> np.ndarray:
  """Returns derivatives of the target by the columns on some rows, [n, in]."""
  x = problem.columns[part]
  values = seen.link.undo(seen.surface(x))
  slopes = seen.surface.gradient(x) / seen.link.slope(values)[:, None]
  return slopes


def combine(
    problem: Problem, i: int, j: int, kind: str,
    ratio: float) -> Problem | None:
  """Replaces columns i and j by one.

  Args:
    problem: The problem.
    i: First column.
    j: Second column.
    kind: 'sum' for x_i + r x_j, 'product' for x_i x_j^r, 'squares' for
      x_i^2 + r x_j^2.
    ratio: The number r.
  """
  a, b = problem.columns[:, i], problem.columns[:, j]
  u, v = problem.exprs[i], problem.exprs[j]
  number = _number(ratio)
  with np.errstate(all='ignore'):
    if kind == 'sum':
      values, expr = a + ratio * b, u + number * v
    elif kind == 'squares':
      values, expr = a**2 + ratio * b**2, u**2 + number * v**2
    else:
      values, expr = a * b**ratio, u * v**exact_power(ratio)
  if not np.isfinite(values).all() or np.ptp(values) == 0:
    return None
  rest = problem.drop((i, j))
  return rest._replace(
      exprs=(*rest.exprs, expr),
      columns=np.concatenate([rest.columns, values[:, None]], 1))


def _number(ratio: float) -> sympy.Expr:
  """Returns a ratio as a whole number or a half where it is one."""
  near = round(2 * ratio) / 2
  if near == ratio:
    return sympy.Rational(round(2 * ratio), 2)
  return sympy.Float(ratio)


def has_power(values: np.ndarray, power: float) -> bool:
  """Whether a power of the values is real and finite."""
  if float(power).is_integer():
    return power > 0 or bool((values != 0).all())
  return bool((values > 0).all())


def far_from_zero(values: np.ndarray) -> bool:
  """Whether values may stand in a denominator."""
  size = np.abs(values)
  return bool(size.min() > 1e-4 * size.max())
