"""Sets of 28 x 28 images: MNIST from this repository, others from tfds."""

from collections.abc import Callable
import gzip
import hashlib
import importlib.util
import pathlib
from typing import NamedTuple

import numpy as np

from experiments import cli
from kan_jax import checks

MNIST_DIR = pathlib.Path(__file__).parent / 'data' / 'mnist'

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


class Split(NamedTuple):
  """Images in [0, 1], [n, 28, 28] float32, and labels, [n] int32."""
  images: np.ndarray
  labels: np.ndarray


class Dataset(NamedTuple):
  """Training and test examples, and how many classes they have."""
  train: Split
  test: Split
  classes: int


def load(name: str, data_dir: str | None = None) -> Dataset:
  """Loads a data set.

  Args:
    name: 'mnist', or the tensorflow_datasets name of another classification
      set of 28 x 28 images with one channel.
    data_dir: Where tensorflow_datasets keeps its sets; None is its default.

  Raises:
    cli.UsageError: If the set cannot be had, or a file of it is damaged.
  """
  if name == 'mnist':
    return load_mnist(MNIST_DIR)
  return _load_tfds(name, data_dir)


def check(dataset: Dataset) -> None:
  """Raises a UsageError unless images are finite and labels are classes."""
  for name, (images, labels) in (
      ('training', dataset.train), ('test', dataset.test)):
    try:
      checks.check_rows(f'{name} images', images)
      checks.check_labels(f'{name} labels', labels, dataset.classes)
    except ValueError as error:
      raise cli.UsageError(f'the data set cannot be used: {error}') from error
    if len(labels) != len(images):
      raise cli.UsageError(
          f'the {name} set needs a label for each image; it has {len(images)} '
          f'images and {len(labels)} labels')


def load_mnist(directory: pathlib.Path) -> Dataset:
  """Loads the four original MNIST archives after checking each one."""
  def split(prefix, size):
    images = _read(directory / f'{prefix}-images-idx3-ubyte.gz', (size, 28, 28))
    labels = _read(directory / f'{prefix}-labels-idx1-ubyte.gz', (size,))
    return _as_split(images, labels)

  return Dataset(split('train', 60_000), split('t10k', 10_000), 10)


def _as_split(images: np.ndarray, labels: np.ndarray) -> Split:
  return Split(images / np.float32(255), labels.astype(np.int32))


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


def _load_tfds(name: str, data_dir: str | None) -> Dataset:
  """Loads a prepared set; downloads and prepares it where that is possible."""
  try:
    import tensorflow_datasets as tfds  # Slow to import, seldom needed.
  except ImportError as error:
    raise cli.UsageError(
        f"--dataset={name} needs tensorflow_datasets: pip install 'kan_jax"
        "[experiments]'") from error
  builder = _ask(name, lambda: tfds.builder(
      name, data_dir=data_dir, file_format='array_record'))
  features = builder.info.features
  if features is None or not {'image', 'label'} <= features.keys() or (
      features['image'].shape != (28, 28, 1)):
    raise cli.UsageError(
        f'--dataset={name} is not a classification set of 28 x 28 x 1 images')
  if not builder.is_prepared():
    if importlib.util.find_spec('tensorflow') is None:
      raise cli.UsageError(  # Else it would download first, and fail then.
          f'--dataset={name} is not prepared in {builder.data_dir}; preparing '
          "it takes TensorFlow once: pip install 'kan_jax[tfds]', or name the "
          'folder of a prepared one with --data_dir')
    _ask(name, builder.download_and_prepare)
  train, test = (_ask(name, lambda split=split: _read_tfds(builder, split))
                 for split in ('train', 'test'))
  return Dataset(train, test, features['label'].num_classes)


def _ask(name: str, call: Callable):
  """Calls tfds; whatever it cannot do becomes one line with the way out."""
  try:
    return call()
  except Exception as error:  # tfds raises errors of many kinds.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    raise cli.UsageError(
        f'--dataset={name} cannot be had: {reason[:200]} (a set that is not '
        'prepared yet needs a network and TensorFlow once: pip install '
        "'kan_jax[tfds]'; name the folder of a prepared one with --data_dir)"
    ) from error


def _read_tfds(builder, split: str) -> Split:
  source = builder.as_data_source(split)
  rows = source[:] if hasattr(source, '__getitems__') else list(source)
  return _as_split(np.stack([row['image'][..., 0] for row in rows]),
                   np.array([row['label'] for row in rows]))
