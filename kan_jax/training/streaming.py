"""Examples that need not fit into memory: Grain reads while devices compute.

Needs Grain: `pip install -e '.[grain]'` in a copy of the repository.
"""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np

from kan_jax.training import sharding

Reader = Callable[[np.ndarray], Any]  # From row numbers [n] to arrays [n, ...].


def chunks(
    read: Reader, order: np.ndarray, size: int, *, start: int = 0,
    ahead: int = 2, threads: int = 1,
    placement: sharding.Placement | None = None) -> Iterator[Any]:
  """Yields rows on the device, `size` at a time, in a given order.

  Background threads read and transfer the next chunks while the caller computes
  with this one. The chunks depend on the arguments alone, not on timing: to go
  on later, only the number of the next chunk is needed.

    for x, y in streaming.chunks(lambda rows: (images[rows], labels[rows]),
                                 np.random.permutation(len(images)), 10_000):
      ...

  Args:
    read: Function of row numbers [n] that returns a tree of numpy arrays
      [n, ...]. Threads call it, so it should change nothing.
    order: Numbers of all rows, [m], as from one shuffle of the whole set; or
      the numbers of the rows of all batches, [m, batch], which come as
      [size, batch, ...].
    size: Rows of a chunk, or batches; the last chunk may have fewer.
    start: Number of the first chunk. Those before it are not read.
    ahead: Number of chunks that are read ahead, and held in memory.
    threads: Number of chunks that are read at a time.
    placement: Devices over which rows, or the rows of each batch, are split;
      zeros follow the last rows where they cannot be split evenly. Of several
      processes, each reads only the rows that its devices hold.

  Raises:
    ValueError: If a number is out of range.
  """
  count = -(-len(order) // size) if size > 0 else 0
  if not count or not 0 <= start <= count or ahead < 1 or threads < 1:
    raise ValueError(
        '`order` needs rows, `size`, `ahead` and `threads` are 1 or more, and '
        f'`start` is one of the {count} chunks or their end; got {len(order)} '
        f'rows, {size}, {ahead}, {threads} and {start}.')
  if start == count:
    return iter(())
  dataset = grain.MapDataset.range(start, count).map(
      lambda i: _load(read, order[i * size:(i + 1) * size], placement))
  options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(ahead, threads))
  return _closing(iter(dataset.to_iter_dataset(options)))


def _load(
    read: Reader, numbers: np.ndarray,
    placement: sharding.Placement | None) -> Any:
  """Reads rows [n], or batches [n, batch], and puts them onto the devices."""
  size = numbers.shape[-1]
  if placement:
    numbers = numbers[..., placement.local_rows(size)]
  arrays = jax.tree.map(
      lambda a: a.reshape(*numbers.shape, *a.shape[1:]),
      read(numbers.reshape(-1)))
  if not placement:
    return jax.device_put(arrays)
  axis = numbers.ndim - 1
  return jax.tree.map(lambda a: placement.put_rows(a, size, axis), arrays)


def _closing(iterator: grain.DatasetIterator) -> Iterator[Any]:
  """Ends the threads where the iteration ends, early or not."""
  try:
    yield from iterator
  finally:
    iterator.close()
