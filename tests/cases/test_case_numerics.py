"""Cases N of public reports on other KAN libraries: grids and numerics.

The letter and number in a test's name are those of the case.
"""

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
from scipy import special

from kan_jax.layers import edges
from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.splines import bsplines
from kan_jax.splines import grids
from kan_jax.training import train_steps

_ROOT = pathlib.Path(__file__).parents[2]
_X = jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (100, 2)), jnp.float32)
_NET = linen.KAN([2, 3, 1])
_VARIABLES = networks.kan([2, 3, 1])

_update = jax.jit(
    traversal.update_grids, static_argnums=0, static_argnames='grid_update')
_apply = jax.jit(lambda model, variables, x: model.apply(variables, x),
                 static_argnums=0)


class GridCasesTest(chex.TestCase):

  @parameterized.parameters((4, 0.0), (4, 1.0), (1, 1.0))
  def test_n02_fewer_rows_than_coefficients(self, rows, eps):
    layer = linen.KANLayer(1, grid=20)
    variables = networks.layer(1, 1, grid=20)
    x = jnp.array([[-0.9], [-0.2], [0.1], [0.75]])[:rows]
    new = _update(layer, variables, x, grid_update=grids.GridUpdate(eps=eps))
    chex.assert_tree_all_finite(new)
    self.assertFalse(np.array_equal(
        new['grid']['knots'], variables['grid']['knots']))
    np.testing.assert_allclose(
        _apply(layer, new, x), _apply(layer, variables, x), atol=1e-4)

  def test_n03_binary_column(self):
    layer, variables = linen.KANLayer(1), networks.layer(1, 1)
    x = jnp.repeat(jnp.array([0.0, 1.0]), 50)[:, None]
    new = _update(layer, variables, x, grid_update=grids.GridUpdate(eps=0.0))
    knots = new['grid']['knots']
    self.assertGreater(np.diff(knots).min(), 0)
    ends = jnp.array([[0.0], [1.0]])
    np.testing.assert_allclose(
        _apply(layer, new, ends), _apply(layer, variables, ends), atol=1e-4)
    grads = jax.jit(jax.grad(
        lambda v, x: layer.apply(v, x).sum(), argnums=(0, 1)))(new, x)
    chex.assert_tree_all_finite(grads)

  @parameterized.parameters(
      # Past the ends: 1 - 1/48, 5/6 and 1/6 by hand, then nothing.
      ('zero', [1, 1, 1, 0.97917, 0.83333, 0.16667, 0, 0, 0]),
      ('clamp', [1] * 9), ('linear', [1] * 9))
  def test_n04_outside_the_grid(self, outside, spline):
    layer = linen.KANLayer(1, outside=outside)
    x = jnp.array([[-1.0], [0], [1], [1.2], [1.4], [1.8], [2.2], [100],
                   [-100]])
    variables = networks.layer(1, 1)
    params = jax.tree.map(jnp.ones_like, variables['params'])
    params['node_bias'] = jnp.zeros(1)
    y = np.asarray(_apply(layer, variables | {'params': params}, x))[:, 0]
    silu = np.asarray(x * special.expit(np.asarray(x)))[:, 0]
    np.testing.assert_allclose(y - silu, spline, atol=2e-5)
    if outside == 'zero':
      self.assertEqual(y[7], 100)
      far = bsplines.basis(
          jnp.array([[1e6], [-1e6]]), variables['grid']['knots'], 3)
      np.testing.assert_array_equal(far, 0)

  def test_n05_data_wider_than_the_grid(self):
    layer = linen.KANLayer(1, grid_range=(-1.0, 1.0))
    x = jnp.linspace(-5, 5, 1001)[:, None]
    new = _update(layer, networks.layer(1, 1), x)
    knots = new['grid']['knots']
    interior = bsplines.interior(knots, 3)[0]
    self.assertLessEqual(interior[0], -5)
    self.assertGreaterEqual(interior[-1], 5)
    np.testing.assert_allclose(
        bsplines.basis(x, knots, 3).sum(-1), 1, atol=1e-5)

  @parameterized.parameters((jnp.float32, 1e-3), (jnp.float64, 1e-8))
  def test_n06_refine_keeps_the_function(self, dtype, tolerance):
    @jax.jit
    def outputs(variables, x):
      values, model = [], linen.KAN([2, 5, 1])
      for grid in (5, 10, 20, 50):
        variables = edits.refine_variables(variables, grid)
        values.append(model.clone(grid=grid).apply(variables, x))
      return values, variables

    with jax.enable_x64(dtype == jnp.float64):
      variables = networks.kan([2, 5, 1], dtype=dtype)
      x = np.random.default_rng(1).uniform(-1, 1, (1000, 2)).astype(dtype)
      (before, *others), last = outputs(variables, x)
      for after in others:
        np.testing.assert_allclose(
            after, before, atol=tolerance * np.std(before))
      chex.assert_tree_all_finite(last)
      chex.assert_shape(last['grid']['layers_0']['knots'], (2, 50 + 2 * 3 + 1))

