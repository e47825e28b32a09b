"""Checkpoints: back to the last bit, and no larger than the state."""

import functools
import pathlib

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kan_jax import checkpoints
from kan_jax.layers import linen
from kan_jax.training import train_steps

_X = jax.random.uniform(jax.random.key(0), (16, 2), minval=-1, maxval=1)
_MODEL = linen.KAN([2, 3, 1], grid=3)
_TX = optax.adam(0.01)
_run_steps = train_steps.make_run_steps(train_steps.make_train_step(
    train_steps.make_objective(
        _MODEL, lambda outputs, y: (outputs[:, 0] - y)**2), _TX))


@functools.cache
def _trained():
  """A state after steps and a grid update: nothing is as it was initially."""
  state = train_steps.create_state(_MODEL, _TX, jax.random.key(1), _X)
  return _train(
      train_steps.update_state_grids(_MODEL, state, 3 * _X), 0, 3)


def _train(state, start, stop):
  rows = jnp.arange(64).reshape(8, 8) % 16
  return _run_steps(
      state, train_steps.zero_totals(), (_X, _X[:, 0]), rows, start, stop)[0]


def _copy(state):
  return jax.tree.map(jnp.array, state)


def _bytes(directory):
  return sum(
      f.stat().st_size for f in pathlib.Path(directory).rglob('*')
      if f.is_file())


class CheckpointsTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def test_round_trip(self):
    state = _trained()
    self.assertEqual(state.step, 3)
    # The folder is made, with those above it.
    checkpoints.save(self.path / 'a' / 'b', 3, state)
    zeros = jax.tree.map(jnp.zeros_like, state)
    loaded = checkpoints.load(self.path / 'a' / 'b', 3, zeros)
    self.assertIsInstance(loaded, train_steps.TrainState)
    chex.assert_trees_all_equal(loaded, state, strict=True)

  def test_training_goes_on_from_it(self):
    """Optimizer state and grid are part of it (case V07)."""
    checkpoints.save(self.path, 3, _trained())
    loaded = checkpoints.load(self.path, 3, _trained())
    chex.assert_trees_all_equal(
        _train(loaded, 3, 6), _train(_copy(_trained()), 3, 6))

  def test_steps_lists_complete_checkpoints(self):
    self.assertEqual(checkpoints.steps(self.path / 'none'), [])
    for step in (10, 2):
      checkpoints.save(self.path, step, _trained())
    (self.path / '7').mkdir()  # A stranger's, or one without its last file.
    self.assertEqual(checkpoints.steps(self.path), [2, 10])

  def test_nothing_is_overwritten(self):
    checkpoints.save(self.path, 3, _trained())
    (self.path / '7').mkdir()
    (self.path / '7' / 'notes').write_text('mine')
    for step in (3, 7):
      with self.assertRaisesRegex(ValueError, f'`step` {step} is there'):
        checkpoints.save(self.path, step, _trained())
    self.assertEqual((self.path / '7' / 'notes').read_text(), 'mine')

  def test_what_a_killed_process_left_is_replaced(self):
    checkpoints.save(self.path, 3, _trained())
    (self.path / '3' / 'SHA256SUMS').unlink()
    self.assertEqual(checkpoints.steps(self.path), [])
    checkpoints.save(self.path, 3, _trained())
    self.assertEqual(checkpoints.steps(self.path), [3])

  def test_damage_is_one_line_whatever_the_file(self):
    checkpoints.save(self.path, 3, _trained())
    files = [f for f in (self.path / '3').rglob('*')
             if f.is_file() and f.stat().st_size]
    self.assertGreater(len(files), 4)
    for file in files:
      good = file.read_bytes()
      middle = len(good) // 2
      flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1:]
      for bad in (good[:middle], flipped, None):
        file.unlink()
        if bad is not None:
          file.write_bytes(bad)
        with self.assertRaisesRegex(
            checkpoints.CheckpointError,
            r'^[^\n]*/3 is (damaged|not a complete checkpoint)[^\n]*$'):
          checkpoints.load(self.path, 3, _trained())
        file.write_bytes(good)
    chex.assert_trees_all_equal(
        checkpoints.load(self.path, 3, _trained()), _trained())

  def test_another_architecture_names_the_leaf(self):
    checkpoints.save(self.path, 3, _trained())
    model = linen.KAN([2, 4, 1], grid=3)
    other = jax.eval_shape(lambda: train_steps.TrainState(
        jnp.zeros((), jnp.int32), **model.init(jax.random.key(0), _X),
        opt_state=()))
    with self.assertRaisesRegex(
        checkpoints.CheckpointError,
        r'of another model or optimizer: grid/layers_0/mask is '
        r'float32\[2, 3\] there, expected is float32\[2, 4\]'):
      checkpoints.load(self.path, 3, other)

  def test_missing(self):
    with self.assertRaisesRegex(
        checkpoints.CheckpointError, '/5 is not a complete checkpoint'):
      checkpoints.load(self.path, 5, _trained())

  def test_size_does_not_depend_on_the_rows_seen(self):
    """Case V06: no data hides in a state."""
    sizes = []
    for rows in (10, 10_000):
      x = np.random.default_rng(0).uniform(-1, 1, (rows, 2))
      state = train_steps.update_state_grids(
          _MODEL, _trained(), jnp.asarray(x, jnp.float32))
      checkpoints.save(self.path / str(rows), 0, state)
      sizes.append(_bytes(self.path / str(rows)))
    # Compression is a little luckier with some numbers than with others; the
    # rows themselves would be 80 kB.
    self.assertLess(abs(sizes[1] - sizes[0]), 4000)

  def test_places_by_shapes_alone(self):
    """Nothing on a device is needed to load, as on another host (V04)."""
    state = _trained()
    checkpoints.save(self.path, 0, state)
    loaded = checkpoints.load(
        self.path, 0, jax.eval_shape(lambda: state))
    chex.assert_trees_all_equal(loaded, state, strict=True)
