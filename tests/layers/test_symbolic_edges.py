"""Symbolic edges in layers: values, gradients, statistics, views."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import symbolic_edges
from kan_jax.layers import traversal

_X = jax.random.uniform(jax.random.key(0), (64, 2), minval=-1, maxval=1)
_SYMBOLIC = (('sin', ((0, 2), (1, 0))), ('x^2', ((1, 2),)))
_AFFINE = jnp.array([[3.0, 1, 2, 0.5], [1, 0, -1, 0], [2, 1, 1, -1]])


def _expected(x):
  """What the three symbolic edges give, by hand."""
  x = np.asarray(x, np.float64)
  return np.stack([
      2 * np.sin(3 * x[:, 0] + 1) + 0.5, -np.sin(x[:, 1]),
      (2 * x[:, 1] + 1)**2 - 1], 1)


@functools.cache
def _layer():
  """A layer with three symbolic edges, whose splines are masked."""
  layer = linen.KANLayer(3, symbolic=_SYMBOLIC)
  variables = jax.jit(layer.init)(jax.random.key(1), _X)
  mask = jnp.array([[1.0, 1, 0], [0, 1, 0]])
  return layer, {'params': variables['params'] | {'affine': _AFFINE},
                 'grid': variables['grid'] | {'mask': mask}}


class SymbolicLayerTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  def test_adds_its_functions(self):
    layer, variables = _layer()
    plain = linen.KANLayer(3)
    splines = plain.apply(variables, _X)
    y = self.variant(layer.apply)(variables, _X)
    curves = _expected(_X)
    expected = np.asarray(splines, np.float64)
    expected[:, 2] += curves[:, 0] + curves[:, 2]
    expected[:, 0] += curves[:, 1]
    np.testing.assert_allclose(y, expected, atol=4e-6)

  def test_variables(self):
    layer = linen.KANLayer(3, symbolic=_SYMBOLIC)
    params = jax.jit(layer.init)(jax.random.key(1), _X)['params']
    np.testing.assert_array_equal(params['affine'], [[1, 0, 1, 0]] * 3)
    plain = jax.jit(linen.KANLayer(3).init)(jax.random.key(1), _X)['params']
    self.assertNotIn('affine', plain)
    others = {name: params[name] for name in plain}
    chex.assert_trees_all_equal(others, plain)

  def test_no_cost_without(self):
    layer, variables = linen.KANLayer(3), _layer()[1]
    self.assertNotIn('scatter', str(jax.make_jaxpr(layer.apply)(variables, _X)))

  def test_each_function_once(self):
    layer, variables = _layer()
    program = str(jax.make_jaxpr(layer.apply)(variables, _X))
    self.assertEqual(program.count('= sin '), 1)

  @parameterized.parameters(jnp.bfloat16, jnp.float64)
  def test_dtypes(self, dtype):
    with jax.enable_x64(dtype == jnp.float64):
      layer = linen.KANLayer(
          3, symbolic=_SYMBOLIC, dtype=dtype, param_dtype=dtype)
      y, variables = jax.eval_shape(
          layer.init_with_output, jax.random.key(1), _X.astype(dtype))
      chex.assert_type(y, dtype)
      chex.assert_type(variables['params']['affine'], dtype)

  def test_numbers_are_trained(self):
    layer, variables = _layer()
    grads = jax.jit(jax.grad(lambda p: layer.apply(
        {**variables, 'params': p}, _X).sum()))(variables['params'])
    x = np.asarray(_X[:, 0], np.float64)
    z = 3 * x + 1
    np.testing.assert_allclose(grads['affine'][0], [
        (2 * np.cos(z) * x).sum(), 2 * np.cos(z).sum(), np.sin(z).sum(), 64],
        rtol=1e-4)

  def test_statistics(self):
    layer, variables = _layer()
    _, sown = jax.jit(functools.partial(layer.apply, mutable='edges'))(
        variables, _X)
    stats = regularization.layer_stats(sown['edges'])[()]
    curves = _expected(_X)
    for k, (i, o) in enumerate(symbolic_edges.pairs(_SYMBOLIC)):
      np.testing.assert_allclose(
          stats.mean_abs[i, o], np.abs(curves[:, k]).mean(), rtol=1e-4)
      np.testing.assert_allclose(
          stats.std[i, o], curves[:, k].std(ddof=1), rtol=1e-4)
    # One row and a constant edge: finite, and so are gradients.
    def penalty(params):
      _, sown = layer.apply(
          {**variables, 'params': params}, _X[:1], mutable='edges')
      return regularization.Penalty(metric='std')(params, sown['edges'])
    chex.assert_tree_all_finite(
        jax.jit(jax.grad(penalty))(variables['params']))

  def test_view(self):
    layer, variables = _layer()
    view, = traversal.view_layers(layer, variables, _X).values()
    values = view.edge_outputs(view.inputs)
    np.testing.assert_allclose(
        values.sum(1), layer.apply(variables, _X), atol=4e-6)
    np.testing.assert_allclose(values[:, 1, 0], _expected(_X)[:, 1], atol=1e-6)
    self.assertEqual(view.symbolic, _SYMBOLIC)

  def test_grid_update_keeps_them(self):
    layer, variables = _layer()
    new = traversal.update_grids(layer, variables, 2 * _X)
    np.testing.assert_array_equal(new['params']['affine'], _AFFINE)
    np.testing.assert_allclose(
        layer.apply(new, _X), layer.apply(variables, _X), atol=0.05)

  def test_in_a_network(self):
    own = functions.Function('soft', jnp.arctan, sympy.atan, 2)
    symbolic = ((), ((own, ((0, 0),)),))
    model = linen.KAN([2, 3, 1], symbolic=symbolic)
    variables = jax.jit(model.init)(jax.random.key(1), _X)
    self.assertNotIn('affine', variables['params']['layers_0'])
    chex.assert_shape(variables['params']['layers_1']['affine'], (1, 4))
    apply = jax.jit(lambda v, x: model.apply(v, x))
    chex.assert_shape(apply(variables, _X.reshape(4, 16, 2)), (4, 16, 1))
    chex.assert_shape(apply(variables, _X[0]), (1,))
    self.assertEqual(hash(model), hash(model.clone()))

  @parameterized.parameters(
      ((('sine', ((0, 0),)),), "`name`.*got 'sine'"),
      (('sin',), "`symbolic` pairs.*got .*'sin'"),
      ((('sin', ((0, 0.5),)),), '`symbolic` pairs.*0.5'),
      ((('sin', ((0, 0),)), ('cos', ((0, 0),))), '`symbolic`.*once'),
      ((('sin', ((-1, 0),)),), '`symbolic`.*counts from 0'))
  def test_impossible_edges(self, symbolic, message):
    with self.assertRaisesRegex(ValueError, message):
      linen.KANLayer(3, symbolic=symbolic)

  def test_impossible_places(self):
    layer = linen.KANLayer(3, symbolic=(('sin', ((2, 0),)),))
    with self.assertRaisesRegex(ValueError, r'\(2, 0\).*2 inputs'):
      layer.init(jax.random.key(0), _X)
    with self.assertRaisesRegex(ValueError, '`symbolic`.*2 layers; got 1'):
      linen.KAN([2, 3, 1], symbolic=((),))
