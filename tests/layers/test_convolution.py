"""KAN convolutions against a loop over patches, and within the library."""

import dataclasses

from absl.testing import parameterized
import chex
from flax import linen as nn
from flax import nnx as flax_nnx
import jax
import jax.numpy as jnp
import numpy as np

import kan_jax
from kan_jax.layers import convolution
from kan_jax.layers import nnx
from kan_jax.layers import traversal

_SMALL = {'grid': 3, 'order': 2}


def _x(*shape):
  return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


class PatchesTest(parameterized.TestCase):
  """Kernels of Flax's own convolution see the same entries."""

  @parameterized.parameters(
      ((7,), 3, 1, 'SAME', 1), ((7,), 3, 2, 'VALID', 2),
      ((7,), 3, 1, 'CIRCULAR', 2), ((6, 5), (2, 3), (2, 1), 'SAME', 1),
      ((6, 5), (3, 2), 1, ((2, 0), (1, 1)), (1, 2)),
      ((4, 3, 5), (2, 1, 2), (1, 1, 3), 1, 1), ((7,), 4, 3, 'CIRCULAR', 1))
  def test_as_a_linear_kernel(self, space, kernel, strides, padding, dilation):
    x = _x(2, *space, 2)
    layer = convolution.KANConv(
        3, kernel, strides, padding=padding, kernel_dilation=dilation, **_SMALL)
    size, steps, gaps, pads = layer._geometry
    patches = convolution.extract_patches(
        jnp.asarray(x), size, strides=steps, padding=pads, dilation=gaps)
    weight = _x(*size, 2, 3)
    same = nn.Conv(
        3, size, steps, padding=pads, kernel_dilation=gaps, use_bias=False,
        precision='highest')
    expected = same.apply({'params': {'kernel': weight}}, x)
    # Sums of up to 18 products below 1.
    np.testing.assert_allclose(
        np.einsum('...pi,pio->...o', patches, weight.reshape(-1, 2, 3)),
        expected, rtol=0, atol=2e-6)


