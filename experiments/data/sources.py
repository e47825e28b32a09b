"""Sets of examples that are read by number: arrays, tfds, ArrayRecord files."""

from collections.abc import Callable
import importlib.util
import json
import pathlib
from typing import Any
from typing import NamedTuple
from typing import Protocol

import numpy as np

from experiments import cli

INFO = 'info.json'
LABEL = np.dtype('<i4')


class Split(NamedTuple):
  """Inputs, [n, ...] float32, images in [0, 1], and labels, [n] int32."""
  images: np.ndarray
  labels: np.ndarray


class Source(Protocol):
  """Examples with random access."""

  def __len__(self) -> int: ...

  def read(self, numbers: np.ndarray) -> Split:
    """Returns examples by their numbers, [n]."""


class Set(NamedTuple):
  """A set for classification.

  Attributes:
    train: Its training examples.
    test: Its test examples.
    classes: Number of classes.
    shape: Shape of one input.
    dtype: Type of the stored inputs: 'uint8', where 255 stands for 1, or
      'float32'.
  """
  train: Source
  test: Source
  classes: int
  shape: tuple[int, ...]
  dtype: str


def as_split(inputs: np.ndarray, labels: np.ndarray) -> Split:
  """Scales bytes to [0, 1] and leaves other inputs as they are."""
  if inputs.dtype == np.uint8:
    return Split(inputs / np.float32(255), labels.astype(np.int32))
  return Split(inputs.astype(np.float32), labels.astype(np.int32))


class Arrays:
  """Examples in memory."""

  def __init__(self, split: Split):
    self._split = split

  @property
  def split(self) -> Split:
    """The examples."""
    return self._split

  def __len__(self) -> int:
    return len(self.split.labels)

  def read(self, numbers: np.ndarray) -> Split:
    """See `Source`."""
    return Split(*(part[numbers] for part in self.split))


class Part:
  """Some examples of a source, one after the other."""

  def __init__(self, source: Source, start: int, stop: int):
    self._source, self._rows = source, range(len(source))[start:stop]

  def __len__(self) -> int:
    return len(self._rows)

  def read(self, numbers: np.ndarray) -> Split:
    """See `Source`."""
    return self._source.read(numbers + self._rows.start)


def hold_out(source: Set, count: int) -> Set:
  """Returns a set whose last training examples take the place of its test.

  Args:
    source: The set; its test examples are left out.
    count: How many training examples; with 0 the set stays as it is.

  Raises:
    cli.UsageError: If none would be left to train on.
  """
  if not count:
    return source
  size = len(source.train)
  if count >= size:
    raise cli.UsageError(
        f'--holdout={count} leaves none of the {size} training examples')
  return source._replace(train=Part(source.train, 0, size - count),
                         test=Part(source.train, size - count, size))


class _Tfds:
  """A split of a prepared set."""

  def __init__(self, name: str, source: Any, key: str, shape: tuple[int, ...]):
    self._name, self._source = name, source
    self._key, self._shape = key, shape

  def __len__(self) -> int:
    return len(self._source)

  def read(self, numbers: np.ndarray) -> Split:
    """See `Source`."""
    return _ask(self._name, lambda: self._read(numbers))

  def _read(self, numbers: np.ndarray) -> Split:
    get = getattr(self._source, '__getitems__', None)
    rows = get(numbers.tolist()) if get else [
        self._source[i] for i in numbers.tolist()]
    inputs = np.stack([row[self._key] for row in rows])
    return as_split(inputs.reshape(-1, *self._shape),
                    np.array([row['label'] for row in rows]))


def _ask(name: str, call: Callable):
  """Calls tfds; makes one line, with the way out, of any error."""
  try:
    return call()
  except Exception as error:  # tfds raises errors of many kinds.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise cli.UsageError(
        f'--dataset={name} cannot be had: {reason[:200]} (a set that is not '
        'prepared yet needs a network and TensorFlow once: pip install -e '
        "'.[tfds]'; name the folder of a prepared one with --data_dir)"
    ) from error


