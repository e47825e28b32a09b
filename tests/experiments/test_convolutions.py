"""Networks of convolutions: size, averages of batches, images that move."""

import dataclasses
import pathlib

from absl.testing import parameterized
import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import export
from experiments.mnist import loop
from experiments.mnist import models
from experiments.mnist import run_folder
from experiments.view import __main__ as view

_IMAGES = np.random.default_rng(0).random((27, 28, 28)).astype(np.float32)
_SPLIT = sets.Split(_IMAGES, np.arange(27, dtype=np.int32) % 3)
_CONFIG = dataclasses.replace(
    configs.CONFIGS['kan_conv'], hidden=1, epochs=2, batch_size=8,
    grid_update_freq=3, shift=1, dropout=0.5)


def _train(folder, config, programs, resume=False):
  with run_folder.open_recorder(str(folder), config, resume) as recorder:
    job = loop.Loop(
        config, sets.Dataset(_SPLIT, _SPLIT, 3), programs,
        log=lambda line: None, recorder=recorder)
    job.run()
  return job.progress.state


class SizeTest(parameterized.TestCase):

  def test_both_have_as_many_parameters(self):
    """At most 100,000, and the same within 3 %."""
    counts = []
    for name in ('kan_conv', 'cnn'):
      model = models.build(configs.CONFIGS[name])
      variables = jax.eval_shape(model.init, jax.random.key(0), _IMAGES[:1])
      counts.append(sum(
          leaf.size for leaf in jax.tree.leaves(variables['params'])))
    self.assertLess(max(counts), 100_000)
    self.assertLess(abs(counts[0] / counts[1] - 1), 0.03)

  def test_other_shapes(self):
    for name in ('kan_conv', 'cnn'):
      with self.assertRaisesRegex(
          cli.UsageError, f'--model={name} is for images'):
        models.build(configs.CONFIGS[name], shape=(5,))


class RunTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path: pathlib.Path = tmp_path

  def test_a_run(self):
    """The averages follow the data; a longer run goes on with them; the file
    and the page of the run know the network."""
    short = dataclasses.replace(_CONFIG, epochs=1, schedule='constant')
    long = dataclasses.replace(short, epochs=2)
    # Without a schedule, programs do not depend on the epochs.
    programs = compiled.build(short, 3, examples=27)
    state = _train(self.path / 'a', short, programs)
    moved = jax.tree.leaves(state.others)
    self.assertTrue(all(jnp.isfinite(leaf).all() for leaf in moved))
    self.assertTrue(all(jnp.ptp(jnp.append(leaf, 0)) > 0 for leaf in moved))
    resumed = _train(self.path / 'a', long, programs, resume=True)
    whole = _train(self.path / 'b', long, programs)
    chex.assert_trees_all_equal(resumed, whole)
    export.export_run(self.path / 'a', self.path / 'model.bin', ['cpu'])
    with self.assertRaisesRegex(cli.UsageError, 'ONNX takes --model=conv_kan'):
      export.export_run(self.path / 'a', self.path / 'model.onnx')
    text = view.view(self.path / 'a', edges=4, images=2,
                     dataset=sets.Dataset(_SPLIT, _SPLIT, 3))
    self.assertIn('KAN convolutions, on mnist', text)


class CNNTest(parameterized.TestCase):

  def test_products_over_patches_are_convolutions(self):
    """As `nn.Conv` has it, of the same kernels."""
    class Plain(nn.Module):
      @nn.compact
      def __call__(self, x):
        x = x[..., None]
        for features, stride in (2, 2), (4, 1), (8, 2), (8, 1):
          x = nn.Conv(features, (3, 3), stride, 'VALID')(x)
          x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        return nn.Dense(5)(x.reshape(len(x), -1))

    model = models.CNN(2, 5)
    variables = model.init(jax.random.key(0), _IMAGES)
    kernels = jax.tree.map(
        lambda leaf, plain: leaf.reshape(plain.shape), variables,
        jax.eval_shape(Plain().init, jax.random.key(0), _IMAGES))
    np.testing.assert_allclose(
        model.apply(variables, _IMAGES), Plain().apply(kernels, _IMAGES),
        atol=1e-5)


class DropoutTest(parameterized.TestCase):

  @parameterized.parameters('kan_conv', 'cnn')
  def test_in_training_alone(self, name):
    """Half of the last layer's inputs are 0, the others doubled."""
    config = dataclasses.replace(
        configs.CONFIGS[name], hidden=2, dropout=0.5)
    model = models.build(config)
    variables = model.init(jax.random.key(0), _IMAGES)
    chex.assert_trees_all_equal(
        model.apply(variables, _IMAGES),
        models.build(dataclasses.replace(config, dropout=0.0)).apply(
            variables, _IMAGES))
    _, sown = models.in_training(model).apply(
        variables, _IMAGES, mutable=['batch_stats', 'intermediates'],
        capture_intermediates=lambda module, _: isinstance(module, nn.Dropout),
        rngs={'dropout': jax.random.key(1)})
    left, = jax.tree.leaves(sown['intermediates']['Dropout_0'])
    # After a ReLU many are 0 as they are.
    zero = 1 - np.count_nonzero(left) / left.size
    self.assertGreater(zero, 0.4)

  def test_networks_without(self):
    with self.assertRaisesRegex(
        cli.UsageError, '--dropout=0.5 .* got --model=mlp'):
      models.build(configs.Config(model='mlp', dropout=0.5))


class ShiftTest(parameterized.TestCase):

  def test_no_images(self):
    with self.assertRaisesRegex(cli.UsageError, r'--shift=1 .* shape \[5\]'):
      compiled.build(configs.Config(model='kan', shift=1), 3, (5,))

  def test_images_move_as_a_whole(self):
    """By up to two pixels either way, anew in each step, alike in the same."""
    images = np.zeros((64, 28, 28), np.float32)
    images[:, 14, 10] = 1
    step = jax.jit(compiled._shift_first(lambda state, batch: batch, 2))
    labels = np.arange(64)

    def places(number):
      moved, same = step(_State(number), (images, labels))
      np.testing.assert_array_equal(same, labels)
      np.testing.assert_array_equal(moved.sum((1, 2)), 1)
      return np.argwhere(moved)[:, 1:] - (14, 10)

    first, second = places(0), places(1)
    np.testing.assert_array_equal(first, places(0))
    self.assertFalse(np.array_equal(first, second))
    # Each of the five offsets is missing from 128 draws with odds of 1e-12.
    for axis in (0, 1):
      self.assertEqual(
          set(np.r_[first, second][:, axis]), {-2, -1, 0, 1, 2})


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class _State:
  step: int
