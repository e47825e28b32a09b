"""Where a run takes its batches from: the device's memory, or files.

Both give the same batches in the same order.
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
import numpy as np

from experiments import cli
from experiments.data import sets
from experiments.data import sources
from kan_jax.training import sharding

# Bytes of a chunk that is read at once: enough for the overhead not to count.
_BYTES = 2**24


class Chunk(NamedTuple):
  """Batches that are on the device.

  Attributes:
    data: Images and labels, [n, ...].
    rows: The rows of each batch, [batches, batch]. Where `data` are batches
      already, [n, batch, ...], the number of each batch, [batches].
    start: Number of the first batch in the epoch.
    stop: Number of the last batch, plus one. `rows` may hold more batches.
  """
  data: tuple[jax.Array, jax.Array]
  rows: Any
  start: int
  stop: int


class Feed(Protocol):
  """The examples of one split."""

  def __len__(self) -> int: ...

  def chunks(
      self, order: np.ndarray, batch_size: int,
      done: int = 0) -> Iterator[Chunk]:
    """Yields an epoch's batches. It may leave out some of the first `done`.

    Args:
      order: Numbers of all examples, [n].
      batch_size: Examples in a batch; the last batch may be shorter, and is
        then a chunk by itself.
      done: Number of batches at the start that are not needed.
    """

  def take(self, numbers: Any) -> tuple[jax.Array, jax.Array]:
    """Returns examples by their numbers."""

  def first(self, count: int) -> jax.Array:
    """Returns at least the first images."""

  def evaluate(self, evaluate: Callable, variables: Any) -> float:
    """Returns the accuracy on all examples, which `evaluate` computes."""


class Held:
  """Examples that the devices hold, each a part of them."""

  def __init__(
      self, split: sets.Split, size: int, placement: sharding.Placement):
    """Takes the rows of this process, of `size` rows in all."""
    self._data = (placement.put_rows(split.images, size),
                  placement.put_rows(split.labels, size))
    self._size = size
    self._everywhere = placement.everywhere

  def __len__(self) -> int:
    return self._size

  def chunks(
      self, order: np.ndarray, batch_size: int,
      done: int = 0) -> Iterator[Chunk]:
    """See `Feed`."""
    whole, size = divmod(len(order), batch_size)
    size = len(order) - size
    if done < whole:
      yield Chunk(
          self._data, self._put(order[:size].reshape(-1, batch_size)), 0, whole)
    if size < len(order):
      yield Chunk(self._data, self._put(order[size:][None]), whole, whole + 1)

  def _put(self, rows: np.ndarray) -> jax.Array:
    return jax.device_put(rows, self._everywhere)

  def take(self, numbers: Any) -> tuple[jax.Array, jax.Array]:
    """See `Feed`."""
    images, labels = self._data
    return images[numbers], labels[numbers]

  def first(self, count: int) -> jax.Array:
    """See `Feed`."""
    del count
    return self._data[0]

  def evaluate(self, evaluate: Callable, variables: Any) -> float:
    """See `Feed`."""
    return float(evaluate(variables, self._data, self._size)['accuracy'])


def shape_of_held(
    size: int, shape: tuple[int, ...], placement: sharding.Placement) -> tuple[
        jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
  """Returns the shapes of the data in the chunks of a `Held`.

  Args:
    size: Its number of examples.
    shape: Shape of one input.
    placement: The devices.
  """
  return (placement.shape_of_rows((size, *shape), np.float32),
          placement.shape_of_rows((size,), np.int32))


def shapes_of_batches(
    size: int, batch_size: int,
    placement: sharding.Placement) -> list[jax.ShapeDtypeStruct]:
  """Returns the shapes of the rows in the chunks of a `Held`."""
  whole, left = divmod(size, batch_size)
  return [jax.ShapeDtypeStruct(shape, np.int32, sharding=placement.everywhere)
          for shape in ((whole, batch_size), (1, left)) if all(shape)]


class Streamed:
  """Examples that are read, and checked, as they are needed.

  Each process reads the rows that its devices hold.
  """

  def __init__(
      self, name: str, source: sources.Source, classes: int,
      placement: sharding.Placement):
    from kan_jax.training import streaming  # Grain is optional.
    self._source, self._placement = source, placement
    self._check = functools.partial(
        sets.check_split, name, classes=classes)
    if not len(source):
      raise cli.UsageError(
          f'the data set cannot be used: it has no {name} examples')
    first = source.read(np.arange(1))
    self._check(first)
    self._none = sets.Split(*(part[:0] for part in first))
    self._most = max(1, _BYTES // first.images.nbytes)  # Rows in a chunk.
    self._chunks = functools.partial(
        streaming.chunks, self._read, placement=placement)

  def __len__(self) -> int:
    return len(self._source)

  def _read(self, numbers: np.ndarray) -> sets.Split:
    if not numbers.size:  # A process may have none of a few rows.
      return self._none
    split = self._source.read(numbers)
    self._check(split)
    return split

  def chunks(
      self, order: np.ndarray, batch_size: int,
      done: int = 0) -> Iterator[Chunk]:
    """See `Feed`."""
    whole, left = divmod(len(order), batch_size)
    if done < whole:
      yield from self._whole_batches(
          order[:whole * batch_size].reshape(whole, batch_size), done)
    if left:
      for chunk in self._chunks(order[-left:], left):
        yield Chunk(chunk, np.arange(left)[None], whole, whole + 1)

  def _whole_batches(
      self, numbers: np.ndarray, done: int) -> Iterator[Chunk]:
    """Yields batches of these numbers, [batches, batch]."""
    total = len(numbers)
    size = _even(total, max(1, self._most // numbers.shape[1]))
    # All chunks have the same shape, for one program: the last is filled up.
    numbers = np.resize(
        numbers, (-(-total // size) * size, numbers.shape[1]))
    first = done // size
    chunks = self._chunks(numbers, size, start=first)
    starts = range(first * size, total, size)
    for start, chunk in zip(starts, chunks, strict=True):
      yield Chunk(chunk, np.arange(size), start, min(start + size, total))

  def take(self, numbers: Any) -> tuple[jax.Array, jax.Array]:
    """See `Feed`."""
    size = len(numbers)
    split = self._read(np.asarray(numbers)[self._placement.local_rows(size)])
    images, labels = (
        self._placement.put_rows(part, size)[:size] for part in split)
    return images, labels

  def first(self, count: int) -> jax.Array:
    """See `Feed`."""
    return self.take(np.arange(count))[0]

  def evaluate(self, evaluate: Callable, variables: Any) -> float:
    """See `Feed`."""
    total = len(self)
    size = _even(total, self._most)
    correct = 0.0
    chunks = self._chunks(np.arange(total), size)
    for start, chunk in zip(range(0, total, size), chunks, strict=True):
      rows = min(size, total - start)
      correct += rows * float(evaluate(variables, chunk, rows)['accuracy'])
    return correct / total


def _even(count: int, most: int) -> int:
  """Returns the size of nearly equal parts of `count`; at most `most`."""
  return -(-count // -(-count // most))


def open_feeds(
    dataset: sets.Dataset | sources.Set,
    placement: sharding.Placement) -> tuple[Feed, Feed]:
  """Returns the feeds of the training and the test examples.

  Raises:
    cli.UsageError: If they are to be read and Grain is missing, or what is
      seen of them cannot be used.
  """
  if isinstance(dataset, sets.Dataset):
    sets.check(dataset)
    train, test = dataset.sizes or (
        len(dataset.train.labels), len(dataset.test.labels))
    return (Held(dataset.train, train, placement),
            Held(dataset.test, test, placement))
  try:
    return (
        Streamed('training', dataset.train, dataset.classes, placement),
        Streamed('test', dataset.test, dataset.classes, placement))
  except ImportError as error:
    raise cli.UsageError(
        "--loader=grain needs Grain: pip install -e '.[grain]'") from error
