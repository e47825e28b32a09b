"""Which rows each step of a fit reads."""

from collections.abc import Iterator
import itertools

import jax
import numpy as np


class Batches:
  """Row numbers for each step: of all rows, or of shuffled batches.

  Attributes:
    data: Arrays that the row numbers index.
  """

  def __init__(
      self, data: tuple[jax.Array, jax.Array], batch_size: int | None,
      key: jax.Array | None):
    n = len(data[0])
    self._stream: Iterator[np.ndarray]
    if batch_size is None:
      self.data = data[0][None], data[1][None]  # A single batch.
      self._stream = itertools.repeat(np.zeros((), np.int32))
      return
    if not 1 <= batch_size <= n or key is None:
      raise ValueError(
          f'`batch_size` lies in 1 to the {n} rows and needs a `key`; got '
          f'{batch_size} and {"no key" if key is None else "a key"}.')
    self.data = data
    self._stream = _shuffle(key, n, batch_size)

  def next(self, count: int) -> np.ndarray:
    """Returns the indices of the next batches, [count, ...]."""
    return np.stack(list(itertools.islice(self._stream, count)))


def _shuffle(key: jax.Array, n: int, size: int) -> Iterator[np.ndarray]:
  """Yields [size] row numbers without end, each row once in every pass."""
  rest = np.zeros(0, np.int32)  # Rows of the last pass, not yet yielded.
  for epoch in itertools.count():
    order = jax.random.permutation(jax.random.fold_in(key, epoch), n)
    rest = np.concatenate([rest, np.asarray(order, np.int32)])
    while len(rest) >= size:
      yield rest[:size]
      rest = rest[size:]
