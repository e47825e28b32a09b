"""What makes a problem simpler: columns that do not matter, and symmetries.

The derivatives of a surface propose; whether a simpler problem explains as much
on rows that were held out decides.
"""

from collections.abc import Iterator
import itertools

import numpy as np

from kan_jax.symbolic import _additive
from kan_jax.symbolic import _problems

_STRAIGHT = 0.05  # Share of a curve's range by which a line may miss it.
_WEAK = 3.0  # Errors of the surface that a column must explain to matter.
_PIVOTS = 1000  # Ways to choose the columns that scaling saves.
_LOOSE = 0.3  # Share of slopes that may be left where a column is a power.
_NULL = 0.2  # Size of singular values that may count as none.


def power_peel(
    problem: _problems.Problem,
    rows: _problems.Rows) -> _problems.Problem | None:
  """Takes all columns out that the target is a power of, times the rest.

  A spline of each column is fitted to log |target|; powers are straight lines
  in the logarithm of the column.
  """
  powers = [0.0] * len(problem.exprs)
  base = problem.target if problem.smooth is None else problem.smooth
  with np.errstate(all='ignore'):
    target = np.log(np.abs(base)) + problem.target / base - 1
    weights = np.abs(problem.weights * base)
  if not np.isfinite(target).all():
    return None
  fitted = _additive.fit(problem.columns, target, weights, *rows)
  for i, (z, values) in enumerate(
      zip(fitted.places, fitted.values, strict=True)):
    if not _problems.far_from_zero(problem.columns[:, i]) or z[0] <= 0:
      continue
    design = np.stack([np.ones_like(z), np.log(z)], 1)[5:-5]
    coef, *_ = np.linalg.lstsq(design, values[5:-5], rcond=None)
    left = np.ptp(design @ coef - values[5:-5]) / np.ptp(values[5:-5])
    if left < _STRAIGHT:
      powers[i] = _near_power(float(coef[1]))
  return _take_out(problem, powers)


def slope_peel(
    problem: _problems.Problem, slopes: np.ndarray,
    part: np.ndarray) -> _problems.Problem | None:
  """Takes columns out that the target is a power of, by its derivatives.

  Where y = x_i^p f(others), x_i dy/dx_i = p y on every row. It holds column by
  column, also where the rest is far from a product, on which `power_peel`
  relies.

  Args:
    problem: The problem.
    slopes: Derivatives of the target on the rows `part`, [rows, in].
    part: Numbers of these rows.
  """
  x, w = problem.columns[part], problem.weights[part]
  target = problem.target[part] * w
  powers = [0.0] * x.shape[1]
  for i in range(x.shape[1]):
    if not _problems.far_from_zero(problem.columns[:, i]):
      continue
    power, left = _fit_ratio(slopes[:, i] * x[:, i] * w, target)
    near = _snap(power, 0.2)
    if near and left < _LOOSE and _problems.has_power(
        problem.columns[:, i], near):
      powers[i] = near
  return _take_out(problem, powers)


def _take_out(
    problem: _problems.Problem,
    powers: list[float]) -> _problems.Problem | None:
  """Returns the problem without columns that have a power, some but not all.
  """
  if not any(powers) or all(powers):
    return None
  child = problem.divide(powers)
  return child and child.drop([i for i, p in enumerate(powers) if p])


def _near_power(slope: float) -> float:
  """Returns the nearest half, or else the nearest hundredth."""
  near = _snap(slope, 0.06)
  return round(slope, 2) if near is None else near


def weak(
    problem: _problems.Problem, seen: _problems.Look,
    rows: _problems.Rows) -> list[int]:
  """Returns the columns that may not matter, by the terms of the surface."""
  part = rows.held_out
  response = problem.respond(seen.link)
  if response is None:
    return []
  weights = response[1][part]
  shares = seen.surface.share(problem.columns[part], weights)
  error = np.sqrt(np.mean(seen.errors**2))
  return np.flatnonzero(shares <= _WEAK * error).tolist()


def _snap(value: float, error: float) -> float | None:
  """Returns the nearest half if it is near enough, else None."""
  near = round(2 * value) / 2
  return near if abs(near - value) <= error else None


