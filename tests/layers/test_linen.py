"""The Flax modules: values, types, transforms, and grids inside any model."""

import dataclasses
import functools
from unittest import mock

from absl.testing import parameterized
import chex
from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from kan_jax.layers import initial_values
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.splines import bsplines

_X = jax.random.uniform(jax.random.key(0), (64, 2), minval=-1, maxval=1)


# Op by op, each of these would compile dozens of programs; the variants without
# jit below run them so. Equal models share what is compiled.
_jit_init = jax.jit(lambda model, x: model.init(jax.random.key(1), x),
                    static_argnums=0)
_apply = jax.jit(lambda model, variables, x: model.apply(variables, x),
                 static_argnums=0)
_update = jax.jit(traversal.update_grids, static_argnums=0)


def _init(model, x=_X):
  return _jit_init(model, x)


class Mixed(nn.Module):
  """KAN layers between others: one nested, one used twice."""

  @nn.compact
  def __call__(self, x):
    shared = linen.KANLayer(4, name='shared')
    x = nn.Dense(4)(x)
    x = shared(shared(x) + 3)
    return nn.Dense(1)(linen.KAN([4, 3], name='nested')(x))


class KANLayerTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.parameters((3, 5), (0, 1), (5, 2))
  def test_follows_its_formula(self, order, grid):
    layer = linen.KANLayer(3, grid=grid, order=order)
    variables = _init(layer)
    params = variables['params'] | {'node_bias': jnp.array([1.0, 2.0, 3.0])}
    held = variables['grid'] | {'mask': jnp.array([[1.0, 0, 1], [1, 1, 0]])}
    y = self.variant(layer.apply)({'params': params, 'grid': held}, _X)
    spline = bsplines.evaluate(_X, held['knots'], params['coef'], order)
    silu = (_X / (1 + np.exp(-_X)))[..., None]
    edges = held['mask'][None] * (
        params['scale_base'][None] * silu
        + params['scale_spline'][None] * spline)
    # A sum of four products in float32.
    np.testing.assert_allclose(
        y, edges.sum(1) + params['node_bias'][None], atol=2e-6)

  def test_variables(self):
    variables = _init(linen.KANLayer(3, grid=4, order=2))
    self.assertEqual(variables.keys(), {'params', 'grid'})
    shapes = jax.tree.map(jnp.shape, variables)
    self.assertEqual(shapes['params'], {
        'coef': (2, 6, 3), 'scale_base': (2, 3), 'scale_spline': (2, 3),
        'node_bias': (3,)})
    self.assertEqual(shapes['grid'], {'knots': (2, 9), 'mask': (2, 3)})
    plain = _init(linen.KANLayer(3, bias=False))
    self.assertNotIn('node_bias', plain['params'])

  def test_initial_splines_pass_through_the_noise(self):
    variables = _init(linen.KANLayer(50, grid=4, noise=0.4))
    knots = bsplines.uniform_knots(2, 4, 3)
    at_knots = bsplines.evaluate(
        bsplines.interior(knots, 3).T, knots, variables['params']['coef'], 3)
    self.assertLess(np.abs(at_knots).max(), 0.4 / 4 / 2 + 1e-4)
    self.assertGreater(np.abs(at_knots).max(), 0.4 / 4 / 2 * 0.9)

  def test_known_spline_values_outside(self):
    """Coefficients, base and spline weights all 1, on intervals of 0.4."""
    layer = linen.KANLayer(1)
    x = jnp.array([[1.4], [2.2], [100.0], [-1e6]])
    variables = _init(layer, x)
    params = jax.tree.map(jnp.ones_like, variables['params'])
    params['node_bias'] = jnp.zeros(1)
    y = _apply(layer, variables | {'params': params}, x)
    silu = x * special.expit(np.asarray(x))
    np.testing.assert_allclose(
        y - silu, [[0.83333], [0], [0], [0]], atol=2e-5)


