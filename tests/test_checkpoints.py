"""Checkpoints: back to the last bit, and no larger than the state."""

import asyncio
import contextlib
import functools
import gc
import json
import os
import pathlib
import subprocess
import sys

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


# A disk that is full, for one process: no file may be larger than 20 kB.
_FULL = """
import resource
import signal
import sys
import jax.numpy as jnp
import numpy as np
from kan_jax import checkpoints

folder, small = sys.argv[1], {'a': jnp.ones(3)}
noise = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limits = resource.getrlimit(resource.RLIMIT_FSIZE)
checkpoints.save(folder, 1, small)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
try:
  checkpoints.save(folder, 2, {'a': jnp.asarray(noise)})
except checkpoints.CheckpointError as error:
  print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, limits)
"""


def _bytes(directory):
  return sum(
      f.stat().st_size for f in pathlib.Path(directory).rglob('*')
      if f.is_file())


class CheckpointsTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, caplog):
    self.path, self.caplog = tmp_path, caplog

  def test_round_trip(self):
    state = _trained()
    self.assertEqual(state.step, 3)
    # The folder is made, with those above it.
    checkpoints.save(self.path / 'a' / 'b', 3, state)
    zeros = jax.tree.map(jnp.zeros_like, state)
    loaded = checkpoints.load(self.path / 'a' / 'b', 3, zeros)
    self.assertIsInstance(loaded, train_steps.TrainState)
    chex.assert_trees_all_equal(loaded, state, strict=True)

  def test_parts_without_leaves_came_later(self):
    """As a field of `TrainState` that is empty for most models."""
    older = {'params': {'a': jnp.arange(3.0)}, 'step': jnp.zeros((), jnp.int32)}
    checkpoints.save(self.path, 0, older)
    loaded = checkpoints.load(self.path, 0, older | {'others': {}})
    self.assertEqual(loaded['others'], {})
    chex.assert_trees_all_equal(loaded['params'], older['params'])

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

  def test_typed_keys(self):
    state = {'key': jax.random.key(3), 'keys': jax.random.split(
        jax.random.key(4, impl='rbg'), 2), 'x': jnp.ones(2)}
    checkpoints.save(self.path, 0, state)
    for like in (None, state, jax.eval_shape(lambda: state)):
      loaded = checkpoints.load(self.path, 0, like)
      chex.assert_trees_all_equal(
          jax.tree.map(jax.random.key_data, loaded | {'x': loaded['key']}),
          jax.tree.map(jax.random.key_data, state | {'x': state['key']}))
      self.assertEqual(loaded['keys'].dtype, state['keys'].dtype)
      np.testing.assert_array_equal(loaded['x'], state['x'])

  def test_keys_of_another_kind(self):
    checkpoints.save(self.path, 0, {'key': jax.random.key(3)})
    checkpoints.save(self.path, 1, {'key': jax.random.PRNGKey(3)})
    for step, like, message in (
        (0, jax.random.PRNGKey(0), r'key<fry>\[\] there, .* uint32\[2\]'),
        (1, jax.random.key(0), r'uint32\[2\] there, .* key<fry>\[\]'),
        (0, jax.random.key(0, impl='rbg'), r'uint32\[2\] .* uint32\[4\]'),
        (0, jax.random.key(0, impl='unsafe_rbg'), 'is uint32'),
        (0, jax.random.split(jax.random.key(0)), r'uint32\[2, 2\]')):
      with self.assertRaisesRegex(checkpoints.CheckpointError, message):
        checkpoints.load(self.path, step, {'key': like})

  @parameterized.parameters(
      (3, 'a is a int'), (1.5, 'a is a float'), (True, 'a is a bool'),
      ('text', 'a is a str'), (np.float32(2), 'a is a float32'),
      (np.array(['text']), 'a is <U4'), (np.array([None]), 'a is object'),
      (np.ones(2, np.longdouble), 'a is float128'),
      (np.ones(2, '>f4'), 'a is >f4'), (jnp.ones((0, 2)), 'a has none'),
      (np.array([2**40]), 'a is int64 .*jax_enable_x64'),
      (np.ones(2), 'a is float64 .*jax_enable_x64'))
  def test_what_load_could_not_read_is_refused(self, leaf, message):
    with self.assertRaisesRegex(ValueError, f'`state` .*b/{message}'):
      checkpoints.save(self.path, 0, {'b': {'a': leaf}, 'c': jnp.ones(2)})
    self.assertEmpty(list(self.path.iterdir()))

  @parameterized.parameters(
      jnp.float16, jnp.bfloat16, jnp.float8_e4m3fn, jnp.int4, jnp.int8,
      jnp.uint32, jnp.bool_, jnp.complex64)
  def test_what_save_accepts_is_read(self, dtype):
    state = {'a': jnp.array([0, 1, 1], dtype), 'b': [np.array([1], np.int16)],
             'none': None, 'empty': {}, 'tuple': ()}
    checkpoints.save(self.path, 0, state)
    for like in (None, state):
      loaded = checkpoints.load(self.path, 0, like)
      self.assertEqual(loaded['a'].dtype, dtype)
      np.testing.assert_array_equal(loaded['a'], state['a'])
      np.testing.assert_array_equal(loaded['b'][0], state['b'][0])

  def test_wide_arrays_are_not_rounded(self):
    with jax.enable_x64(True):
      state = {'a': jnp.array([1 / 3, 1e300]), 'n': jnp.array(2**40)}
      checkpoints.save(self.path, 0, state)
      chex.assert_trees_all_equal(
          checkpoints.load(self.path, 0), state, strict=True)
    for like in (None, state):
      with self.assertRaisesRegex(
          checkpoints.CheckpointError,
          r'a is float64\[2\], .*jax_enable_x64'):
        checkpoints.load(self.path, 0, like)

  def test_an_expected_number_is_named(self):
    checkpoints.save(self.path, 0, {'step': jnp.array(3)})
    with self.assertRaisesRegex(
        checkpoints.CheckpointError,
        r'step is int32\[\] there, expected is a int'):
      checkpoints.load(self.path, 0, {'step': 3})

  def test_broken_metadata_with_the_right_checksums(self):
    """Whoever writes both gets the same error as whoever damages one."""
    checkpoints.save(self.path, 3, _trained())
    metadata = self.path / '3' / 'state' / '_METADATA'
    good = json.loads(metadata.read_text())
    some = next(iter(good['tree_metadata']))
    entry = good['tree_metadata'][some]
    for bad in (
        '', '{}', '[]', 'null', '[' * 10_000, '{"tree_metadata": 3}',
        json.dumps({k: v for k, v in good.items() if k != 'tree_metadata'}),
        json.dumps(good | {'tree_metadata': {some: {}}}),
        json.dumps(good | {'tree_metadata': {some: entry | {
            'key_metadata': [{'key': '../x', 'key_type': 9}]}}}),
        json.dumps(good | {'tree_metadata': {some: entry | {
            'value_metadata': {'value_type': 'os.system'}}}})):
      metadata.write_text(bad)
      checkpoints._write_checksums(self.path / '3')
      with self.assertRaisesRegex(checkpoints.CheckpointError, r'^[^\n]*/3 '):
        checkpoints.load(self.path, 3, _trained())

  def test_what_orbax_leaves_says_nothing_later(self):
    """asyncio would log the error of a task when it is collected."""
    async def fail():
      raise ValueError('damaged')

    with contextlib.closing(asyncio.new_event_loop()) as loop:
      task = loop.create_task(fail())
      loop.run_until_complete(asyncio.wait([task]))
    with self.assertRaisesRegex(KeyError, 'raised'), checkpoints._quiet():
      raise KeyError('raised')
    del task
    gc.collect()
    self.assertEqual(self.caplog.text, '')

  def test_a_folder_that_cannot_be_is_one_line_at_once(self):
    (self.path / 'file').write_text('mine')
    with self.assertRaisesRegex(
        checkpoints.CheckpointError, r'^\S*/file/3 cannot be written: [^\n]*$'):
      checkpoints.save(self.path / 'file', 3, {'a': jnp.ones(2)})
    self.assertEqual((self.path / 'file').read_text(), 'mine')

  def test_a_full_disk_is_one_line(self):
    ran = subprocess.run(
        [sys.executable, '-c', _FULL, str(self.path)], text=True, check=False,
        capture_output=True, env=os.environ | {'JAX_PLATFORMS': 'cpu'})
    self.assertRegex(
        ran.stdout, r'^\S*/2 cannot be written: [^\n]*File too large[^\n]*\n$')
    self.assertEqual(ran.stderr, '')
    self.assertEqual([f.name for f in self.path.iterdir()], ['1'])
    np.testing.assert_array_equal(
        checkpoints.load(self.path, 1)['a'], np.ones(3))
    checkpoints.save(self.path, 2, {'a': jnp.ones(3)})  # There is room again.
    self.assertEqual(checkpoints.steps(self.path), [1, 2])

  def test_delete(self):
    for step in (1, 2):
      checkpoints.save(self.path, step, {'a': jnp.ones(step)})
    checkpoints.delete(self.path, 1)
    self.assertEqual([f.name for f in self.path.iterdir()], ['2'])
    checkpoints.save(self.path, 1, {'a': jnp.ones(1)})
    for step in (3, 4):
      (self.path / '4').mkdir(exist_ok=True)  # A stranger's.
      with self.assertRaisesRegex(
          checkpoints.CheckpointError, f'/{step} is not a complete'):
        checkpoints.delete(self.path, step)
    self.assertEqual(checkpoints.steps(self.path), [1, 2])
    self.assertTrue((self.path / '4').exists())

  def test_a_kill_while_deleting_leaves_no_half(self):
    """At whatever file: the name is free, and `clean` removes the rest."""
    program = (
        'import os, shutil, sys\n'
        'from kan_jax import checkpoints\n'
        'def remove(path):\n'
        '  os.unlink(next(f for f in path.rglob("*") if f.is_file()))\n'
        '  os._exit(9)\n'
        'shutil.rmtree = remove\n'
        'checkpoints.delete(sys.argv[1], 300)\n')
    for step in (300, 400):
      checkpoints.save(self.path, step, {'a': jnp.ones(2)})
    ran = subprocess.run(
        [sys.executable, '-c', program, str(self.path)], check=False,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'})
    self.assertEqual(ran.returncode, 9)
    self.assertEqual(checkpoints.steps(self.path), [400])
    self.assertEqual(sorted(f.name for f in self.path.iterdir()),
                     ['300.deleted', '400'])
    checkpoints.save(self.path, 300, {'a': jnp.ones(3)})
    checkpoints.delete(self.path, 300)  # Beside the leftover of its name.
    self.assertEqual([f.name for f in self.path.iterdir()], ['400'])

  def test_clean(self):
    checkpoints.clean(self.path / 'none')
    checkpoints.save(self.path, 5, {'a': jnp.ones(2)})
    checkpoints.save(self.path, 6, {'a': jnp.ones(2)})
    (self.path / '6' / 'SHA256SUMS').unlink()  # Perhaps whole: it stays.
    kept = ['5', '6', 'notes.deleted', 'mine']
    (self.path / 'mine').mkdir()
    (self.path / 'notes.deleted').write_text('mine')
    for name in ('4.deleted', '7.orbax-checkpoint-tmp'):
      (self.path / name).mkdir()
      (self.path / name / 'rest').write_text('half')
    (self.path / '7.SHA256SUMS').write_text('half')
    checkpoints.clean(self.path)
    self.assertEqual(
        sorted(f.name for f in self.path.iterdir()), sorted(kept))
