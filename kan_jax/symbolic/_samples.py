"""Samples of edges in normalized units, a few edges at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

# How many samples each stage of the search looks at: the grid and the first
# steps, the second steps, the last steps.
STAGES = (64, 512, 2**17)
_CHUNK = 8  # Edges at a time.


class Samples(NamedTuple):
  """Samples of a chunk of edges; the edges come first in every array.

  Attributes:
    edges: Number of edges. Further ones fill the chunk: another size would
      compile again.
    x: Inputs in float64, [edges, n].
    given: Inputs in the dtype they came in, [edges, n].
    u: Inputs on [-1, 1], [edges, n].
    v: Outputs with mean 0 and deviation 1, or all 0, [edges, n].
    limit: Greatest steepness to start from, [edges].
    centre: Middle of the inputs' range, [edges].
    half: Half its width; 1 if they are all the same, [edges].
    mean: Mean of the outputs, [edges].
    std: Standard deviation of the outputs; 1 if they are constant, [edges].
    thinned: u and v of the samples that each of the three stages looks at.
  """
  edges: int
  x: np.ndarray
  given: np.ndarray
  u: np.ndarray
  v: np.ndarray
  limit: np.ndarray
  centre: np.ndarray
  half: np.ndarray
  mean: np.ndarray
  std: np.ndarray
  thinned: tuple[tuple[np.ndarray, np.ndarray], ...]


def chunks(
    x: np.ndarray | jax.Array, y: np.ndarray | jax.Array) -> Iterator[Samples]:
  """Yields the samples of a few edges at a time, for `affine_fit.fit_chunk`.

  Args:
    x: Inputs of each edge, [n, edges], n >= 1.
    y: Outputs of each edge, [n, edges].

  Raises:
    ValueError: If `x` and `y` differ in shape, are empty or not finite.
  """
  shape = np.shape(x)
  if len(shape) != 2 or not all(shape) or shape != np.shape(y):
    raise ValueError(
        '`x` and `y` need the same shape [n, edges], neither of them 0; got '
        f'{shape} and {np.shape(y)}.')
  x, y = _floating(x), _floating(y)
  if not (np.isfinite(x).all() and np.isfinite(y).all()):
    raise ValueError('`x` and `y` need finite numbers; got NaN or infinity.')
  edges = shape[1]
  size = 1 if edges == 1 else _CHUNK
  for start in range(0, edges, size):
    columns = np.minimum(np.arange(start, start + size), edges - 1)
    yield _normalize(
        min(size, edges - start), x[:, columns].T, y[:, columns].T)


def _normalize(edges: int, given: np.ndarray, y: np.ndarray) -> Samples:
  """Brings inputs and outputs, both [edges, n], to their normalized units."""
  wide = given.astype(np.float64)
  low, high = wide.min(1), wide.max(1)
  centre, half = low + (high - low) / 2, (high - low) / 2
  half = np.where(half > 0, half, 1)
  u = (wide - centre[:, None]) / half[:, None]
  limit = np.array([_resolved(row) for row in u])
  v, mean, std = _standardize(y)
  thinned = tuple(_thin(u, v, rows) for rows in STAGES)
  return Samples(
      edges, wide, given, u, v, limit, centre, half, mean, std, thinned)


def _floating(values) -> np.ndarray:
  values = np.asarray(values)
  if np.issubdtype(values.dtype, np.floating):
    return values
  return values.astype(np.float64)


def _standardize(y):
  """Returns y with mean 0 and deviation 1, all 0 if constant; mean and std."""
  eps = np.finfo(y.dtype).eps
  y = y.astype(np.float64)
  mean, std = y.mean(1), y.std(1)
  varies = std > 4 * eps * np.abs(y).max(1)
  std = np.where(varies, std, 1)
  return varies[:, None] * (y - mean[:, None]) / std[:, None], mean, std


def _resolved(u: np.ndarray) -> float:
  """The greatest frequency that samples of u tell from a lower one."""
  return max(np.pi / 2 * (len(np.unique(u)) - 1), 1.0)


def _thin(
    u: np.ndarray, v: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
  """u and v of at most that many samples, evenly over sorted u, with ends."""
  n = u.shape[1]
  if n <= most:
    return u, v
  rows = np.linspace(0, n - 1, most).round().astype(int)
  rows = np.argsort(u, 1, kind='stable')[:, rows]
  return np.take_along_axis(u, rows, 1), np.take_along_axis(v, rows, 1)