def open_tfds(name: str, data_dir: str | None) -> Set:
  """Opens a set of tensorflow_datasets; prepares it where that is possible.

  Args:
    name: Name of a set with a label and an image of a fixed size or, in a
      table, the numbers `features`.
    data_dir: Folder of tensorflow_datasets; None is its default.

  Raises:
    cli.UsageError: If the set cannot be had.
  """
  try:
    import tensorflow_datasets as tfds  # Slow to import, seldom needed.
  except ImportError as error:
    raise cli.UsageError(
        f"--dataset={name} needs tensorflow_datasets: pip install -e '."
        "[experiments]'") from error
  builder = _ask(name, lambda: tfds.builder(
      name, data_dir=data_dir, file_format='array_record'))
  features = dict((builder.info.features or {}).items())
  key = 'image' if 'image' in features else 'features'
  shape = getattr(features.get(key), 'shape', None)
  if not shape or None in shape or 'label' not in features:
    raise cli.UsageError(
        f'--dataset={name} is not a classification set with a label and an '
        'image of one size or a vector of features')
  if key == 'image' and shape[-1] == 1:
    shape = shape[:-1]
  if not builder.is_prepared():
    _prepare(name, builder)
  train, test = (
      _Tfds(name, _ask(name, lambda split=split: builder.as_data_source(split)),
            key, shape) for split in ('train', 'test'))
  dtype = 'uint8' if key == 'image' else 'float32'
  return Set(train, test, features['label'].num_classes, shape, dtype)


def _prepare(name: str, builder: Any) -> None:
  if importlib.util.find_spec('tensorflow') is None:
    raise cli.UsageError(  # Else it would download first, and fail then.
        f'--dataset={name} is not prepared in {builder.data_dir}; preparing '
        "it takes TensorFlow once: pip install -e '.[tfds]', or name the "
        'folder of a prepared one with --data_dir')
  _ask(name, builder.download_and_prepare)


class _Records:
  """A split in ArrayRecord files; see `open_records`."""

  def __init__(
      self, folder: pathlib.Path, split: str, shape: tuple[int, ...],
      dtype: str):
    import grain  # Optional.
    files = sorted(folder.glob(f'{split}*.array_record'))
    if not files:
      raise FileNotFoundError(f'there is no {split}*.array_record')
    self._source = grain.sources.ArrayRecordDataSource(
        [str(file) for file in files])
    self._name, self._shape = folder / split, shape
    self._dtype = np.dtype(dtype).newbyteorder('<')

  def __len__(self) -> int:
    return len(self._source)

  def read(self, numbers: np.ndarray) -> Split:
    """See `Source`."""
    try:
      rows = self._source.__getitems__(numbers.tolist())
    except (OSError, RuntimeError, ValueError, IndexError) as error:
      raise cli.UsageError(
          f'{self._name} cannot be read, it may be damaged: {error}') from error
    size = int(np.prod(self._shape)) * self._dtype.itemsize + LABEL.itemsize
    wrong = {len(row) for row in rows} - {size}
    if wrong:
      raise cli.UsageError(
          f'{self._name} has a record of {min(wrong)} bytes; by its {INFO} it '
          f'needs {size}, a label and {list(self._shape)} of {self._dtype}')
    table = np.frombuffer(b''.join(rows), np.uint8).reshape(len(rows), size)
    labels, inputs = np.split(table, [LABEL.itemsize], axis=1)
    inputs = np.ascontiguousarray(inputs).view(self._dtype)
    return as_split(inputs.reshape(-1, *self._shape),
                    np.ascontiguousarray(labels).view(LABEL)[:, 0])


def open_records(folder: pathlib.Path) -> Set:
  """Opens a folder of ArrayRecord files.

  Args:
    folder: It holds train*.array_record, test*.array_record and info.json with
      the `shape` and `dtype` of an input and the number of `classes`. A record
      is a label, int32, and then the input, all in little-endian order.

  Raises:
    cli.UsageError: If anything of this is missing or damaged.
  """
  try:
    info = json.loads((folder / INFO).read_text())
    shape, dtype = tuple(map(int, info['shape'])), str(info['dtype'])
    if dtype not in ('uint8', 'float32'):
      raise ValueError(f'its dtype is {dtype}, not uint8 or float32')
    train, test = (
        _Records(folder, split, shape, dtype) for split in ('train', 'test'))
    return Set(train, test, int(info['classes']), shape, dtype)
  except ImportError as error:
    raise cli.UsageError(
        f"--dataset={folder} needs Grain: pip install -e '.[grain]'"
    ) from error
  except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
    raise cli.UsageError(
        f'--dataset={folder} is no folder of ArrayRecord files that this '
        f'program knows: {error}') from error