class KANConvTest(parameterized.TestCase):

  def test_a_loop_over_patches(self):
    """Values and gradients; two groups, leading axes."""
    x = _x(2, 1, 4, 5, 4)
    layer = convolution.KANConv(
        6, (3, 2), padding='VALID', feature_group_count=2, **_SMALL)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    single = kan_jax.KANLayer(3, **_SMALL)

    def loop(x):
      rows = []
      for i in range(2):
        for j in range(4):
          patch = x[..., i:i + 3, j:j + 2, :]
          rows.append(jnp.concatenate([
              single.apply(
                  {kind: variables[kind][f'edges_{k}'] for kind in variables},
                  patch[..., 2 * k:2 * k + 2].reshape(2, 1, -1))
              for k in range(2)], -1))
      return jnp.stack(rows, -2).reshape(2, 1, 2, 4, 6)

    values = [jax.jit(lambda x, fn=fn: jax.value_and_grad(
        lambda x: (fn(x)**2).sum())(x))(x)
              for fn in (loop, lambda x: layer.apply(variables, x))]
    np.testing.assert_allclose(values[1][0], values[0][0], rtol=1e-5)
    np.testing.assert_allclose(values[1][1], values[0][1], atol=1e-5)

  def test_as_any_layer(self):
    """Grid updates, views, the penalty, frozen, and training."""
    x = _x(3, 6, 6, 1) * 2
    layer = convolution.KANConv(2, (3, 3), 3, padding='VALID', **_SMALL)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    moved = kan_jax.update_grids(layer, variables, x)
    knots = moved['grid']['edges']['knots']
    self.assertEqual(knots.shape, (9, 8))
    views = traversal.view_layers(layer, moved, x)
    rows = views['edges',].inputs
    self.assertEqual(rows.shape, (12, 9))
    # Each entry of a patch has a grid that covers what it saw.
    np.testing.assert_array_less(knots[:, 2], rows.min(0) + 1e-6)
    np.testing.assert_array_less(rows.max(0) - 1e-6, knots[:, -3])
    y, sown = layer.apply(moved, x, mutable='edges')
    self.assertEqual(y.shape, (3, 2, 2, 2))
    self.assertGreater(
        kan_jax.Penalty()(moved['params'], sown['edges']), 0)
    for args in ((x[:1],), ()):
      np.testing.assert_allclose(
          kan_jax.freeze(layer, moved, *args)(x), y, atol=1e-5)

  @parameterized.parameters(
      ({'features': 3, 'feature_group_count': 2}, '`features` .* 2 groups'),
      ({'kernel_size': (3, 0)}, '`kernel_size` is a whole number >= 1; got 0'),
      ({'strides': (1, 2, 3)}, '`strides` .* each axis'),
      ({'padding': 'full'}, "`padding` .* got 'full'"),
      ({'padding': (1, -1)}, '`padding` .* 2 axes'),
      ({'order': 9}, '`order`'))
  def test_options(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      convolution.KANConv(
          **{'features': 4, 'kernel_size': (3, 3)} | options)

  @parameterized.parameters(
      ((5,), {}, '`x` needs 2 axes of space'),
      ((2, 2, 1), {'padding': 'VALID'}, r'`kernel_size` \(3, 3\) reaches'),
      ((4, 4, 3), {'feature_group_count': 2}, 'channels for 2 groups; got 3'))
  def test_inputs(self, shape, options, message):
    layer = convolution.KANConv(2, (3, 3), **_SMALL, **options)
    with self.assertRaisesRegex(ValueError, message):
      layer.init(jax.random.key(0), jnp.zeros(shape))

  def test_channels_of_a_trained_one(self):
    layer = convolution.KANConv(2, 2, **_SMALL)
    variables = layer.init(jax.random.key(0), _x(1, 3, 2))
    for apply in (lambda x: layer.apply(variables, x),
                  nnx.from_linen(layer, variables)):
      with self.assertRaisesRegex(ValueError, r'`x` needs 2 channels.*, 3\)'):
        apply(_x(1, 3, 3))

  def test_groups_as_layers(self):
    """Each group is a layer; patches are its rows."""
    x = _x(2, 5, 4)
    layer = convolution.KANConv(
        4, 2, kernel_dilation=2, feature_group_count=2, **_SMALL)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    groups = convolution.split_groups(layer, variables, x)
    np.testing.assert_allclose(
        np.concatenate([
            group.layer.apply(group.variables, group.rows)
            for group in groups], -1).reshape(2, 5, 4),
        layer.apply(variables, x), atol=1e-6)
    self.assertEqual(layer.reach, (3,))
    self.assertEqual(layer.count_channels(groups[0].rows.shape[1]), 4)


class PruningTest(parameterized.TestCase):

  def test_edges(self):
    """Means go to the biases, which a convolution may be given first."""
    x = _x(2, 4, 4, 1)
    layer = convolution.KANConv(2, (2, 2), bias=False, noise=3.0, **_SMALL)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    with self.assertRaisesRegex(ValueError, 'add_biases'):
      kan_jax.prune_edges(layer, variables, x, edges=[(0, 1, 0)])
    layer, variables = kan_jax.layers.add_biases(layer, variables)
    pruned, arrays, report = kan_jax.prune_edges(
        layer, variables, x, edges=[(0, 1, 0), (0, 2, 1)])
    self.assertEqual(pruned, layer)
    self.assertEqual((report.edges_before, report.edges), (8, 6))
    np.testing.assert_array_equal(
        arrays['grid']['edges']['mask'], [[1, 1], [0, 1], [1, 0], [1, 1]])
    before, after = (
        layer.apply(v, x).mean((0, 1, 2)) for v in (variables, arrays))
    np.testing.assert_allclose(after, before, atol=1e-6)
    made, again = kan_jax.prune_edges(
        nnx.from_linen(layer, variables), x, edges=[(0, 1, 0), (0, 2, 1)])
    chex.assert_trees_all_equal(nnx.to_linen(made)[1], arrays)
    self.assertEqual(again.removed_edges, report.removed_edges)

  def test_masks_and_finer_grids(self):
    """What takes variables alone, or a model with an attribute `grid`."""
    x = _x(2, 5, 1)
    layer = convolution.KANConv(2, 3, noise=3.0, **_SMALL)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    y, sown = layer.apply(variables, x, mutable='edges')
    scores = kan_jax.layers.edge_scores(sown['edges']['edges']['stats'][0])
    masked = kan_jax.pruning.mask_edges(
        variables, sown['edges'], scores.mean())
    np.testing.assert_array_equal(
        masked['grid']['edges']['mask'], scores >= scores.mean())
    finer, arrays = kan_jax.refine(layer, variables, 5)
    np.testing.assert_allclose(finer.apply(arrays, x), y, atol=1e-5)

  def test_what_needs_a_layer(self):
    x = _x(2, 4, 2)
    layer = convolution.KANConv(2, 2, feature_group_count=2, **_SMALL)
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    with self.assertRaisesRegex(ValueError, '2 groups.*split_groups'):
      kan_jax.prune_edges(layer, variables, x, threshold=0.1)
    with self.assertRaisesRegex(ValueError, 'got KANConv.*split_groups'):
      kan_jax.attribution(layer, variables, x)
    for group in convolution.split_groups(layer, variables, x):
      self.assertEqual(kan_jax.attribution(*group).edges[0].shape, (2, 1))


class NnxTest(parameterized.TestCase):
  """The twin for NNX has the numbers of Linen's."""

  def test_all_options(self):
    fields = {field.name for field in dataclasses.fields(convolution.KANConv)}
    self.assertEqual(
        set(nnx.ConvOptions.__annotations__) | {'features', 'kernel_size'},
        fields - {'parent', 'name'})

  @parameterized.parameters(1, 2)
  def test_as_for_linen(self, groups):
    """First numbers, outputs, grid updates and penalty; there and back."""
    options = {'padding': 'VALID', 'feature_group_count': groups, **_SMALL}
    made = nnx.KANConv(2, 4, (2, 3), rngs=flax_nnx.Rngs(3), **options)
    expected = convolution.KANConv(4, (2, 3), **options)
    x = _x(3, 3, 4, 2)
    variables = expected.init(flax_nnx.Rngs(3).params(), x)
    model, arrays = nnx.to_linen(made)
    self.assertEqual(model, expected)
    chex.assert_trees_all_equal(arrays, variables, strict=True)
    flax_nnx.jit(nnx.update_grids)(made, x)
    variables = jax.jit(kan_jax.update_grids, static_argnums=0)(
        model, variables, x)
    same = nnx.from_linen(model, variables)
    for layer in (made, same):
      chex.assert_trees_all_equal(nnx.to_linen(layer)[1], variables)
    y, sown = model.apply(variables, x, mutable='edges')
    outputs, cost = nnx.with_penalty(same, x)
    np.testing.assert_array_equal(outputs, y)
    self.assertEqual(
        cost, kan_jax.Penalty()(variables['params'], sown['edges']))

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, 'channels for 2 groups; got 3'):
      nnx.KANConv(3, 4, 2, feature_group_count=2, rngs=flax_nnx.Rngs(0))
    with self.assertRaisesRegex(ValueError, '`in_features`'):
      nnx.KANConv(0, 4, 2, rngs=flax_nnx.Rngs(0))
