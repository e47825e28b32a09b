"""Tables before the fit: equal rows joined, columns standardized, parts dealt.
"""

from typing import Any

import numpy as np
from sklearn import preprocessing
from sklearn.utils import validation

_FAR = 1e6  # Standard deviations: what lies beyond is all the same.
_ROUNDINGS = 16  # A deviation of so many roundings of a column counts as none.


def check_weights(sample_weight: Any, x: np.ndarray) -> np.ndarray:
  """Returns weights [n], 1 by default; raises a ValueError for bad ones."""
  weight = validation._check_sample_weight(
      sample_weight, x, dtype=np.float64, ensure_non_negative=True)
  if not weight.any():
    raise ValueError('`sample_weight` has a weight > 0; here all are zero.')
  return weight


def join_rows(
    rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sorts rows, joins equal ones and leaves out those without weight."""
  counted = weight > 0
  rows, index = np.unique(rows[counted], axis=0, return_inverse=True)
  return rows, np.bincount(index.reshape(-1), weight[counted])


def find_moments(
    rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and standard deviation of each column, two arrays [columns].

  A constant column has its own value as the mean, to the bit, and 1 as the
  deviation. So has one whose deviation is rounding, no more than that.

  Args:
    rows: Finite numbers of any size, [n, columns], float64.
    weight: Weights of the rows, [n], > 0.
  """
  size = np.abs(rows).max(0)
  # Squares overflow beyond 1e154 and vanish below 1e-162. Division by powers of
  # two is exact, and so is the difference from a row for a constant column.
  exponent = np.frexp(size)[1]
  near_one = np.ldexp(rows, -exponent)
  scaler = preprocessing.StandardScaler().fit(
      near_one - near_one[0], sample_weight=weight / weight.max())
  mean = np.ldexp(near_one[0] + scaler.mean_, exponent)
  std = np.ldexp(np.sqrt(scaler.var_), exponent)
  # Not the `scale_` of scikit-learn: for it, what counts as rounding grows with
  # the number of rows, and many rows far from zero would be a constant.
  rounding = _ROUNDINGS * np.finfo(np.float64).eps * size
  return mean, np.where(std > rounding, std, np.maximum(rounding, 1))


def standardize(
    rows: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
  """Returns (rows - mean) / std, and at most 1e6 on both sides of zero."""
  # By powers of two, so that no difference of large numbers overflows.
  exponent = np.frexp(std)[1]
  with np.errstate(over='ignore'):
    near_one = np.ldexp(rows, -exponent) - np.ldexp(mean, -exponent)
  return np.clip(near_one / np.ldexp(std, -exponent), -_FAR, _FAR)


def restore(
    standardized: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
  """Returns standardized * std + mean; at most the largest float64."""
  exponent = np.frexp(std)[1]
  near_one = standardized * np.ldexp(std, -exponent) + np.ldexp(mean, -exponent)
  largest = np.finfo(np.float64).max
  with np.errstate(over='ignore'):
    return np.clip(np.ldexp(near_one, exponent), -largest, largest)


def deal_parts(
    strata: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
  """Deals the rows of each stratum out to parts of equal size, [n].

  Not by scikit-learn's `StratifiedKFold`, which refuses tables with fewer rows
  of each class than parts, and warns of each class with fewer.

  Args:
    strata: Class of each row, [n]; one for all rows without classes.
    count: Number of parts.
    random: Source of the order.
  """
  order = np.lexsort((random.random(len(strata)), strata))
  part = np.empty(len(strata), int)
  part[order] = np.arange(len(strata)) % count
  return part