class KANTest(chex.TestCase):

  def test_every_option_reaches_the_layers(self):
    """All fields that KAN shares with KANLayer, each with another value."""
    options = {
        'grid': 4, 'order': 2, 'grid_range': (-2.0, 3.0), 'base_fn': jnp.sin,
        'outside': 'linear', 'noise': 0.3,
        'scale_base_init': nn.initializers.ones,
        'scale_spline_init': nn.initializers.zeros, 'bias': False,
        'dtype': jnp.bfloat16, 'param_dtype': jnp.float16,
        'precision': 'high', 'basis': 'radial'}
    shared = {field.name for field in dataclasses.fields(linen.KANLayer)} - {
        'features', 'symbolic', 'parent', 'name'}
    self.assertEqual(options.keys() | {'initial'}, shared)
    scheme = initial_values.PowerLaw()  # In place of `scale_base_init`.
    self.assertEqual(
        linen.KAN([2, 1], initial=scheme).make_layer(0, parent=None).initial,
        scheme)
    layers = []

    def look(next_fun, args, kwargs, context):
      if (isinstance(context.module, linen.KANLayer)
          and context.method_name == '__call__'):
        layers.append(context.module)
      return next_fun(*args, **kwargs)

    model = linen.KAN([2, 3, 1], **options)
    with nn.intercept_methods(look):
      jax.eval_shape(model.init, jax.random.key(0), _X)
    self.assertLen(layers, 2)
    for layer in layers:
      for name, value in options.items():
        self.assertNotEqual(getattr(linen.KAN([2, 1]), name), value)
        self.assertEqual(getattr(layer, name), value)

  def test_precision_is_kept_by_its_name(self):
    """So that models of one precision are equal, and files can hold it."""
    for given, name in ((jax.lax.Precision.HIGH, 'high'), ('HIGH', 'high'),
                        (None, None)):
      self.assertEqual(linen.KAN([2, 1], precision=given),
                       linen.KAN([2, 1], precision=name))
    self.assertEqual(linen.KANLayer(1).precision, 'highest')

  def test_leading_shapes(self):
    model = linen.KAN([2, 3, 1])
    variables = _init(model)
    flat = _apply(model, variables, _X)
    chex.assert_shape(flat, (64, 1))
    cube = _apply(model, variables, _X.reshape(4, 16, 2))
    np.testing.assert_allclose(cube, flat.reshape(4, 16, 1), atol=1e-6)
    single = _apply(model, variables, _X[0])
    np.testing.assert_allclose(single, flat[0], atol=1e-6)
    mapped = jax.jit(jax.vmap(functools.partial(model.apply, variables)))(_X)
    np.testing.assert_allclose(mapped, flat, atol=1e-6)
    chex.assert_shape(_apply(model, variables, _X[:0]), (0, 1))

  def test_one_compilation(self):
    model = linen.KAN([2, 3, 1])
    variables = _init(model)
    chex.clear_trace_counter()
    apply = jax.jit(chex.assert_max_traces(lambda *a: model.apply(*a), n=1))
    for seed in range(3):
      apply(variables, jax.random.normal(jax.random.key(seed), (8, 2)))

  def test_op_by_op(self):
    """As in a notebook: a few programs, not one for each operation."""
    layer, x = linen.KANLayer(3), _X[:7]
    with jax.log_compiles(), self.assertLogs('jax') as logs:
      variables = layer.init(jax.random.key(0), x)
      layer.apply(variables, x, mutable=['edges'])
    programs = [line for line in logs.output if 'XLA compilation' in line]
    self.assertBetween(len(programs), 1, 25)  # Of single operations, 200.
    chex.assert_trees_all_close(
        variables['grid'], _init(layer, x)['grid'], atol=1e-6)

  def test_second_derivatives(self):
    """Of x, and of parameters through x: finite, and right by differences."""
    model = linen.KAN([2, 3, 1])
    with jax.enable_x64(True):
      model = linen.KAN([2, 3, 1], param_dtype=jnp.float64)
      x = np.asarray(_X[0], np.float64)
      variables = _init(model, x)
      def f(x):
        return model.apply(variables, x)[0]
      hessian, grad = jax.jit(jax.hessian(f))(x), jax.jit(jax.grad(f))
      step = 1e-5
      for i in range(2):
        e = step * np.eye(2)[i]
        difference = (grad(x + e) - grad(x - e)) / (2 * step)
        np.testing.assert_allclose(hessian[i], difference, atol=1e-7)
      def slope(params):
        return jax.grad(lambda x: model.apply(
            {**variables, 'params': params}, x)[0])(x).sum()
      chex.assert_tree_all_finite(
          jax.jit(jax.grad(slope))(variables['params']))

  @parameterized.parameters(jnp.bfloat16, jnp.float32, jnp.float64)
  def test_dtypes(self, dtype):
    with jax.enable_x64(dtype == jnp.float64):
      model = linen.KAN([2, 3, 1], dtype=dtype, param_dtype=dtype)
      x = _X.astype(dtype)
      variables = _init(model, x)
      y = _apply(model, variables, x)
      chex.assert_type(y, dtype)
      chex.assert_type(variables['params']['layers_0']['coef'], dtype)
      # 8 bits do not tell knots apart.
      self.assertNotEqual(variables['grid']['layers_0']['knots'].dtype,
                          jnp.bfloat16)
      new = _update(model, variables, x)
      chex.assert_trees_all_equal_dtypes(new, variables)
      chex.assert_tree_all_finite(new)

  def test_every_parameter_learns_and_no_grid_does(self):
    model = linen.KAN([2, 3, 1])
    variables = _init(model)
    grads = jax.jit(jax.grad(
        lambda v: (model.apply(v, _X)**2).sum(), allow_int=True))(variables)
    for leaf in jax.tree.leaves(grads['params']):
      self.assertGreater(np.abs(leaf).max(), 0)

  def test_rows_are_independent(self):
    model = linen.KAN([2, 3, 1])
    variables = _init(model)
    y = _apply(model, variables, _X)
    for i in range(20):
      np.testing.assert_allclose(
          _apply(model, variables, _X[i:i + 1])[0], y[i], atol=1e-6)

  def test_nnx(self):
    model = linen.KAN([2, 3, 1])
    wrapped = nnx.bridge.ToNNX(model, rngs=nnx.Rngs(0)).lazy_init(_X)
    chex.assert_shape(wrapped(_X), (64, 1))

  @parameterized.parameters(
      (lambda: linen.KAN([2]), r'`features`.*\[2, 5, 1\]; got \[2\]'),
      (lambda: linen.KAN([2, 0]), r'`features`.*>= 1.*got \[2, 0\]'),
      (lambda: linen.KAN([2, 1], grid=0), '`grid`.*got 0'),
      (lambda: linen.KAN([2, 1], order=6), '`order`.*got 6'),
      (lambda: linen.KAN([2, 1], outside='x'), "`outside`.*got 'x'"),
      (lambda: linen.KAN([2, 1], precision='f32'), "`precision`.*got 'f32'"),
      (lambda: linen.KANLayer(0), '`features`.*got 0'),
      (lambda: linen.KANLayer(1, grid_range=(1, -1)), '`grid_range`'))
  def test_impossible_options(self, make, message):
    with self.assertRaisesRegex(ValueError, message):
      make()

  def test_impossible_inputs(self):
    model = linen.KAN([1, 2])
    variables = _init(model, _X[:, :1])
    with self.assertRaisesRegex(ValueError, r'\[..., 1\].*got \(64, 2\)'):
      model.apply(variables, _X)
    with self.assertRaisesRegex(ValueError, 'floating dtype; got int32'):
      model.apply(variables, jnp.ones((3, 1), jnp.int32))
    layer = linen.KANLayer(2)
    with self.assertRaisesRegex(ValueError, r'\[..., 2\].*got \(4, 3\)'):
      layer.apply(_init(layer), jnp.ones((4, 3)))


