"""Data sets: MNIST from this repository, others from tfds or files."""

from collections.abc import Callable
import functools
import gzip
import hashlib
import pathlib
from typing import NamedTuple

import numpy as np

from experiments import cli
from experiments.data import sources
from kan_jax import checks

MNIST_DIR = pathlib.Path(__file__).parent / 'mnist'

# SHA-256 of the original archives; tensorflow-datasets records the same.
_CHECKSUMS = {
    'train-images-idx3-ubyte.gz':
        '440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609',
    'train-labels-idx1-ubyte.gz':
        '3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c',
    't10k-images-idx3-ubyte.gz':
        '8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6',
    't10k-labels-idx1-ubyte.gz':
        'f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6',
}

_MNIST = ('train', 60_000), ('t10k', 10_000)  # Its splits and their sizes.

Split = sources.Split


# Maps the number of rows in a split to the rows that are kept.
Share = Callable[[int], slice]


class Dataset(NamedTuple):
  """Examples in memory.

  Attributes:
    train: Training examples, or this process's share of them.
    test: Test examples, or this process's share of them.
    classes: Number of classes.
    sizes: Number of examples of both splits in all processes together; None if
      this process has them all.
  """
  train: Split
  test: Split
  classes: int
  sizes: tuple[int, int] | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """Shape of one input."""
    return self.train.images.shape[1:]


def load(
    name: str, data_dir: str | None = None, holdout: int = 0) -> Dataset:
  """Loads a set of 28 x 28 images; see `open_set`.

  Raises:
    cli.UsageError: If the set cannot be had, a file of it is damaged, or an
      input has another shape.
  """
  source = open_set(name, data_dir, holdout)
  if source.shape != (28, 28):
    raise cli.UsageError(
        f'--dataset={name} is not a classification set of 28 x 28 x 1 images; '
        f'an input has the shape {list(source.shape)}')
  return read(source)


def open_set(
    name: str, data_dir: str | None = None, holdout: int = 0) -> sources.Set:
  """Opens a data set, without reading more of it than it must.

  Args:
    name: 'mnist', a folder of ArrayRecord files, or the name of another
      classification set in tensorflow_datasets.
    data_dir: Folder of tensorflow_datasets; None is its default.
    holdout: Training examples that take the place of the test examples.

  Raises:
    cli.UsageError: If the set cannot be had, or a file of it is damaged.
  """
  return sources.hold_out(_open(name, data_dir), holdout)


def _open(name: str, data_dir: str | None) -> sources.Set:
  if name == 'mnist':
    train, test = (_Archives(MNIST_DIR, *split) for split in _MNIST)
    return sources.Set(train, test, 10, (28, 28), 'uint8')
  try:
    is_folder = (pathlib.Path(name) / sources.INFO).exists()
  except OSError as error:  # For a name of 300 characters, say.
    raise cli.UsageError(
        f'--dataset={name} cannot be had: {error.strerror}') from error
  if is_folder:
    return sources.open_records(pathlib.Path(name))
  return sources.open_tfds(name, data_dir)


def read(
    source: sources.Set,
    share: Share = lambda size: slice(0, size)) -> Dataset:
  """Reads a set into memory, or a share of it."""
  def part(split):
    rows = share(len(split))
    if isinstance(split, sources.Arrays):
      return Split(*(array[rows] for array in split.split))
    return split.read(np.arange(rows.start, rows.stop))

  return Dataset(part(source.train), part(source.test), source.classes,
                 (len(source.train), len(source.test)))


def check(dataset: Dataset) -> None:
  """Raises a UsageError unless inputs are finite and labels are classes."""
  check_split('training', dataset.train, dataset.classes)
  check_split('test', dataset.test, dataset.classes)


def check_split(name: str, split: Split, classes: int) -> None:
  """Raises a UsageError unless a split, or a part of one, can be used."""
  try:
    checks.check_rows(f'{name} images', split.images)
    checks.check_labels(f'{name} labels', split.labels, classes)
  except ValueError as error:
    raise cli.UsageError(f'the data set cannot be used: {error}') from error
  if len(split.labels) != len(split.images):
    raise cli.UsageError(
        f'the {name} set needs a label for each image; it has '
        f'{len(split.images)} images and {len(split.labels)} labels')


def load_mnist(directory: pathlib.Path) -> Dataset:
  """Loads the four original MNIST archives after checking each one."""
  train, test = (_Archives(directory, *split).split for split in _MNIST)
  return Dataset(train, test, 10)


class _Archives(sources.Arrays):
  """A split of MNIST: two archives, unpacked when their examples are used."""

  def __init__(self, directory: pathlib.Path, prefix: str, size: int):
    """Reads and checks the archives, which is quick."""
    self._size = size
    self._images = _read(directory / f'{prefix}-images-idx3-ubyte.gz')
    self._labels = _read(directory / f'{prefix}-labels-idx1-ubyte.gz')

  @functools.cached_property
  def split(self) -> Split:
    """The examples."""
    return sources.as_split(_unpack(self._images, (self._size, 28, 28)),
                            _unpack(self._labels, (self._size,)))

  def __len__(self) -> int:
    return self._size


def _read(path: pathlib.Path) -> bytes:
  """Reads one archive."""
  try:
    packed = path.read_bytes()
  except OSError as error:
    raise cli.UsageError(f'cannot read {path}: {error.strerror}') from error
  if hashlib.sha256(packed).hexdigest() != _CHECKSUMS[path.name]:
    raise cli.UsageError(
        f'{path} is not the original MNIST archive of that name: its checksum '
        'differs. It may be damaged or swapped; restore it, for example with '
        'git checkout')
  return packed


def _unpack(packed: bytes, shape: tuple[int, ...]) -> np.ndarray:
  """Returns what is in an archive: IDX bytes, gzipped."""
  # Past the checksum the header is known: a magic number, then the axes.
  raw = gzip.decompress(packed)
  return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
