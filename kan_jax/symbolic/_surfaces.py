"""Polynomials in several variables that stand in for data.

A surface is fitted by least squares in the Legendre polynomials up to some
total degree, which rows that were held out choose. Its derivatives are exact.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy import linalg

MOST = 330  # Terms of a surface, at most,
_SHARE = 0.3  # and this part of the rows.
_DEGREE = 18  # In one variable.
_INEXACT = 4  # Variables from which on no fit comes near to rounding.


class Surface(NamedTuple):
  """A fitted polynomial.

  Attributes:
    powers: Degree of each term in each variable, [terms, in].
    coef: Coefficients, [terms].
    low: Least value of each variable, in its own coordinate, [in].
    high: Greatest value.
    logs: Which variables are taken as logarithms, [in].
    error: Root mean square error on the rows that were held out.
  """
  powers: np.ndarray
  coef: np.ndarray
  low: np.ndarray
  high: np.ndarray
  logs: np.ndarray
  error: float

  def __call__(self, x: np.ndarray) -> np.ndarray:
    """Returns the values on rows [n, in], [n]."""
    return _design(self.powers, self._scale(x)) @ self.coef

  def gradient(self, x: np.ndarray) -> np.ndarray:
    """Returns the derivatives by the inputs on rows [n, in], [n, in]."""
    u = self._scale(x)
    inner = 2 / (self.high - self.low) / np.where(self.logs, x, 1)
    tables = _tables(self.powers.max(initial=0), u)
    slopes = _slopes(tables)
    parts = []
    for i in range(x.shape[1]):
      product = np.ones((len(x), len(self.powers)))
      for j in range(x.shape[1]):
        source = slopes if i == j else tables
        product *= source[:, j, self.powers[:, j]]
      parts.append(product @ self.coef * inner[:, i])
    return np.stack(parts, 1)

  def share(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Returns how large the terms with each variable are, [in].

    Root mean square on rows [n, in], with weights [n].
    """
    design = weights[:, None] * _design(self.powers, self._scale(x))
    return np.array([
        np.sqrt(np.mean((design[:, has] @ self.coef[has])**2))
        for has in (self.powers > 0).T])

  def mixed(self, x: np.ndarray) -> np.ndarray:
    """Returns how large the terms are in which two variables meet, [in, in].

    Root mean square on rows [n, in]; 0 on the diagonal.
    """
    values = _design(self.powers, self._scale(x)) * self.coef
    inputs = self.powers.shape[1]
    sizes = np.zeros((inputs, inputs))
    for i in range(inputs):
      for j in range(i):
        both = (self.powers[:, i] > 0) & (self.powers[:, j] > 0)
        sizes[i, j] = sizes[j, i] = np.sqrt(
            np.mean(values[:, both].sum(1)**2))
    return sizes

  def _scale(self, x: np.ndarray) -> np.ndarray:
    return _to_unit(_take_logs(x, self.logs), self.low, self.high)


def _take_logs(x: np.ndarray, logs: np.ndarray) -> np.ndarray:
  return np.where(logs, np.log(np.where(logs, x, 1)), x)


