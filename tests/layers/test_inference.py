"""Frozen models: the outputs of `apply`, to 1e-6 of their range."""

from unittest import mock

from absl.testing import parameterized
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np

import kan_jax
from kan_jax.layers import _folded
from kan_jax.layers import inference
from kan_jax.splines import _backends

# Beyond the grid [-1, 1] on both sides, and at both its ends.
_X = np.concatenate([np.random.default_rng(0).uniform(-1.6, 1.6, (38, 2)),
                     [[-1, 1], [1, -1]]]).astype(np.float32)


def _variables(model, size=2):
  """Returns random parameters, and grids on [-1, 1]."""
  order = getattr(model, 'order', 3)

  def fill(path, leaf):
    if path[-1].key == 'knots':
      grid = leaf.shape[-1] - 2 * order - 1
      steps = np.arange(-order, grid + order + 1)
      return jnp.broadcast_to(
          jnp.asarray(-1 + 2 / grid * steps, jnp.float32), leaf.shape)
    return jnp.ones_like(leaf) if path[-1].key == 'mask' else leaf

  return jax.tree.map_with_path(fill, networks.random(model, size))


def _moved(model, variables, x):
  """Returns variables with knots at quantiles."""
  return kan_jax.update_grids(
      model, variables, x, grid_update=kan_jax.GridUpdate(eps=0.1))


def _is_equal(frozen):
  """Whether each layer has equal spacing."""
  return [form == 'moved' for form in frozen.forms.values()]


