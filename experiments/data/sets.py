"""Data sets: MNIST from this repository, others from tfds or files."""

from collections.abc import Callable
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


Split = sources.Split


# Of the number of rows in a split, which ones to hold.
Share = Callable[[int], slice]


class Dataset(NamedTuple):
  """Examples in memory.

  Attributes:
    train: Training examples, or this process's share of them.
    test: Test examples, likewise.
    classes: How many classes they have.
    sizes: Examples of both splits in all processes; None if these are all.
  """
  train: Split
  test: Split
  classes: int
  sizes: tuple[int, int] | None = None

  @property
  def shape(self) -> tuple[int, ...]:
    """Of one input."""
    return self.train.images.shape[1:]


def load(name: str, data_dir: str | None = None) -> Dataset:
  """Loads a set of 28 x 28 images; see `open_set`.

  Raises:
    cli.UsageError: If the set cannot be had, a file of it is damaged, or the
      images are others.
  """
  found = open_set(name, data_dir)
  if found.shape != (28, 28):
    raise cli.UsageError(
        f'--dataset={name} is not a classification set of 28 x 28 x 1 images; '
        f'an input has the shape {list(found.shape)}')
  return read(found)


def open_set(name: str, data_dir: str | None = None) -> sources.Set:
  """Opens a data set, without reading more of it than it must.

  Args:
    name: 'mnist', a folder of ArrayRecord files, or the name that
      tensorflow_datasets has for another classification set.
    data_dir: Where tensorflow_datasets keeps its sets; None is its default.

  Raises:
    cli.UsageError: If the set cannot be had, or a file of it is damaged.
  """
  if name == 'mnist':
    mnist = load_mnist(MNIST_DIR)
    return sources.Set(sources.Arrays(mnist.train), sources.Arrays(mnist.test),
                       mnist.classes, mnist.shape, 'uint8')
  if (pathlib.Path(name) / sources.INFO).exists():
    return sources.open_records(pathlib.Path(name))
  return sources.open_tfds(name, data_dir)


def read(
    found: sources.Set,
    share: Share = lambda size: slice(0, size)) -> Dataset:
  """Reads a set into memory, or a share of it."""
  def part(source):
    rows = share(len(source))
    if isinstance(source, sources.Arrays):
      return Split(*(array[rows] for array in source.split))
    return source.read(np.arange(rows.start, rows.stop))

  return Dataset(part(found.train), part(found.test), found.classes,
                 (len(found.train), len(found.test)))


def check(dataset: Dataset) -> None:
  """Raises a UsageError unless inputs are finite and labels are classes."""
  check_split('training', dataset.train, dataset.classes)
  check_split('test', dataset.test, dataset.classes)


def check_split(name: str, split: Split, classes: int) -> None:
  """Does so for one split, or a part of it."""
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
  def split(prefix, size):
    images = _read(directory / f'{prefix}-images-idx3-ubyte.gz', (size, 28, 28))
    labels = _read(directory / f'{prefix}-labels-idx1-ubyte.gz', (size,))
    return sources.as_split(images, labels)

  return Dataset(split('train', 60_000), split('t10k', 10_000), 10)


def _read(path: pathlib.Path, shape: tuple[int, ...]) -> np.ndarray:
  """Reads one archive: IDX bytes, gzipped."""
  try:
    packed = path.read_bytes()
  except OSError as error:
    raise cli.UsageError(f'cannot read {path}: {error.strerror}') from error
  if hashlib.sha256(packed).hexdigest() != _CHECKSUMS[path.name]:
    raise cli.UsageError(
        f'{path} is not the original MNIST archive of that name: its checksum '
        'differs. It may be damaged or swapped; restore it, for example with '
        'git checkout')
  # Past the checksum the header is known: a magic number, then the axes.
  raw = gzip.decompress(packed)
  return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(shape)).reshape(shape)