class UpdateGridsTest(chex.TestCase):

  def test_touches_knots_and_coefficients_alone(self):
    model = linen.KAN([2, 3, 1])
    variables = _init(model)
    new = _update(model, variables, 2 * _X)
    changed = jax.tree.map(
        lambda a, b: bool(np.any(np.not_equal(a, b))), variables, new)
    for layer in ('layers_0', 'layers_1'):
      self.assertEqual(changed['grid'][layer], {'knots': True, 'mask': False})
      self.assertEqual(changed['params'][layer], {
          'coef': True, 'scale_base': False, 'scale_spline': False,
          'node_bias': False})

  def test_a_layer_by_itself_takes_leading_axes(self):
    layer = linen.KANLayer(3)
    update = jax.jit(lambda v, x: layer.apply(
        v, x, method='update_grid', mutable=['params', 'grid'])[1])
    variables = _init(layer)
    chex.assert_trees_all_close(
        update(variables, _X.reshape(4, 16, 2)), update(variables, _X),
        atol=1e-6)

  @chex.variants(with_jit=True, without_jit=True)
  def test_any_model(self):
    model = Mixed()
    variables = _init(model)
    x = 4 * _X
    new = self.variant(functools.partial(traversal.update_grids, model))(
        variables, x)
    seen = traversal.view_layers(model, new, x)
    self.assertEqual(list(seen), [('shared',), ('nested', 'layers_0')])
    # Each layer's grid covers what it is given after the update; a layer that
    # is used twice covers both of its inputs.
    for view in seen.values():
      grid = bsplines.interior(view.edges.knots, view.order)
      self.assertTrue((view.inputs.min(0) >= grid[:, 0]).all())
      self.assertTrue((view.inputs.max(0) <= grid[:, -1]).all())
    first = nn.Dense(4).apply({'params': variables['params']['Dense_0']}, x)
    grid = bsplines.interior(new['grid']['shared']['knots'], 3)
    self.assertTrue((first.min(0) >= grid[:, 0]).all())
    chex.assert_tree_all_finite(new)

  @parameterized.parameters(jnp.float32, jnp.float64)
  def test_output_stays(self, dtype):
    """Few rows, a constant and a binary column: the model gives the same."""
    with jax.enable_x64(dtype == jnp.float64):
      model = linen.KAN([3, 4, 1], noise=3.0, param_dtype=dtype)
      x = np.concatenate([_X, np.ones((64, 1))], 1).astype(dtype)
      binary = np.stack([x[:, 0] > 0, np.full(64, 0.25), x[:, 2]], 1)
      variables = _init(model, x)
      grad = jax.jit(jax.grad(lambda v, rows: model.apply(v, rows).sum()))
      for rows in (x[:1], x[:5], binary.astype(dtype)):
        before = _apply(model, variables, rows)
        new = _update(model, variables, rows)
        after = _apply(model, new, rows)
        tolerance = 1e-4 if dtype == jnp.float32 else 1e-8
        np.testing.assert_allclose(
            after, before, atol=tolerance * max(np.ptp(before), 1))
        chex.assert_tree_all_finite(grad(new, rows))

  def test_view_gives_what_the_layers_sum(self):
    model = linen.KAN([2, 3, 1])
    variables = _init(model)

    @jax.jit
    def sums_and_inputs(variables, x):
      first, second = traversal.view_layers(model, variables, x).values()
      return first.edge_outputs(first.inputs).sum(1), second.inputs

    np.testing.assert_allclose(*sums_and_inputs(variables, _X), atol=1e-5)

  def test_samples_of_edges_are_those_of_the_view(self):
    """Every row of them, also where some are computed at a time."""
    layer = linen.KANLayer(3)
    view, = traversal.view_layers(layer, _init(layer), _X).values()
    values = np.asarray(view.edge_outputs(view.inputs))
    with mock.patch.object(traversal, '_CHUNK', 6 * 25):
      x, y = traversal.edge_samples(view, [(1, 2), (0, 0)])
    np.testing.assert_array_equal(x, _X[:, ::-1])
    np.testing.assert_allclose(y, values[:, [1, 0], [2, 0]], atol=1e-6)

  def test_views_of_what_is_no_model(self):
    with self.assertRaisesRegex((TypeError, ValueError), '`model`'):
      traversal.view_layers('KAN', {}, _X)
