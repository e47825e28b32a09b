"""Layers that nn.scan and nn.vmap stack: the numbers of the same in a loop."""

import functools

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
from helpers import stacked
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.plotting import edge_panels
from kan_jax.pruning import prune

_X = jnp.asarray(
    np.random.default_rng(0).uniform(-1, 1, (40, 2)), jnp.float32)
_LAYER = linen.KANLayer(2, grid=3)
_SCANNED = stacked.Scanned()
_MEMBER = linen.KAN([3, 2, 1])  # As many inputs as members.
_MEMBERS = stacked.members(3, [3, 2, 1])


def _layers():
  """Variables of three layers, and of the scan over them."""
  layers = [networks.layer(2, 2, grid=3, seed=seed) for seed in range(3)]
  stack = jax.tree.map(lambda *arrays: jnp.stack(arrays), *layers)
  return layers, {kind: {'stack': {'kan': arrays}}
                  for kind, arrays in stack.items()}


def _networks():
  """Variables of three networks, and of the ensemble of them."""
  networks_ = [networks.kan([3, 2, 1], scale=k) for k in (1, 2, 3)]
  return networks_, jax.tree.map(lambda *arrays: jnp.stack(arrays), *networks_)


@functools.partial(jax.jit, static_argnums=0)
def _sown(model, variables, x):
  return model.apply(variables, x, mutable='edges')


class StackedTest(parameterized.TestCase):

  @parameterized.parameters('mean_abs', 'std')
  def test_penalty_of_a_scan_over_layers(self, metric):
    penalty = regularization.Penalty(metric=metric, coef=0.1, coefdiff=0.2)
    layers, variables = _layers()
    x, expected = _X, 0
    for layer in layers:
      y, sown = _sown(_LAYER, layer, x)
      expected += penalty(layer['params'], sown['edges'])
      x = y
    y, sown = _sown(_SCANNED, variables, _X)
    np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(
        penalty(variables['params'], sown['edges']), expected, rtol=1e-5)

  @parameterized.parameters('mean_abs', 'std')
  def test_penalty_of_an_ensemble(self, metric):
    penalty = regularization.Penalty(metric=metric, coef=0.1, coefdiff=0.2)
    members, variables = _networks()
    x = jnp.concatenate([_X, _X[:, :1]], 1)
    expected = sum(
        penalty(member['params'], _sown(_MEMBER, member, x)[1]['edges'])
        for member in members)
    _, sown = _sown(_MEMBERS, variables, x)
    np.testing.assert_allclose(
        penalty(variables['params'], sown['edges']), expected, rtol=1e-5)

  def test_edges_are_masked_and_counted(self):
    _, variables = _layers()
    _, sown = _sown(_SCANNED, variables, _X)
    scores = regularization.edge_scores(
        regularization.layer_stats(sown['edges'])['stack', 'kan'])
    masked = prune.mask_edges(variables, sown['edges'], 0.2)
    mask = np.asarray(masked['grid']['stack']['kan']['mask'])
    np.testing.assert_array_equal(mask, scores >= 0.2)
    self.assertEqual(prune.count_edges(masked), (mask.sum(), 12))
    affine = {'stack': {'kan': {'affine': jnp.zeros((3, 2, 4))}}}
    self.assertEqual(prune.count_edges({'params': affine})[0], 6)

  def test_refine(self):
    layers, variables = _layers()
    model, finer = edits.refine(_SCANNED, variables, 5)
    self.assertEqual(model.grid, 5)
    for k, layer in enumerate(layers):
      chex.assert_trees_all_close(
          stacked.unstack(finer, k)['params']['stack']['kan'],
          edits.refine_variables(layer, 5)['params'], rtol=1e-5, atol=1e-6)

  def test_update_grids(self):
    layers, variables = _layers()
    x, expected = 2 * _X, []
    for layer in layers:
      layer = traversal.update_grids(_LAYER, layer, x)
      x = _LAYER.apply(layer, x)
      expected.append(layer)
    new = traversal.update_grids(_SCANNED, variables, 2 * _X)
    for k, layer in enumerate(expected):
      found = {kind: arrays['stack']['kan']
               for kind, arrays in stacked.unstack(new, k).items()}
      chex.assert_trees_all_close(found, layer, rtol=1e-3, atol=1e-4)

  def test_view_and_plot(self):
    layers, variables = _layers()
    views = traversal.view_layers(_SCANNED, variables, _X)
    self.assertEqual(list(views), [('stack', 'kan', str(k)) for k in range(3)])
    x = _X
    for layer, view in zip(layers, views.values(), strict=True):
      np.testing.assert_allclose(view.inputs, x, rtol=1e-5, atol=1e-5)
      np.testing.assert_array_equal(view.edges.coef, layer['params']['coef'])
      x = _LAYER.apply(layer, x)
    fig = edge_panels.plot_edges(_SCANNED, variables, _X, most=2)
    self.assertLen([ax for ax in fig.axes if ax.lines], 6)


