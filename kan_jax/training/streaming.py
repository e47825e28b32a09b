"""Examples that need not fit into memory: read by Grain while others compute.

Needs Grain: pip install 'kan_jax[grain]'.
"""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np

from kan_jax.training import sharding

Reader = Callable[[np.ndarray], Any]  # Of row numbers [n], arrays [n, ...].


def chunks(
    read: Reader, order: np.ndarray, size: int, *, start: int = 0,
    ahead: int = 2, threads: int = 1,
    layout: sharding.Layout | None = None) -> Iterator[Any]:
  """Yields rows on the device, `size` at a time, in a given order.

  Background threads read and transfer the next chunks while the caller computes
  with this one. What comes out depends on the arguments alone, not on timing:
  the number of a chunk is all there is to know to go on later.

  Args:
    read: Of row numbers [n], a tree of numpy arrays [n, ...]. Threads call it,
      so it should change nothing.
    order: Numbers of all rows, [m], as from one shuffle of the whole set; or of
      the rows of all batches, [m, batch], which come as [size, batch, ...].
    size: Rows of a chunk, or batches; the last one may have fewer.
    start: The chunk to begin with. Those before it are not read.
    ahead: How many chunks are read ahead; so many more are held in memory.
    threads: How many chunks are read at a time.
    layout: Of many devices: rows, or those of each batch, are split over them,
      with zeros after the last ones where they cannot be split evenly. Of
      several processes, each reads only the rows that its devices hold.

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
      lambda i: _load(read, order[i * size:(i + 1) * size], layout))
  options = grain.ReadOptions(
      num_threads=threads, prefetch_buffer_size=max(ahead, threads))
  return _closing(iter(dataset.to_iter_dataset(options)))


def _load(
    read: Reader, numbers: np.ndarray, layout: sharding.Layout | None) -> Any:
  """Reads rows [n], or batches [n, batch], and puts them onto the devices."""
  size = numbers.shape[-1]
  if layout:
    numbers = numbers[..., layout.local_rows(size)]
  found = jax.tree.map(
      lambda a: a.reshape(*numbers.shape, *a.shape[1:]),
      read(numbers.reshape(-1)))
  if not layout:
    return jax.device_put(found)
  axis = numbers.ndim - 1
  return jax.tree.map(lambda a: layout.put_rows(a, size, axis), found)


def _closing(iterator: grain.DatasetIterator) -> Iterator[Any]:
  """Ends the threads where the iteration ends, early or not."""
  try:
    yield from iterator
  finally:
    iterator.close()
