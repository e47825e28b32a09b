"""Steps that are not finite: skipped, counted, and said why."""

import dataclasses
import functools
from unittest import mock

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.training import nonfinite
from kan_jax.training import train_steps

_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-1, 1, (24, 2)), jnp.float32)
_Y = _X[:, 0]
_BAD = _X.at[9, 1].set(jnp.nan)  # In the second batch of eight.
_ROWS = jnp.arange(24).reshape(3, 8)
_NET = linen.KAN([2, 3, 1], grid=3)
_TX = optax.adam(0.01)


def _squares(outputs, y):
  return jnp.square(outputs[:, 0] - y)


_objective = train_steps.make_objective(_NET, _squares)
_step = train_steps.make_train_step(_objective, _TX)
_jit_step = jax.jit(_step)
_run_and_stop = train_steps.make_run_steps(_step)
_run_on = train_steps.make_run_steps(_step, stop_at_skipped=False)


def _state():
  """A state that has an Adam history."""
  state = networks.state(networks.kan([2, 3, 1], grid=3), _TX)
  return _jit_step(state, (_X[:8], _Y[:8]))[0]


class SkipTest(parameterized.TestCase):

  @parameterized.parameters(float('nan'), float('inf'))
  def test_nothing_but_the_step_changes(self, value):
    state = _state()
    x = _X[:8].at[2, 1].set(value)
    # An infinite input is one that the base function lets through.
    new, metrics = _jit_step(state, (x, _Y[:8]))
    self.assertEqual(metrics['skipped'], 1)
    self.assertFalse(np.isfinite(metrics['loss']))
    chex.assert_trees_all_equal(
        new, state.replace(step=state.step + 1), strict=True)

  def test_a_gradient_alone_is_enough(self):
    """The root of zero is finite, its slope is not."""
    def roots(outputs, y):
      return jnp.sqrt(jnp.abs(outputs[:, 0] - y))

    step = train_steps.make_train_step(
        train_steps.make_objective(_NET, roots), _TX)
    state = networks.state(_silent(), _TX)
    new, metrics = jax.jit(step)(state, (_X[:8], jnp.zeros(8)))
    self.assertEqual((metrics['loss'], metrics['skipped']), (0, 1))
    chex.assert_trees_all_equal(new.params, state.params)

  def test_a_finite_step_is_not_skipped(self):
    state = _state()
    new, metrics = _jit_step(state, (_X[:8], _Y[:8]))
    self.assertEqual(metrics['skipped'], 0)
    self.assertTrue((new.params['layers_0']['coef']
                     != state.params['layers_0']['coef']).any())

  def test_run_stops_at_the_first(self):
    state, totals = _run_and_stop(
        _state(), train_steps.zero_totals(), (_BAD, _Y), _ROWS, 0, 3)
    self.assertEqual((state.step, totals['skipped']), (1 + 2, 1))
    one, metrics = _jit_step(_state(), (_X[:8], _Y[:8]))
    chex.assert_trees_all_close(state.params, one.params, atol=1e-5)
    np.testing.assert_allclose(totals['loss'], metrics['loss'], rtol=1e-5)
    # It goes no further when it is called again, until somebody looks.
    held = jax.tree.map(np.array, state)
    state, again = _run_and_stop(state, totals, (_BAD, _Y), _ROWS, 0, 3)
    chex.assert_trees_all_equal(state, held)
    self.assertEqual(again['skipped'], 1)

  def test_run_goes_on_without_it(self):
    state, totals = _run_on(
        _state(), train_steps.zero_totals(), (_BAD, _Y), _ROWS, 0, 3)
    self.assertEqual((state.step, totals['skipped']), (1 + 3, 1))
    two, losses = _state(), []
    for rows in (_ROWS[0], _ROWS[2]):
      two, metrics = _jit_step(two, (_X[rows], _Y[rows]))
      losses.append(float(metrics['loss']))
    # Programs of different shape round differently.
    chex.assert_trees_all_close(state.params, two.params, atol=1e-5)
    np.testing.assert_allclose(totals['loss'], sum(losses), rtol=1e-4)


def _silent():
  """A network whose output is 0."""
  variables = networks.kan([2, 3, 1], grid=3)
  last = variables['params']['layers_1']
  variables['params']['layers_1'] = last | {
      name: jnp.zeros_like(last[name]) for name in ('coef', 'scale_base')}
  return variables


def _broken(kind, layer, name):
  """A state with NaN in one of its arrays."""
  state = networks.state(networks.kan([2, 3, 1], grid=3), _TX)
  tree = getattr(state, kind)
  array = tree[layer][name]
  changed = tree[layer] | {name: array.at[(0,) * array.ndim].set(jnp.nan)}
  return state.replace(**{kind: tree | {layer: changed}})


