"""Giving edges functions and taking them back."""

import functools

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.symbolic import fixing
from kan_jax.training import fitting
from kan_jax.training import optimizers

_X = jax.random.uniform(jax.random.key(0), (200, 2), minval=-1, maxval=1)


@functools.cache
def _model():
  model = linen.KAN([2, 3, 1])
  return model, jax.jit(model.init)(jax.random.key(1), _X)


class FixTest(chex.TestCase):

  def test_with_numbers(self):
    model, variables = _model()
    before = model.apply(variables, _X)
    view = traversal.view_layers(model, variables, _X)['layers_0',]
    edge = view.edge_outputs(_X)[:, 1, 2]
    new, fixed = fixing.fix(
        model, variables, None, 0, 1, 2, 'cos', params=(2, 0.5, 3, -1))
    values = traversal.view_layers(new, fixed, _X)['layers_0',].edge_outputs(_X)
    np.testing.assert_allclose(
        values[:, 1, 2], 3 * np.cos(2 * _X[:, 1] + 0.5) - 1, atol=1e-6)
    self.assertGreater(np.abs(values[:, 1, 2] - edge).max(), 1)
    # What came in is as it was.
    np.testing.assert_array_equal(model.apply(variables, _X), before)
    self.assertEqual(model.symbolic, ())

  def test_fitted(self):
    model, variables = _model()
    new, fixed = fixing.fix(model, variables, _X, 1, 0, 0, 'x')
    slope = fixed['params']['layers_1']['affine'][0, 2]
    view = traversal.view_layers(model, variables, _X)['layers_1',]
    expected = np.polyfit(
        view.inputs[:, 0], view.edge_outputs(view.inputs)[:, 0, 0], 1)[0]
    np.testing.assert_allclose(slope, expected, rtol=1e-3)
    self.assertEqual(new.symbolic, ((), (('x', ((0, 0),)),)))

  def test_variables_of_numpy(self):
    """As those of an estimator are; the same comes out, none is written to."""
    model, variables = _model()
    arrays = jax.tree.map(np.array, variables)
    for edit in (
        lambda given: fixing.fix(
            model, given, None, 0, 1, 2, 'x', params=(1, 0, 2, 0)),
        lambda given: fixing.remove(model, given, 0, 1, 2)):
      new, fixed = edit(arrays)
      expected_model, expected = edit(variables)
      self.assertEqual(new, expected_model)
      chex.assert_trees_all_equal(fixed, expected)
    chex.assert_trees_all_equal(arrays, variables)

  def test_back_and_forth(self):
    model, variables = _model()
    new, fixed = model, variables
    edges = [(0, 1, 2, 'sin'), (0, 0, 0, 'x'), (1, 2, 0, 'exp'),
             (0, 0, 1, 'sin'), (0, 1, 2, 'cos')]
    for k, (layer, i, o, name) in enumerate(edges):
      new, fixed = fixing.fix(new, fixed, None, layer, i, o, name,
                              params=(k, 0, 1, 0))
    self.assertEqual(dict(new.symbolic[0]), {
        'cos': ((1, 2),), 'x': ((0, 0),), 'sin': ((0, 1),)})
    numbers = edits.read(new, fixed, ('layers_0',))
    self.assertEqual(
        {edge: int(row[0]) for edge, (_, row) in numbers.items()},
        {(1, 2): 4, (0, 0): 1, (0, 1): 3})
    for layer, i, o, _ in edges:
      new, fixed = fixing.unfix(new, fixed, layer, i, o)
    self.assertEqual(new, model)
    chex.assert_trees_all_equal(fixed, variables)

  def test_remove(self):
    model, variables = _model()
    new, fixed = fixing.fix(
        model, variables, None, 0, 0, 0, 'exp', params=(1, 0, 1, 0))
    new, fixed = fixing.remove(new, fixed, 0, 0, 0)
    new, fixed = fixing.remove(new, fixed, 0, 1, 1)
    values = traversal.view_layers(new, fixed, _X)['layers_0',].edge_outputs(_X)
    self.assertFalse(values[:, 0, 0].any() or values[:, 1, 1].any())
    self.assertEqual(new, model)

  def test_a_single_layer(self):
    layer = linen.KANLayer(2)
    variables = jax.jit(layer.init)(jax.random.key(1), _X)
    new, fixed = fixing.fix(
        layer, variables, None, (), 0, 1, 'sin', params=(1, 0, 1, 0))
    self.assertEqual(new.symbolic, (('sin', ((0, 1),)),))
    chex.assert_shape(new.apply(fixed, _X), (200, 2))

  def test_numbers_are_refined_to_machine_precision(self):
    with jax.enable_x64(True):
      x = _X.astype(jnp.float64)
      y = 2 * jnp.sin(3 * x[:, :1] + 0.5) + 0.7
      model = linen.KAN([2, 1], param_dtype=jnp.float64)
      variables = jax.jit(model.init)(jax.random.key(1), x)
      model, variables = fixing.remove(model, variables, 0, 1, 0)
      model, variables = fixing.fix(
          model, variables, None, 0, 0, 0, 'sin', params=(2.9, 0.4, 1.9, 0.6))
      found = fitting.fit(
          model, variables, x, y, steps=20, update_steps=(),
          optimizer=optimizers.LevenbergMarquardt())
      self.assertLess(found.history['loss'][-1], 1e-20)

  def test_errors(self):
    model, variables = _model()
    with self.assertRaisesRegex(ValueError, '`x` or `params`.*got neither'):
      fixing.fix(model, variables, None, 0, 0, 0, 'sin')
    with self.assertRaisesRegex(ValueError, 'got both'):
      fixing.fix(model, variables, _X, 0, 0, 0, 'sin', params=(1, 0, 1, 0))
    with self.assertRaisesRegex(ValueError, '`params` are a, b, c and d'):
      fixing.fix(model, variables, None, 0, 0, 0, 'sin', params=(1, 0))
    with self.assertRaisesRegex(ValueError, "`name`.*got 'sine'"):
      fixing.fix(model, variables, _X, 0, 0, 0, 'sine')
    with self.assertRaisesRegex(ValueError, '2 inputs and 3 .*got the edge 2'):
      fixing.unfix(model, variables, 0, 2, 0)
    with self.assertRaisesRegex(ValueError, '`layer` is 0 to 1.*got -1'):
      fixing.remove(model, variables, -1, 0, 0)
    dense = nn.Sequential([linen.KAN([2, 1])])
    inner = jax.jit(dense.init)(jax.random.key(0), _X)
    with self.assertRaisesRegex(ValueError, '`model` needs to be a KAN'):
      fixing.remove(dense, inner, ('layers_0', 'layers_0'), 0, 0)