def _to_unit(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
  return 2 * (x - low) / (high - low) - 1


@functools.lru_cache(maxsize=64)
def terms(inputs: int, most: int) -> np.ndarray:
  """Returns the powers of all terms up to the greatest degree that has at most
  so many, [terms, in]."""
  degree = 1
  while (degree < _DEGREE
         and math.comb(inputs + degree + 1, inputs) <= most):
    degree += 1
  found = []
  for total in range(degree + 1):
    for bars in itertools.combinations(range(total + inputs - 1), inputs - 1):
      ends = (-1, *bars, total + inputs - 1)
      found.append([b - a - 1 for a, b in itertools.pairwise(ends)])
  return np.array(found)


def _tables(degree: int, u: np.ndarray) -> np.ndarray:
  """Returns the Legendre polynomials of each entry, [n, in, degree + 1]."""
  values = np.ones((*u.shape, degree + 1))
  if degree:
    values[..., 1] = u
  for k in range(1, degree):
    values[..., k + 1] = (
        (2 * k + 1) * u * values[..., k] - k * values[..., k - 1]) / (k + 1)
  return values


def _slopes(tables: np.ndarray) -> np.ndarray:
  """Returns the derivatives of Legendre polynomials from their values."""
  slopes = np.zeros_like(tables)
  for k in range(1, tables.shape[-1]):
    slopes[..., k] = (2 * k - 1) * tables[..., k - 1] + (
        slopes[..., k - 2] if k > 1 else 0)
  return slopes


def _design(powers: np.ndarray, u: np.ndarray) -> np.ndarray:
  tables = _tables(powers.max(initial=0), u)
  product = np.ones((len(u), len(powers)))
  for j in range(u.shape[1]):
    product *= tables[:, j, powers[:, j]]
  return product


def _triangle(
    design: np.ndarray, target: np.ndarray,
    exact: bool) -> tuple[np.ndarray, np.ndarray]:
  """Returns R of a QR decomposition, and Q^T of the target.

  The normal equations take a third of the time, and half of the digits.
  """
  if exact:
    q, r = np.linalg.qr(design)
    return r, q.T @ target
  normal = design.T @ design
  normal[np.diag_indices_from(normal)] *= 1 + 1e-13
  try:
    r = linalg.cholesky(normal)
  except linalg.LinAlgError:
    q, r = np.linalg.qr(design)
    return r, q.T @ target
  return r, linalg.solve_triangular(r, design.T @ target, trans='T')


def fit(
    x: np.ndarray, y: np.ndarray, weights: np.ndarray, train: np.ndarray,
    held_out: np.ndarray, *, logs: bool = True,
    most: int = MOST) -> Surface | None:
  """Fits a surface; the degree is the best on the rows that were held out.

  Args:
    x: Inputs, [n, in]; no column is constant.
    y: Targets, [n].
    weights: Weights of the errors, [n].
    train: Numbers of the rows to fit.
    held_out: Numbers of the rows that choose the degree.
    logs: Whether positive inputs are taken as logarithms.
    most: Greatest number of terms.

  Returns:
    The surface; None where something is not finite.
  """
  taken = (x.min(0) > 0) & logs
  z = _take_logs(x, taken)
  low, high = z.min(0), z.max(0)
  sound = np.isfinite(z).all() and np.isfinite(y * weights).all()
  if not sound or (high <= low).any():
    return None
  powers = terms(x.shape[1], min(most, int(_SHARE * len(train))))
  design = _design(powers, _to_unit(z, low, high))
  r, projected = _triangle(
      weights[train, None] * design[train], (weights * y)[train],
      x.shape[1] < _INEXACT)
  if np.abs(np.diag(r)).min() < 1e-12 * np.abs(r[0, 0]):
    return None
  best: Surface | None = None
  totals = powers.sum(1)
  for degree in range(1, totals.max() + 1):
    count = int((totals <= degree).sum())
    coef = linalg.solve_triangular(r[:count, :count], projected[:count])
    errors = weights[held_out] * (
        y[held_out] - design[held_out, :count] @ coef)
    error = float(np.sqrt(np.mean(errors**2)))
    if best is None or error < 0.98 * best.error:
      best = Surface(powers[:count], coef, low, high, taken, error)
  return best


def basis(x: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns orthonormal polynomials on some rows, with their degrees.

  Args:
    x: Inputs, [n, in].
    most: Greatest number of terms.

  Returns:
    Degree of each term in each variable, [terms, in], and values, [n, terms].
  """
  powers = terms(x.shape[1], most)
  q, _ = np.linalg.qr(_design(powers, _to_unit(x, x.min(0), x.max(0))))
  return powers, q