def _fit_ratio(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
  """Fits a = r b; returns r and the share of a that is left.

  Total least squares: both sides have errors.
  """
  pair = np.stack([a, b], 1)
  size = np.linalg.norm(pair, axis=0)
  if not np.isfinite(size).all() or (size < 1e-300).any():
    return 0.0, 1.0
  _, s, vt = np.linalg.svd(pair / size, full_matrices=False)
  v = vt[1]
  if abs(v[0]) < 1e-6:
    return 0.0, 1.0
  return float(-v[1] / v[0] * size[0] / size[1]), float(s[1] / s[0])


def peels(problem: _problems.Problem) -> Iterator[_problems.Problem]:
  """Yields problems from which a power of one column has been taken."""
  for i in range(len(problem.exprs)):
    for power in (1, -1, 2, -2):
      if _problems.far_from_zero(problem.columns[:, i]) and _problems.has_power(
          problem.columns[:, i], power):
        powers = [power if k == i else 0 for k in range(len(problem.exprs))]
        child = problem.divide(powers)
        if child is not None:
          yield child.drop((i,))


def pair_proposals(
    problem: _problems.Problem, slopes: np.ndarray, part: np.ndarray,
    loose: float) -> Iterator[tuple[float, _problems.Problem]]:
  """Yields problems in which two columns are one, with what speaks against.

  Where y depends on x_i + r x_j alone, dy/dx_j = r dy/dx_i on every row; the
  same holds for logarithms and squares of the columns.

  Args:
    problem: The problem.
    slopes: Derivatives of the target on the rows `part`, [rows, in].
    part: Numbers of these rows.
    loose: Greatest share of the slopes that may be left.
  """
  x = problem.columns[part]
  w = problem.weights[part]
  with np.errstate(all='ignore'):
    kinds = {'sum': slopes, 'product': slopes * x, 'squares': slopes / x}
  for kind, values in kinds.items():
    values = values * w[:, None]
    if not np.isfinite(values).all():
      continue
    for i, j in itertools.combinations(range(x.shape[1]), 2):
      r, left = _fit_ratio(values[:, j], values[:, i])
      if left > loose or not 0.02 < abs(r) < 50:
        continue
      if kind == 'product':
        near = _snap(r, 0.2)
        if near is None or near == 0 or not _problems.has_power(
            problem.columns[:, j], near):
          continue
        r = near
      else:
        r = next((n for n in (1.0, -1.0) if abs(n - r) < 4 * left + 1e-3), r)
      child = _problems.combine(problem, i, j, kind, r)
      if child is not None:
        yield left, child


def scale_proposals(
    problem: _problems.Problem, slopes: np.ndarray,
    part: np.ndarray) -> Iterator[tuple[float, _problems.Problem]]:
  """Yields problems with fewer columns by the symmetries under scaling.

  If y(s^w_1 x_1, s^w_2 x_2, ...) = s^p y for all s, then the derivatives obey
  w_1 x_1 dy/dx_1 + w_2 x_2 dy/dx_2 + ... = p y on every row. The null space of
  these columns holds all such symmetries, as the theorem of Buckingham has it,
  and each saves a variable.
  """
  x, w = problem.columns[part], problem.weights[part]
  matrix = np.concatenate(
      [slopes * x, -problem.target[part, None]], 1) * w[:, None]
  size = np.linalg.norm(matrix, axis=0)
  if not np.isfinite(size).all() or (size < 1e-300).any():
    return
  _, s, vt = np.linalg.svd(matrix / size, full_matrices=True)
  s = np.concatenate([s, np.zeros(vt.shape[0] - len(s))])
  for count in range(x.shape[1], 0, -1):
    left = float(s[-count] / s[0])
    if left > _NULL:
      continue
    space = vt[-count:] / size
    for weights in _eliminate(problem, space):
      child = _scale(problem, *weights)
      if child is not None:
        yield left, child


def _eliminate(
    problem: _problems.Problem,
    space: np.ndarray) -> Iterator[tuple[list[int], np.ndarray]]:
  """Yields pivots and the null space with a unit matrix at the pivots."""
  inputs = len(problem.exprs)
  usable = [i for i in range(inputs)
            if _problems.far_from_zero(problem.columns[:, i])]
  count = len(space)
  found = []
  # Of twenty columns, ten may be chosen in 184,756 ways.
  for chosen in itertools.islice(
      itertools.combinations(usable, count), _PIVOTS):
    pivots = list(chosen)
    block = space[:, pivots]
    if abs(np.linalg.det(block / np.linalg.norm(space, axis=0)[
        pivots])) < 1e-3:
      continue
    weights = np.linalg.solve(block, space)
    snapped = np.round(2 * weights) / 2
    off = np.abs(weights - snapped).max()
    if off < 0.2 and np.abs(snapped).max() <= 6:
      found.append((np.abs(snapped).sum() + 10 * off + 2 * np.sum(
          snapped != np.round(snapped)), pivots, snapped))
    if len(found) > 40:
      break
  found.sort(key=lambda item: item[0])
  for _, best, weights in found[:4]:
    yield best, weights


def _scale(
    problem: _problems.Problem, pivots: list[int],
    weights: np.ndarray) -> _problems.Problem | None:
  """Makes every column and the target free of scale by the pivots."""
  inputs = len(problem.exprs)
  exponents = np.zeros(inputs)
  exponents[pivots] = weights[:, -1]
  for i in pivots:
    if not _problems.has_power(problem.columns[:, i], exponents[i]):
      return None
  child = problem.divide(exponents.tolist())
  if child is None:
    return None
  exprs, columns = list(child.exprs), child.columns.copy()
  for i in range(inputs):
    if i in pivots:
      continue
    for j, power in zip(pivots, -weights[:, i], strict=True):
      if power and not _problems.has_power(problem.columns[:, j], power):
        return None
      if power:
        columns[:, i] = columns[:, i] * problem.columns[:, j]**power
        exprs[i] = exprs[i] * problem.exprs[j]**_problems.exact_power(power)
  if not np.isfinite(columns).all():
    return None
  return child._replace(
      exprs=tuple(exprs), columns=columns).drop(pivots)