class FreezeTest(parameterized.TestCase):

  def _check(self, model, variables, x=_X, equal=None, args=()):
    frozen = inference.freeze(model, variables, *args)
    expected = np.asarray(model.apply(variables, x))
    np.testing.assert_allclose(
        frozen(x), expected, rtol=0, atol=1e-6 * np.ptp(expected))
    if equal is not None:
      self.assertEqual(_is_equal(frozen), equal)
    return frozen

  @parameterized.parameters(
      (1, 'zero', True), (2, 'linear', True), (3, 'zero', True),
      (4, 'clamp', True), (5, 'linear', True), (1, 'linear', True),
      (0, 'zero', False), (3, 'polynomial', False))
  def test_all_that_a_spline_does_beyond(self, order, outside, equal):
    model = kan_jax.KANLayer(3, order=order, outside=outside)
    variables = _variables(model)
    mask = jnp.ones((2, 3)).at[0, 1].set(0)
    variables['grid']['mask'] = mask
    self._check(model, variables, equal=[equal])

  @parameterized.product(
      order=(0, 1, 2, 3, 5), moved=(True, False),
      outside=('zero', 'clamp', 'linear', 'polynomial'))
  def test_many_intervals(self, order, moved, outside):
    # A single layer: another one would amplify what this one rounds.
    model = kan_jax.KANLayer(3, order=order, grid=40, outside=outside)
    variables = _variables(model)
    if moved:
      variables = _moved(model, variables, _X)
    form = 'looked up' if moved or order < 2 else 'counted'
    frozen = self._check(model, variables)
    self.assertEqual(set(frozen.forms.values()), {form})

  def test_tables_that_would_be_large(self):
    model = kan_jax.KANLayer(3, grid=130)
    with mock.patch.object(_folded, '_ENTRIES', 100):
      frozen = self._check(model, _variables(model))
    self.assertEqual(frozen.forms, {(): 'sparse'})

  def test_knots_by_quantiles(self):
    model = kan_jax.KAN([2, [2, 1], 2])
    variables = _moved(model, _variables(model), _X)
    self._check(model, variables, equal=[False, False])

  # Near 300, float32 rounds by 3e-5, of intervals of 0.6 and of 60.
  @parameterized.parameters((1, False), (100, True))
  def test_ranges_of_their_own(self, width, equal):
    model = kan_jax.KANLayer(2)
    x = (_X * [1, width] + [0, 300]).astype(np.float32)
    variables = kan_jax.update_grids(
        model, _variables(model), x, grid_update=kan_jax.GridUpdate(eps=1.0))
    self._check(model, variables, x, equal=[equal])

  def test_many_inputs_and_many_intervals(self):
    x = np.random.default_rng(0).uniform(-1, 1, (9, 70)).astype(np.float32)
    model = kan_jax.KANLayer(2)
    self._check(model, _variables(model, 70), x, equal=[True])
    model = kan_jax.KANLayer(2, grid=130)
    self._check(model, _variables(model))

  @parameterized.parameters((0, 1), (100, 1), (300, 2), (1030, 8))
  def test_rows_that_are_taken_in_parts(self, rows, parts):
    """Of powers of two and of 128 rows at least, with a rest; no row at all."""
    model = kan_jax.KANLayer(2)
    variables = _variables(model)
    x = np.random.default_rng(0).uniform(-1.1, 1.1, (rows, 2)).astype('f4')
    choices = _backends.choices()._replace(node_values=2500)
    with mock.patch.object(_backends, 'choices', lambda: choices):
      self.assertEqual(_folded._count_parts(x, 8), parts)
      # Programs are kept by shapes: these are of this test alone.
      y = inference.freeze(model, variables)(x)
    # A range of more than 4.
    np.testing.assert_allclose(y, model.apply(variables, x), rtol=0, atol=4e-6)

  @parameterized.parameters(100, 1024)
  def test_rows_in_parts_of_a_mesh(self, rows):
    """Rows that belong to a mesh, of which types know, are not cut."""
    model = kan_jax.KANLayer(2)
    variables = _variables(model)
    x = np.random.default_rng(0).uniform(-1.1, 1.1, (rows, 2)).astype('f4')
    mesh = jax.make_mesh((1,), ('data',))
    spread = jax.sharding.NamedSharding(
        mesh, jax.sharding.PartitionSpec('data'))
    choices = _backends.choices()._replace(node_values=2500)
    with mock.patch.object(_backends, 'choices', lambda: choices):
      y = inference.freeze(model, variables)(jax.device_put(x, spread))
    self.assertEqual(y.sharding.spec[0], 'data')
    np.testing.assert_allclose(y, model.apply(variables, x), rtol=0, atol=4e-6)

  def test_rows_that_nobody_can_count(self):
    """One product, as of a number of rows that is known."""
    model = kan_jax.KANLayer(2)
    variables = _variables(model)
    rows, = jax.export.symbolic_shape('n')
    exported = jax.export.export(jax.jit(
        lambda x: inference.freeze(model, variables)(x)))(
            jax.ShapeDtypeStruct((rows, 2), jnp.float32))
    self.assertEqual(
        exported.mlir_module().count('stablehlo.dot_general'), 1)
    np.testing.assert_allclose(
        exported.call(_X), model.apply(variables, _X), rtol=0, atol=4e-6)

  def test_symbolic_edges(self):
    model = kan_jax.KANLayer(2, symbolic=(('sin', ((0, 1),)),))
    variables = _variables(model)
    variables['grid']['mask'] = jnp.ones((2, 2)).at[0, 1].set(0)
    self._check(model, variables, equal=[True])

  def test_bfloat16(self):
    model = kan_jax.KANLayer(2, dtype=jnp.bfloat16)
    variables = _variables(model)
    y = inference.freeze(model, variables)(_X)
    self.assertEqual(y.dtype, jnp.bfloat16)
    # Values below 4 with eight bits each, products of ten of them.
    np.testing.assert_allclose(
        y.astype(np.float32), model.apply(variables, _X).astype(np.float32),
        atol=0.05)

  @parameterized.parameters((5, 'moved'), (30, 'counted'))
  def test_parameters_in_bfloat16(self, grid, form):
    """What is folded is rounded no more than they are."""
    model = kan_jax.KANLayer(2, grid=grid, param_dtype=jnp.bfloat16)
    frozen = self._check(model, model.init(jax.random.key(0), _X))
    self.assertEqual(frozen.forms, {(): form})
    x = jnp.asarray(_X, jnp.bfloat16)
    self.assertEqual(frozen(x).dtype, model.apply(
        model.init(jax.random.key(0), _X), x).dtype)

  def test_within_another_model(self):
    class Model(nn.Module):
      @nn.compact
      def __call__(self, x):
        x = nn.Dense(2)(x)
        shared = kan_jax.KANLayer(2, name='shared')
        stack = nn.scan(
            lambda layer, x, _: (layer(x), None),
            variable_axes={'params': 0, 'grid': 0},
            split_rngs={'params': True}, length=2)
        layers = kan_jax.KANLayer(2, name='stack')
        return stack(layers, shared(shared(x)), None)[0]

    model = Model()
    variables = _variables(model)
    frozen = self._check(model, variables, args=(_X[:1],))
    self.assertEqual(frozen.forms, {('shared',): 'moved'})
    with self.assertRaisesRegex(ValueError, r'freeze\(model, variables, x'):
      inference.freeze(model, variables)

  def test_nnx_and_shared_programs(self):
    model = kan_jax.KAN([2, 1], grid=3)
    variables = _variables(model)
    frozen = inference.freeze(model, variables)
    of_nnx = inference.freeze(kan_jax.nnx.from_linen(model, variables))
    np.testing.assert_array_equal(of_nnx(_X), frozen(_X))
    self.assertIs(of_nnx._program, frozen._program)
    self.assertEqual(repr(frozen), 'Frozen(KAN)')
    np.testing.assert_allclose(
        jax.jit(frozen)(_X), frozen(_X), atol=1e-6)

  def test_traced(self):
    model = kan_jax.KAN([2, 1], grid=3)
    variables = _variables(model)
    with self.assertRaisesRegex(ValueError, '`variables` are traced'):
      jax.jit(lambda v: inference.freeze(model, v)(_X))(variables)