class DtypeCasesTest(parameterized.TestCase):

  def test_n08_float64_numpy_inputs_and_integer_labels(self):
    x = np.asarray(_X, np.float64)
    y = _apply(_NET, _VARIABLES, x)
    self.assertEqual(y.dtype, jnp.float32)
    np.testing.assert_array_equal(y, _apply(_NET, _VARIABLES, _X))
    model, tx = linen.KAN([2, 3]), optax.sgd(0.1)
    state = networks.state(networks.kan([2, 3]), tx)
    step = jax.jit(train_steps.make_train_step(train_steps.make_objective(
        model, optax.softmax_cross_entropy_with_integer_labels), tx))
    labels = np.arange(100) % 3  # int64.
    new, metrics = step(train_steps.update_state_grids(model, state, x),
                        (x, labels))
    self.assertEqual(metrics['skipped'], 0)
    chex.assert_trees_all_equal_dtypes(new, state)

  def test_n08_the_output_has_the_type_that_the_model_names(self):
    with jax.enable_x64(True):
      model = linen.KAN([2, 3, 1], dtype=jnp.float32)
      y = _apply(model, _VARIABLES, np.asarray(_X, np.float64))
    self.assertEqual(y.dtype, jnp.float32)

  def test_n08_refit_of_a_cubic_in_float64(self):
    def cubic(x):
      return 1 - 2 * x + 3 * x**2 - 4 * x**3

    with jax.enable_x64(True):
      knots = bsplines.uniform_knots(1, 5, 3, dtype=jnp.float64)
      points = np.linspace(-1, 1, 100)[:, None]
      coef = bsplines.fit_coef(points, cubic(points)[..., None], knots, 3)
      x = jnp.asarray(np.linspace(-0.7, 0.9, 200)[:, None])
      knots, coef = grids.update_grid(x, knots, coef, 3)
      np.testing.assert_allclose(
          bsplines.evaluate(x, knots, coef, 3)[..., 0], cubic(x), atol=1e-10)

  def test_n08_importing_changes_no_setting(self):
    code = '''
import jax
import numpy as np
before, state = dict(jax.config.values), np.random.get_state()[1].tolist()
import kan_jax, kan_jax.checkpoints, kan_jax.plotting.diagram
import kan_jax.pruning.prune, kan_jax.training.fitting, kan_jax.layers.linen
assert before['jax_enable_x64'] is False and len(before) > 50
assert dict(jax.config.values) == before, 'settings'
assert np.random.get_state()[1].tolist() == state, 'random state'
assert jax.numpy.zeros(1).dtype == 'float32'
print('unchanged')
'''
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=_ROOT, capture_output=True,
        env=os.environ | {'JAX_PLATFORMS': 'cpu'}, text=True, timeout=120,
        check=False)
    self.assertEqual((done.stdout, done.returncode), ('unchanged\n', 0),
                     done.stderr)


class OrderCasesTest(parameterized.TestCase):

  @parameterized.parameters(*range(6))
  def test_n09_every_order(self, order):
    knots = bsplines.uniform_knots(1, 5, order)
    values = bsplines.basis(jnp.linspace(-1, 1, 101)[:, None], knots, order)
    self.assertGreaterEqual(values.min(), -1e-6)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)

  @parameterized.parameters(11, 6, -1)
  def test_n09_unsupported_orders_are_named(self, order):
    for make in (functools.partial(linen.KAN, [1, 1]),
                 functools.partial(bsplines.uniform_knots, 1, 5)):
      with self.assertRaisesRegex(ValueError, f'`order`.* 0 to 5; got {order}'):
        make(order=order)

  def test_n09_cubic_at_an_interior_knot(self):
    knots = bsplines.uniform_knots(1, 5, 3)
    values = bsplines.basis(knots[:, 5], knots, 3)[0]
    np.testing.assert_allclose(
        values, [0, 0, 1 / 6, 2 / 3, 1 / 6, 0, 0, 0], atol=1e-6)


@functools.partial(jax.jit, static_argnames='metric')
def _objective_and_grads(variables, x, lamb, metric):
  """The objective with a penalty whose weight is data, as 0 may be."""
  def objective(params):
    y, sown = _NET.apply(
        {**variables, 'params': params}, x, mutable=['edges'])
    cost = regularization.Penalty(metric=metric)(params, sown['edges'])
    entropies = [regularization.entropy(
        regularization.edge_scores(layer, metric), metric)
                 for layer in regularization.layer_stats(sown['edges']).values()
                 ]
    return (y**2).mean() + lamb * cost, entropies

  return jax.value_and_grad(objective, has_aux=True)(variables['params'])


