"""Cases V of public reports on other KAN libraries: save, load, copy.

The letter and number in a test's name are those of the case.
"""

import copy
import functools
import os
import pathlib
import subprocess
import sys

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kan_jax import checkpoints
from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.plotting import edge_panels
from kan_jax.pruning import prune
from kan_jax.training import train_steps

_ROOT = pathlib.Path(__file__).parents[2]
_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-1, 1, (16, 2)), jnp.float32)
_NET = linen.KAN([2, 3, 1], grid=3)
_VARIABLES = networks.kan([2, 3, 1], grid=3)
_TX = optax.adam(0.01)


def _three_sines(x):
  return jnp.sin(3 * x)


# What another process needs to go on: it gets nothing from this one but the
# checkpoint.
_GO_ON = '''
import sys
import jax
import jax.numpy as jnp
import optax
from kan_jax import checkpoints, layers, training

folder = sys.argv[1]
model, tx = layers.KAN([2, 3, 1], grid=3), optax.adam(0.01)
like = jax.eval_shape(lambda: training.create_state(
    model, tx, jax.random.key(7), jnp.zeros((1, 2))))
state = checkpoints.load(folder, 10, like)
run = training.make_run_steps(training.make_train_step(training.make_objective(
    model, lambda outputs, y: (outputs[:, 0] - y)**2), tx))
x = jnp.load(folder + '/x.npy')
rows = jnp.tile(jnp.arange(16), (20, 1))
state, _ = run(state, training.zero_totals(), (x, x[:, 0]), rows, 10, 20)
checkpoints.save(folder, 20, state)
assert len(jax.devices()) == 2
checkpoints.save(folder, 21, jax.device_put(state, jax.devices()[1]))
'''
_run = train_steps.make_run_steps(train_steps.make_train_step(
    train_steps.make_objective(
        _NET, lambda outputs, y: (outputs[:, 0] - y)**2), _TX))


def _train(state, start, stop):
  return _run(state, train_steps.zero_totals(), (_X, _X[:, 0]),
              jnp.tile(jnp.arange(16), (20, 1)), start, stop)[0]


@functools.cache
def _ten_steps():
  """A state after a grid update and ten steps."""
  state = networks.state(_VARIABLES, _TX)
  return _train(
      train_steps.update_state_grids(_NET, state, 2 * _X), 0, 10)


@pytest.fixture(scope='module')
def continued(tmp_path_factory):
  """A folder in which another process, with two devices, has gone on."""
  folder = tmp_path_factory.mktemp('checkpoints')
  checkpoints.save(folder, 10, _ten_steps())
  np.save(folder / 'x.npy', _X)
  env = os.environ | {
      'JAX_PLATFORMS': 'cpu',
      'XLA_FLAGS': f'{os.environ.get("XLA_FLAGS", "")} '
                   '--xla_force_host_platform_device_count=2'}
  done = subprocess.run(
      [sys.executable, '-c', _GO_ON, str(folder)], cwd=_ROOT, env=env,
      capture_output=True, text=True, timeout=120, check=False)
  assert not done.returncode, done.stderr
  return folder


class OtherProcessCasesTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, continued):
    self.path = continued

  def test_v04_saved_on_another_device(self):
    self.assertLen(jax.devices(), 1)
    loaded = checkpoints.load(self.path, 21, _ten_steps())
    chex.assert_trees_all_equal(
        loaded, checkpoints.load(self.path, 20, _ten_steps()))
    for leaf in jax.tree.leaves(loaded):
      self.assertEqual(leaf.devices(), {jax.devices()[0]})

  def test_v07_goes_on_in_a_new_process(self):
    """Ten steps there after ten here are twenty here, optimizer included."""
    loaded = checkpoints.load(self.path, 20, _ten_steps())
    whole = _train(jax.tree.map(jnp.array, _ten_steps()), 10, 20)
    self.assertEqual(loaded.step, 20)
    chex.assert_trees_all_close(loaded, whole, atol=1e-6)
    evaluate = train_steps.make_evaluate(
        _NET, {'loss': lambda outputs, y: (outputs[:, 0] - y)**2})
    losses = [float(evaluate(s.variables, (_X, _X[:, 0]))['loss'])
              for s in (loaded, whole, _ten_steps())]
    self.assertAlmostEqual(losses[0], losses[1], delta=1e-6)
    self.assertLess(losses[0], losses[2] - 1e-3)


class SavingCasesTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    self.path = tmp_path

  def _size(self, folder):
    return sum(f.stat().st_size for f in (self.path / folder).rglob('*')
               if f.is_file())

  def test_v02_copy(self):
    held = jax.tree.map(np.array, _ten_steps())
    model, copied = copy.deepcopy((_NET, _ten_steps()))
    np.testing.assert_array_equal(
        jax.jit(model.apply)(copied.variables, _X),
        jax.jit(_NET.apply)(held.variables, _X))
    changed = _train(copied, 0, 1)  # Takes the buffers of the copy.
    with self.assertRaises(AssertionError):
      chex.assert_trees_all_equal(changed.params, held.params)
    chex.assert_trees_all_equal(_ten_steps(), held)
    self.assertEmpty(list(self.path.iterdir()))

  def test_v03_own_base_function(self):
    """A checkpoint holds arrays: it loads with a model that has the function.
    """
    model = linen.KAN([2, 3, 1], grid=3, base_fn=_three_sines)
    before = jax.jit(model.apply)(_VARIABLES, _X)
    checkpoints.save(self.path, 0, _VARIABLES)
    for file in self.path.rglob('*'):
      if file.is_file():
        self.assertNotIn(b'_three_sines', file.read_bytes())
    loaded = checkpoints.load(
        self.path, 0, jax.eval_shape(lambda: _VARIABLES))
    same = linen.KAN([2, 3, 1], grid=3, base_fn=_three_sines)
    np.testing.assert_array_equal(jax.jit(same.apply)(loaded, _X), before)
    self.assertGreater(
        np.abs(before - jax.jit(_NET.apply)(loaded, _X)).max(), 0.1)

  def test_v05_no_surprise_files(self):
    model, variables = linen.KAN([2, 3, 1], grid=3), _ten_steps().variables
    _, sown = model.apply(variables, _X, mutable=['edges'])
    pruned = copy.deepcopy(
        prune.mask_edges(variables, sown['edges'], 0.1))
    edge_panels.plot_edges(model, pruned, _X, most=1)
    jax.eval_shape(lambda v: edits.refine_variables(v, 6), pruned)
    _train(jax.tree.map(jnp.array, _ten_steps()), 0, 1)
    self.assertEmpty(list(self.path.iterdir()))

  def test_v06_size_does_not_depend_on_the_rows_seen(self):
    for rows in (10, 10_000):
      x = jnp.asarray(_RNG.uniform(-1, 1, (rows, 2)), jnp.float32)
      state = networks.state(networks.layer(2, 3), _TX)
      checkpoints.save(self.path / str(rows), 0, train_steps.update_state_grids(
          linen.KANLayer(3), state, x))
    # Compression is a little luckier with some numbers than with others; the
    # rows themselves would be 80 kB.
    self.assertAlmostEqual(self._size('10'), self._size('10000'), delta=4000)
