"""Newcomers' mistakes end in one line that says the way."""

import inspect
import pickle

from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import linen

_X = jnp.ones((3, 2))


class OptionsTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'width': [2, 1]}, r'`width`: write `features`.*KAN\(\[2, 5, 1\]\)'),
      ({'layers_hidden': [2, 1]}, '`layers_hidden`: write `features`'),
      ({'k': 3}, '`k`: write `order`'),
      ({'spline_order': 3}, '`spline_order`: write `order`'),
      ({'grid_size': 5}, '`grid_size`: write `grid`'),
      ({'grid_eps': 0.02}, r'`grid_eps`: .*GridUpdate\(eps=...\)'),
      ({'noise_scale': 0.1}, '`noise_scale`: write `noise`'),
      ({'base_fun': 'silu'}, '`base_fun`: write `base_fn`'),
      ({'seed': 0}, '`seed`: pass a key to `model.init`'),
      ({'symbolic_enabled': False}, '`symbolic_enabled`: leave it out.*`fix`'),
      ({'layer_type': 'chebyshev'}, "`layer_type`: write `basis`: .*'radial'"),
      ({'device': 'cpu'}, '`device`: leave it out'),
      ({'colour': 1}, '`colour`: it has features, grid, order, .*basis.$'))
  def test_of_other_libraries(self, options, message):
    with self.assertRaisesRegex(TypeError, f'^KAN has no option {message}'):
      linen.KAN(**{'features': [2, 5, 1]} | options)

  def test_of_a_layer(self):
    with self.assertRaisesRegex(
        TypeError, 'KANLayer has no option `in_features`: .*number of outputs'):
      linen.KANLayer(in_features=2, out_features=3)

  def test_the_rest_is_as_it_was(self):
    """The signature, copies, and classes made of these."""
    class Own(linen.KAN):
      extra: int = 1

    self.assertEqual(Own([2, 1], extra=3).extra, 3)
    self.assertIn('features', inspect.signature(linen.KAN).parameters)
    model = linen.KAN([2, 1], grid=3)
    self.assertEqual(pickle.loads(pickle.dumps(model)), model)
    self.assertEqual(model.clone(grid=4).grid, 4)


class CallsTest(parameterized.TestCase):

  def test_a_call_without_variables(self):
    for model in (linen.KAN([2, 1]), linen.KANLayer(2)):
      with self.assertRaisesRegex(
          ValueError, 'model.init.*model.apply.*in place of'):
        model(_X)

  def test_apply_without_variables(self):
    for args in ((), (_X,)):
      with self.assertRaisesRegex(ValueError, '`variables` come first'):
        linen.KAN([2, 1]).apply(*args)

  def test_the_ways_of_flax_are_open(self):
    """Bound, within other modules, and stacked."""
    class Model(nn.Module):

      @nn.compact
      def __call__(self, x):
        layers = nn.vmap(
            linen.KANLayer, variable_axes={'params': 0, 'grid': 0},
            split_rngs={'params': True})
        return layers(2)(x) + linen.KAN([2, 2])(x)

    x = jnp.ones((4, 3, 2))
    self.assertEqual(
        Model().init_with_output(jax.random.key(0), x)[0].shape, (4, 3, 2))
    model = linen.KAN([2, 1])
    variables = model.init(jax.random.key(0), _X)
    np.testing.assert_array_equal(
        model.bind(variables)(_X), model.apply(variables, _X))