def _with(variables, layer, **arrays):
  """The variables with some arrays of a layer replaced."""
  return {kind: {**held, layer: held[layer] | {
      name: array for name, array in arrays.items() if name in held[layer]}}
          for kind, held in variables.items()}


class PenaltyCasesTest(parameterized.TestCase):

  @parameterized.product(metric=('mean_abs', 'std'), lamb=(0.0, 0.01))
  def test_n10_layer_with_every_edge_removed(self, metric, lamb):
    variables = _with(_VARIABLES, 'layers_0', mask=jnp.zeros((2, 3)))
    (value, entropies), grads = _objective_and_grads(
        variables, _X, lamb, metric)
    chex.assert_tree_all_finite((value, grads))
    self.assertEqual(entropies[0], 0)

  @parameterized.parameters('mean_abs', 'std')
  def test_n11_zero_share_in_the_entropy(self, metric):
    first = _VARIABLES['params']['layers_0']
    silent = _with(
        _VARIABLES, 'layers_0', coef=first['coef'].at[0, :, 1].set(0),
        scale_base=first['scale_base'].at[0, 1].set(0))
    removed = _with(_VARIABLES, 'layers_0',
                    mask=jnp.ones((2, 3)).at[0, 1].set(0))
    (value, found), grads = _objective_and_grads(silent, _X, 0.01, metric)
    (_, expected), _ = _objective_and_grads(removed, _X, 0.01, metric)
    chex.assert_tree_all_finite((value, grads))
    # It adds as much as an edge that is not there: nothing.
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
    self.assertGreater(found[0], 0)

  def test_n12_a_single_row(self):
    result = _objective_and_grads(_VARIABLES, _X[:1], 0.01, 'std')
    chex.assert_tree_all_finite(result)

  @parameterized.product(metric=('mean_abs', 'std'), constant=(0.0, 0.5))
  def test_n12_an_edge_of_constant_output(self, metric, constant):
    first = _VARIABLES['params']['layers_0']
    variables = _with(
        _VARIABLES, 'layers_0', coef=first['coef'].at[0, :, 1].set(constant),
        scale_base=first['scale_base'].at[0, 1].set(0))
    result = _objective_and_grads(variables, _X, 0.01, metric)
    chex.assert_tree_all_finite(result)

  def test_n12_statistics_of_constants(self):
    knots = bsplines.uniform_knots(1, 5, 3)
    arrays = edges.Edges(knots, jnp.ones((1, 1)), jnp.ones((1, 8, 1)),
                         jnp.zeros((1, 1)), jnp.ones((1, 1)))
    stats = edges.statistics(_X[:, :1], arrays, 3, jax.nn.silu)
    np.testing.assert_allclose(stats.mean_abs, 1, rtol=1e-5)
    # The root of the rounding of a variance of terms of size 1.
    np.testing.assert_allclose(stats.std, 0, atol=1e-3)


class ModelCasesTest(parameterized.TestCase):

  def test_n13_one_input_feature(self):
    model, tx = linen.KAN([1, 1]), optax.adam(0.05)
    x = jnp.linspace(-1, 1, 200)[:, None]
    state = networks.state(networks.kan([1, 1], scale=0.1), tx)
    run = train_steps.make_run_steps(train_steps.make_train_step(
        train_steps.make_objective(
            model, lambda outputs, y: (outputs[:, 0] - y)**2), tx))
    y = jnp.sin(3 * x[:, 0])
    self.assertGreater(np.var(y), 0.4)  # What a dead layer would be left with.
    state, _ = run(state, train_steps.zero_totals(), (x, y),
                   jnp.tile(jnp.arange(200), (400, 1)), 0, 400)
    error = _apply(model, state.variables, x)[:, 0] - y
    self.assertLess(np.sqrt(np.mean(np.square(error))), 0.02)

  def test_n14_rows_are_independent(self):
    together = _apply(_NET, _VARIABLES, _X)
    for i in range(20):
      np.testing.assert_allclose(
          _apply(_NET, _VARIABLES, _X[i:i + 1])[0], together[i], atol=1e-6)

  def test_n14_constant_inputs(self):
    x = jnp.full((100, 2), 0.25)
    y = _apply(_NET, _VARIABLES, x)
    np.testing.assert_array_equal(y, np.tile(y[:1], (100, 1)))
    chex.assert_tree_all_finite(y)
