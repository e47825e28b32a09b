"""Sums of one function of each variable, fitted as splines, then recognized."""

from collections.abc import Iterator
import itertools
from typing import NamedTuple

import numpy as np
from scipy import interpolate
import sympy

from kan_jax.symbolic import _curves

_ORDER = 5
_INTERVALS = 8
_POINTS = 160  # Places at which a spline is compared with functions.
_RIDGE = 1e-9
_MANY = 6  # Sums of recognized functions that are offered.


class Sum(NamedTuple):
  """A fitted sum of splines.

  Attributes:
    places: Points of each variable, [in, points].
    values: Value of its function there, without a constant, [in, points].
    constant: The constant.
    error: Root mean square of the weighted errors on rows held out.
  """
  places: np.ndarray
  values: np.ndarray
  constant: float
  error: float


def _basis(x: np.ndarray, low: float, high: float) -> np.ndarray:
  inner = np.linspace(low, high, _INTERVALS + 1)
  knots = np.concatenate([[low] * _ORDER, inner, [high] * _ORDER])
  return interpolate.BSpline.design_matrix(
      np.clip(x, low, high), knots, _ORDER).toarray()


def fit(
    x: np.ndarray, target: np.ndarray, weights: np.ndarray,
    train: np.ndarray, held_out: np.ndarray) -> Sum:
  """Fits a constant and a spline of each column by weighted least squares."""
  bounds = list(zip(x.min(0), x.max(0), strict=True))

  def design(rows):
    parts = [_basis(rows[:, i], *b)[:, 1:] for i, b in enumerate(bounds)]
    return np.concatenate([np.ones((len(rows), 1)), *parts], 1)

  full = design(x)
  weighted = weights[train, None] * full[train]
  size = np.linalg.norm(weighted, axis=0)
  size[size == 0] = 1
  scaled = np.concatenate(
      [weighted / size, _RIDGE * np.eye(len(size))])
  right = np.concatenate([(weights * target)[train], np.zeros(len(size))])
  coef = np.linalg.lstsq(scaled, right, rcond=None)[0] / size
  errors = weights[held_out] * (full[held_out] @ coef - target[held_out])
  places = np.stack([np.linspace(*b, _POINTS) for b in bounds])
  count = _ORDER + _INTERVALS - 1
  values = np.stack([
      _basis(p, *b)[:, 1:] @ coef[1 + i * count:1 + (i + 1) * count]
      for i, (p, b) in enumerate(zip(places, bounds, strict=True))])
  means = values.mean(1)
  return Sum(places, values - means[:, None],
             float(coef[0] + means.sum()), float(np.sqrt(np.mean(errors**2))))


def recognize(
    fitted: Sum, exprs: tuple[sympy.Expr, ...]) -> Iterator[sympy.Expr]:
  """Yields sums of functions that look like the splines."""
  spread = np.ptp(fitted.values, axis=1)
  options = []
  for i, expr in enumerate(exprs):
    if spread[i] < 1e-9 * spread.max():
      continue
    options.append(_options(fitted.places[i], fitted.values[i], expr))
  choices = sorted(
      itertools.product(*(enumerate(o) for o in options)),
      key=lambda choice: sum(rank for rank, _ in choice))
  for choice in choices[:_MANY]:
    yield sympy.Float(fitted.constant, 17) + sum(e for _, e in choice)


def _options(
    z: np.ndarray, values: np.ndarray, expr: sympy.Expr) -> list[sympy.Expr]:
  """Returns the functions that fit one spline best."""
  ones = np.ones_like(z)
  total = float(values @ values)
  found: list[tuple[float, sympy.Expr]] = []
  straight = [(z, expr)]
  if z.min() > 0:
    straight.append((np.log(z), sympy.log(expr)))
  for u, inner in straight:
    design = np.stack([ones, u], 1)
    coef, *_ = np.linalg.lstsq(design, values, rcond=None)
    left = np.sum((design @ coef - values)**2) / total
    level, slope = (sympy.Float(float(c), 17) for c in coef)
    found.append((_merit(left, 1), level + slope * inner))
  for match in _curves.match(z, values, ones)[:4]:
    found.append((_merit(match.left, match.curve.cost + 2), match.write(expr)))
  found.sort(key=lambda item: item[0])
  return [e for _, e in found[:2]]


def _merit(left: float, cost: float) -> float:
  return np.log10(left + 1e-12) + 0.4 * cost