class FindTest(parameterized.TestCase):

  def _find(self, state=None, x=_X, y=_Y, objective=_objective):
    state = state or networks.state(networks.kan([2, 3, 1], grid=3), _TX)
    return nonfinite.find_nonfinite(_NET, objective, state, (x, y))

  def test_nothing(self):
    self.assertEqual(self._find(), 'nothing')
    self.assertEqual(  # Labels are whole numbers.
        self._find(y=jnp.zeros(24, jnp.int32)), 'nothing')

  def test_inputs_and_targets(self):
    self.assertEqual(self._find(x=_BAD), 'the inputs')
    self.assertEqual(self._find(y=_Y.at[3].set(jnp.inf)), 'the targets')

  @parameterized.parameters(
      ('grid', 'layers_1', 'knots'), ('grid', 'layers_0', 'mask'),
      ('params', 'layers_0', 'coef'), ('params', 'layers_1', 'node_bias'))
  def test_knots_and_parameters(self, kind, layer, name):
    found = self._find(_broken(kind, layer, name))
    self.assertIn(f'{layer}/{name}', found)

  @parameterized.parameters(
      ('layers_0', 'the input of layer layers_1'), ('layers_1', 'the output'))
  def test_what_a_layer_gives(self, name, found):
    """Finite parameters whose product overflows."""
    state = networks.state(networks.kan([2, 3, 1], grid=3), _TX)
    layer = state.params[name]
    huge = layer | {
        'scale_spline': jnp.full_like(layer['scale_spline'], 3e38),
        'coef': 9 * layer['coef']}
    self.assertEqual(
        self._find(state.replace(params=state.params | {name: huge})), found)

  def test_loss_penalty_and_gradient(self):
    silent = networks.state(_silent(), _TX)
    for found, loss_fn in (
        ('the loss', lambda outputs, y: jnp.log(outputs[:, 0] * y)),
        # The first in the order of the names.
        ('the gradient of layers_0/coef',
         lambda outputs, y: jnp.sqrt(jnp.abs(outputs[:, 0])))):
      objective = train_steps.make_objective(_NET, loss_fn)
      self.assertEqual(self._find(silent, objective=objective), found)
    objective = train_steps.make_objective(
        _NET, _squares, lambda stats, params: jnp.log(0.0), 0.1)
    self.assertEqual(self._find(silent, objective=objective), 'the penalty')

  def test_nothing_with_a_penalty(self):
    objective = train_steps.make_objective(
        _NET, _squares, regularization.Penalty(), 0.1)
    self.assertEqual(self._find(objective=objective), 'nothing')


_SMALL = configs.Config(
    model='kan', hidden=2, grid=2, order=1, epochs=1, batch_size=8,
    grid_update_freq=3)


def _dataset():
  """Three batches of images, with one NaN in the set."""
  images = _RNG.random((24, 28, 28)).astype(np.float32)
  split = sets.Split(images, np.arange(24, dtype=np.int32) % 3)
  images = images.copy()
  images[5, 3, 3] = np.nan
  return sets.Dataset(split._replace(images=images), split, 3)


@functools.cache
def _programs(on_nonfinite):
  """Only the loop of the steps depends on the policy; compile the rest once."""
  programs = compiled.build(
      dataclasses.replace(_SMALL, on_nonfinite=on_nonfinite), 3)
  if on_nonfinite == 'skip':
    programs = _programs('stop')._replace(run_steps=programs.run_steps)
  return programs


class ExperimentTest(parameterized.TestCase):

  def _loop(self, on_nonfinite):
    config = dataclasses.replace(_SMALL, on_nonfinite=on_nonfinite)
    lines = []
    return loop.Loop(config, _dataset(), _programs(on_nonfinite),
                     log=lines.append), lines

  def test_a_data_set_with_nan_is_refused(self):
    with self.assertRaisesRegex(
        cli.UsageError, 'training images.*1 of its 24 rows.*row 5'):
      sets.check(_dataset())

  @parameterized.parameters('stop', 'skip')
  def test_what_happens_to_a_run(self, on_nonfinite):
    # As if it came from the network itself.
    with mock.patch.object(sets, 'check'):
      run, lines = self._loop(on_nonfinite)
    if on_nonfinite == 'stop':
      with self.assertRaisesRegex(
          cli.RunError, r'^step \d was not finite: the inputs\. Training has '
          r'stopped; --on_nonfinite=skip leaves such steps out$') as caught:
        run.run()
      self.assertEqual(caught.exception.code, 1)
    else:
      result = run.run()
      self.assertEqual(result.state.step, 3)
      self.assertRegex(lines[-1], r' Skipped: 1 steps?$')
      self.assertTrue(np.isfinite(result.loss))
      chex.assert_tree_all_finite(result.state)
