"""Data sets: MNIST as it is, damaged files, and sets of tfds without a network.
"""

import gzip
import shutil
import types
from unittest import mock

from absl.testing import parameterized
import numpy as np
import pytest

from experiments import cli
from experiments.data import sets
from experiments.data import sources


class MnistTest(parameterized.TestCase):

  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.mnist = sets.load('mnist')

  def test_shapes_and_types(self):
    self.assertEqual(self.mnist.classes, 10)
    for split, size in ((self.mnist.train, 60_000), (self.mnist.test, 10_000)):
      self.assertEqual(split.images.shape, (size, 28, 28))
      self.assertEqual(split.images.dtype, np.float32)
      self.assertEqual(split.labels.shape, (size,))
      self.assertEqual(split.labels.dtype, np.int32)
      self.assertEqual((split.images.min(), split.images.max()), (0, 1))

  def test_known_content(self):
    """Labels and counts as published, and the mean that all the world uses."""
    np.testing.assert_array_equal(self.mnist.train.labels[:5], [5, 0, 4, 1, 9])
    np.testing.assert_array_equal(self.mnist.test.labels[:5], [7, 2, 1, 0, 4])
    np.testing.assert_array_equal(np.bincount(self.mnist.train.labels), [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949])
    np.testing.assert_array_equal(np.bincount(self.mnist.test.labels), [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
    images = self.mnist.train.images
    np.testing.assert_allclose(
        images.mean(dtype=np.float64), 0.1307, atol=5e-5)
    # Pixels are bytes over 255, exactly.
    np.testing.assert_array_equal(
        images[:100] * np.float32(255), np.round(images[:100] * 255))

  def test_held_out(self):
    """The last training examples are the test, and the test is not read."""
    held = sets.load('mnist', holdout=1000)
    for part, rows in ((held.train, slice(0, 59_000)),
                       (held.test, slice(59_000, None))):
      for kept, known in zip(part, self.mnist.train, strict=True):
        np.testing.assert_array_equal(kept, known[rows])

  @parameterized.parameters(60_000, 10**9)
  def test_held_out_leaves_some(self, holdout):
    with self.assertRaisesRegex(
        cli.UsageError, f'--holdout={holdout} leaves none of the 60000'):
      sets.open_set('mnist', holdout=holdout)


class DamagedMnistTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path / 'mnist'
    shutil.copytree(sets.MNIST_DIR, self.path)

  def _assert_named(self, name):
    """Loading fails with one line that names the file."""
    with self.assertRaises(cli.UsageError) as caught:
      sets.load_mnist(self.path)
    text = str(caught.exception)
    self.assertIn(str(self.path / name), text)
    self.assertNotIn('\n', text)

  @parameterized.parameters(
      'train-images-idx3-ubyte.gz', 'train-labels-idx1-ubyte.gz',
      't10k-images-idx3-ubyte.gz', 't10k-labels-idx1-ubyte.gz')
  def test_missing(self, name):
    (self.path / name).unlink()
    self._assert_named(name)

  @parameterized.parameters(0, 10, 1000)
  def test_truncated(self, size):
    file = self.path / 'train-labels-idx1-ubyte.gz'
    file.write_bytes(file.read_bytes()[:size])
    self._assert_named(file.name)

  def test_corrupt(self):
    """A single bit of an image."""
    file = self.path / 't10k-images-idx3-ubyte.gz'
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.write_bytes(raw)
    self._assert_named(file.name)

  def test_swapped_labels(self):
    """Each a sound archive of the right kind, and the wrong one."""
    train, test = (self.path / f'{p}-labels-idx1-ubyte.gz'
                   for p in ('train', 't10k'))
    content = train.read_bytes()
    train.write_bytes(test.read_bytes())
    test.write_bytes(content)
    self._assert_named(train.name)

  def test_other_labels_of_the_same_format(self):
    file = self.path / 't10k-labels-idx1-ubyte.gz'
    raw = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(raw[:8] + raw[:7:-1]))
    self._assert_named(file.name)

  def test_folder_instead_of_file(self):
    file = self.path / 't10k-labels-idx1-ubyte.gz'
    file.unlink()
    file.mkdir()
    self._assert_named(file.name)


class ShareTest(parameterized.TestCase):

  def test_no_more_than_a_share_is_read(self):
    read = []

    class Source:

      def __len__(self):
        return 6

      def read(self, numbers):
        read.extend(numbers)
        return sets.Split(np.zeros((len(numbers), 2), np.float32),
                          np.asarray(numbers, np.int32) % 3)

    arrays = sources.Arrays(sets.Split(np.eye(4), np.arange(4)))
    loaded = sets.read(
        sources.Set(Source(), arrays, 3, (2,), 'float32'),
        lambda size: slice(size // 2, size))
    self.assertEqual(read, [3, 4, 5])
    np.testing.assert_array_equal(loaded.train.labels, [0, 1, 2])
    np.testing.assert_array_equal(loaded.test.images, np.eye(4)[2:])
    self.assertEqual(loaded.sizes, (6, 4))


class Builder:
  """What this program needs of a tfds builder, with rows of its own."""

  def __init__(self, shape=(28, 28, 1), prepared=True, classes=3):
    self.info = types.SimpleNamespace(features={
        'image': types.SimpleNamespace(shape=shape),
        'label': types.SimpleNamespace(num_classes=classes)})
    self.prepared = prepared
    self.data_dir = 'somewhere/some_set'
    self.downloads = 0

  def is_prepared(self):
    return self.prepared

  def download_and_prepare(self):
    self.downloads += 1
    raise ConnectionError('no route to host\nwith a second line')

  def as_data_source(self, split):
    count = {'train': 6, 'test': 2}[split]
    return [{'image': np.full((28, 28, 1), 51 * i, np.uint8), 'label': i % 3}
            for i in range(count)]


class TfdsTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def _load(self, builder):
    """Loads with a builder, or an error, in the place of that of tfds."""
    with mock.patch('tensorflow_datasets.builder',
                    side_effect=[builder]) as make:
      loaded = sets.load('some_set', data_dir='somewhere')
    self.assertEqual(make.call_args.args, ('some_set',))
    self.assertEqual(make.call_args.kwargs['data_dir'], 'somewhere')
    return loaded

  def _error(self, builder):
    with self.assertRaises(cli.UsageError) as caught:
      self._load(builder)
    text = str(caught.exception)
    self.assertNotIn('\n', text)
    self.assertIn('--dataset=some_set', text)
    return text

  def test_prepared_set(self):
    loaded = self._load(Builder())
    self.assertEqual(loaded.classes, 3)
    self.assertEqual(loaded.train.images.shape, (6, 28, 28))
    self.assertEqual(loaded.test.images.shape, (2, 28, 28))
    self.assertEqual(loaded.train.images.dtype, np.float32)
    np.testing.assert_allclose(
        loaded.train.images[:, 3, 4], [0, 0.2, 0.4, 0.6, 0.8, 1], rtol=1e-6)
    np.testing.assert_array_equal(loaded.train.labels, [0, 1, 2, 0, 1, 2])
    self.assertEqual(loaded.train.labels.dtype, np.int32)

  @parameterized.parameters(
      ((32, 32, 3), '28 x 28 x 1'), ((28, 28, 3), '28 x 28 x 1'),
      ((None, None, 1), 'an image of one size'))
  def test_other_images(self, shape, wanted):
    self.assertRegex(self._error(Builder(shape)),
                     f'not a classification set .*{wanted}')

  @parameterized.parameters('image', 'label')
  def test_other_features(self, missing):
    builder = Builder()
    del builder.info.features[missing]
    self.assertIn('not a classification set', self._error(builder))

  def test_no_network(self):
    builder = Builder(prepared=False)
    with mock.patch('importlib.util.find_spec'):  # TensorFlow is there.
      text = self._error(builder)
    self.assertIn('no route to host', text)
    self.assertIn('--data_dir', text)  # The way out.
    self.assertEqual(builder.downloads, 1)

  def test_without_tensorflow_nothing_is_downloaded(self):
    builder = Builder(prepared=False)
    with mock.patch('importlib.util.find_spec', return_value=None):
      text = self._error(builder)
    self.assertIn('not prepared in somewhere/some_set', text)
    self.assertIn("pip install -e '.[tfds]'", text)
    self.assertEqual(builder.downloads, 0)

  def test_error_without_a_message(self):
    self.assertIn('KeyError', self._error(KeyError()))

  def test_unknown_name(self):
    """The real tfds says so, without asking the network."""
    with self.assertRaisesRegex(
        cli.UsageError, '--dataset=no_such_set cannot be had: .*not found'):
      sets.load('no_such_set', str(self.path))

  def test_not_installed(self):
    with (mock.patch.dict('sys.modules', {'tensorflow_datasets': None}),
          self.assertRaisesRegex(
              cli.UsageError, '--dataset=some_set needs tensorflow_datasets')):
      sets.load('some_set')