class _Cell(nn.RNNCellBase):
  """A recurrent cell: the layer is applied at every time step."""

  @nn.compact
  def __call__(self, carry, x):
    y = linen.KANLayer(2, name='kan')(jnp.concatenate([carry, x], -1))
    return y, y

  def initialize_carry(self, rng, input_shape):
    del rng
    return jnp.zeros((*input_shape[:-1], 2))

  @property
  def num_feature_axes(self):
    return 1


class ErrorsTest(absltest.TestCase):

  def test_update_of_a_layer_in_a_loop_over_time(self):
    model = nn.RNN(_Cell(), variable_broadcast=('params', 'grid'))
    variables = {kind: {'cell': {'kan': arrays}}
                 for kind, arrays in networks.layer(4, 2).items()}
    with self.assertRaisesRegex(
        ValueError, 'layer cell/kan within a transform.*by itself'):
      traversal.update_grids(model, variables, jnp.ones((3, 4, 2)))

  def test_views_within_vmap(self):
    _, variables = _networks()
    with self.assertRaisesRegex(
        ValueError, '`model` applies the KAN layer layers_0 within'):
      traversal.view_layers(_MEMBERS, variables, jnp.ones((3, 3)))

  def test_statistics_that_a_transform_drops(self):
    """Without `edges` in `variable_axes` there are none: no silent 0."""
    model = nn.vmap(
        linen.KAN, variable_axes={'params': 0, 'grid': 0}, in_axes=None,
        split_rngs={'params': True}, axis_size=3)([3, 2, 1])
    _, variables = _networks()
    _, sown = _sown(model, variables, jnp.ones((4, 3)))
    with self.assertRaisesRegex(ValueError, "`stats` needs.*'edges' at 0"):
      regularization.Penalty()(variables['params'], sown.get('edges', {}))

  def test_one_layer_on_several_batches(self):
    """It has statistics for each of them, so no single score."""
    model = nn.vmap(
        linen.KANLayer, variable_axes={'params': None, 'grid': None,
                                       'edges': 0},
        split_rngs={'params': False})(2)
    variables = networks.layer(2, 2)
    _, sown = _sown(model, variables, jnp.ones((5, 4, 2)))
    with self.assertRaisesRegex(
        ValueError, r'`stats` needs.*\[\(2, 2\)\]; got \[\(5, 2, 2\)\]'):
      regularization.Penalty()(variables['params'], sown['edges'])

  def test_another_axis(self):
    _, variables = _networks()
    moved = jax.tree.map(lambda array: jnp.moveaxis(array, 0, -1), variables)
    with self.assertRaisesRegex(ValueError, 'need their axis first'):
      regularization.Penalty(l1=0, entropy=0, coef=1)(moved['params'], {})
    with self.assertRaisesRegex(ValueError, 'need their axis first'):
      edits.refine_variables(moved, 8)
