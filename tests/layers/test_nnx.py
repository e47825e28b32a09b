"""NNX modules: the numbers of Linen's to the bit, in any NNX model.

These are modules.py and passes.py of layers/nnx; _forward.py is what they share
with Linen's.
"""

import dataclasses
import functools
import pathlib
import tempfile

from absl.testing import parameterized
import chex
from flax import nnx as flax_nnx
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kan_jax.layers import linen
from kan_jax.layers import nnx
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.splines import grids

_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-2, 2, (20, 2)), jnp.float32)
_SMALL = {'grid': 2, 'order': 1}


def _symbolic():
  variables = networks.kan([2, 2, 1], **_SMALL)
  variables['params']['layers_0']['affine'] = jnp.array([[1.0, 0.5, 2.0, 0.1]])
  return linen.KAN([2, 2, 1], symbolic=(
      (('sin', ((0, 0),)),), ()), **_SMALL), variables


_MODELS = {
    'layer': lambda: (
        linen.KANLayer(2, **_SMALL), networks.layer(2, 2, **_SMALL)),
    'symbolic': _symbolic,
    'products': lambda: (
        linen.KAN([2, [0, 1], 1], outside='linear', **_SMALL), networks.stack(
            networks.layer(2, 2, **_SMALL), networks.layer(1, 1, **_SMALL))),
    'bfloat16': lambda: (
        linen.KAN([2, 1], dtype=jnp.bfloat16, param_dtype=jnp.bfloat16,
                  **_SMALL),
        networks.kan([2, 1], dtype=jnp.bfloat16, **_SMALL)),
}
_GIVEN = {
    'network': (
        linen.KAN([2, [0, 1], 1], arity=3, noise=0.5, bias=False, **_SMALL),
        lambda rngs: nnx.KAN([2, [0, 1], 1], arity=3, noise=0.5, bias=False,
                             rngs=rngs, **_SMALL)),
    'symbolic layer': (
        linen.KANLayer(3, symbolic=(('sin', ((0, 1),)),), **_SMALL),
        lambda rngs: nnx.KANLayer(2, 3, symbolic=[['sin', [[0, 1]]]],
                                  rngs=rngs, **_SMALL)),
}


def _layer(size=2, out=2, seed=0):
  return nnx.from_linen(
      linen.KANLayer(out, **_SMALL), networks.layer(
          size, out, seed=seed, **_SMALL))


@flax_nnx.jit
def _call(model, x):
  return model(x)


class SameAsLinenTest(parameterized.TestCase):

  @parameterized.parameters(*_GIVEN)
  def test_same_key_same_model(self, name):
    expected, make = _GIVEN[name]
    model, variables = nnx.to_linen(make(flax_nnx.Rngs(3)))
    self.assertEqual(model, expected)
    chex.assert_trees_all_equal(
        variables, expected.init(flax_nnx.Rngs(3).params(), _X), strict=True)

  def test_all_options(self):
    for cls, options in (
        (linen.KAN, nnx.Options), (linen.KANLayer, nnx.LayerOptions)):
      fields = {field.name for field in dataclasses.fields(cls)}
      self.assertEqual(set(options.__annotations__),
                       fields - {'parent', 'name', 'features'})

  @parameterized.parameters(*_MODELS)
  def test_outputs_and_round_trip(self, name):
    model, variables = _MODELS[name]()
    made = nnx.from_linen(model, variables)
    same, arrays = nnx.to_linen(made)
    self.assertEqual(same, model)
    chex.assert_trees_all_equal(arrays, variables, strict=True)
    np.testing.assert_array_equal(
        _call(made, _X), jax.jit(model.apply)(variables, _X))

  def test_update_grids(self):
    model, variables = _MODELS['layer']()
    update = grids.GridUpdate(eps=0.5, rate=0.5)
    made = nnx.from_linen(model, variables)
    result = flax_nnx.jit(functools.partial(
        nnx.update_grids, grid_update=update))(made, _X)
    self.assertIsNone(result)
    chex.assert_trees_all_equal(
        nnx.to_linen(made)[1],
        jax.jit(functools.partial(
            traversal.update_grids, model, grid_update=update))(variables, _X))

  def test_penalty_and_its_gradient(self):
    model, variables = _MODELS['symbolic']()
    cost = regularization.Penalty(metric='std', coef=0.1, coefdiff=0.2)

    def of_linen(params, grid, x):
      _, sown = model.apply(
          {'params': params, 'grid': grid}, x, mutable='edges')
      return cost(params, sown['edges'])

    def of_nnx(made, x):
      return nnx.penalty(made, x, penalty=cost)

    made = nnx.from_linen(model, variables)
    value, grads = flax_nnx.jit(flax_nnx.value_and_grad(of_nnx))(
        made, _X)
    expected, slopes = jax.jit(jax.value_and_grad(of_linen))(
        variables['params'], variables['grid'], _X)
    np.testing.assert_array_equal(value, expected)
    chex.assert_trees_all_equal(
        flax_nnx.to_pure_dict(flax_nnx.state(grads)),
        {name: dict(layer) for name, layer in slopes.items()})

  def test_float64(self):
    with jax.enable_x64(True):
      made = flax_nnx.eval_shape(lambda: nnx.KANLayer(
          2, 1, param_dtype=jnp.float64, rngs=flax_nnx.Rngs(0)))
      y = flax_nnx.eval_shape(lambda model: model(np.ones((3, 2))), made)
      self.assertEqual(y.dtype, jnp.float64)


class Mixed(flax_nnx.Module):
  """Layers within other modules, in a list, and one that is used twice."""

  def __init__(self):
    rngs = flax_nnx.Rngs(0)
    self.dense = flax_nnx.Linear(2, 2, rngs=rngs)
    self.dropout = flax_nnx.Dropout(0.5, rngs=rngs)
    self.blocks = flax_nnx.List([_layer(seed=1), flax_nnx.List([
        _layer(seed=2)])])
    self.shared = self.blocks[1][0]

  def __call__(self, x):
    x = self.blocks[0](self.dropout(self.dense(x)))
    return self.shared(x) + self.blocks[1][0](3 * x)


class AnyModelTest(parameterized.TestCase):

  def test_update_grids(self):
    model, expected = Mixed(), Mixed()
    flax_nnx.jit(nnx.update_grids)(model, _X)
    x = expected.dropout(expected.dense(_X))
    expected.blocks[0].update_grid(x)
    x = expected.blocks[0](x)
    # The one that is used twice has a grid for both.
    both = jnp.concatenate([x, 3 * x])
    expected.shared.update_grid(x)
    expected.shared.update_grid(both)
    for layer, other in ((expected.blocks[0], model.blocks[0]),
                         (expected.shared, model.shared)):
      # Compiled together or not: roundings of a solve.
      chex.assert_trees_all_close(
          nnx.to_linen(other)[1], nnx.to_linen(layer)[1], rtol=1e-3, atol=1e-4)
    knots = model.shared.knots[...]
    self.assertTrue((knots[:, 1] < both.min(0)).all())
    self.assertTrue((knots[:, -2] > both.max(0)).all())

  def test_nothing_but_grids_and_coefficients_changes(self):
    model = Mixed()
    before = flax_nnx.to_flat_state(flax_nnx.state(flax_nnx.clone(model)))
    graph = flax_nnx.graphdef(model)
    nnx.update_grids(model, _X)
    after = flax_nnx.to_flat_state(flax_nnx.state(model))
    changed = {path[-1] for (path, a), (_, b) in zip(
        before, after, strict=True) if not np.array_equal(
            jax.random.key_data(a[...]) if path[-1] == 'key' else a[...],
            jax.random.key_data(b[...]) if path[-1] == 'key' else b[...])}
    self.assertEqual(changed, {'knots', 'coef', 'count'})  # That of dropout.
    self.assertEqual(flax_nnx.graphdef(model), graph)

  def test_a_failing_model_is_left_as_it_was(self):
    model = _layer()
    with self.assertRaisesRegex(ValueError, r'\[..., 2\].*got \(3, 5\)'):
      nnx.update_grids(model, jnp.ones((3, 5)))
    self.assertIsNone(model.before)

  def test_penalty_changes_nothing(self):
    model = flax_nnx.Sequential(
        _layer(), flax_nnx.Dropout(0.5, rngs=flax_nnx.Rngs(0)), _layer())
    graph, state = flax_nnx.split(flax_nnx.clone(model))
    value = nnx.penalty(model, _X)
    self.assertGreater(float(value), 0)
    self.assertEqual(nnx.penalty(model, _X), value)
    outputs = flax_nnx.clone(model)(_X)
    y, cost = nnx.with_penalty(flax_nnx.clone(model), _X)
    np.testing.assert_array_equal(y, outputs)
    self.assertEqual(cost, value)
    graph_after, after = flax_nnx.split(model)
    self.assertEqual(graph_after, graph)
    jax.tree.map(
        lambda a, b: self.assertIs(a, b), jax.tree.leaves(state),
        jax.tree.leaves(after))

  def test_training(self):
    """Only `nnx.Param` is trained, with the penalty in the same program."""
    model = _layer(out=1)
    optimizer = flax_nnx.Optimizer(model, optax.adam(0.1), wrt=flax_nnx.Param)
    before = nnx.to_linen(flax_nnx.clone(model))[1]

    @flax_nnx.jit
    def step(model, optimizer):
      def loss_fn(model):
        y, cost = nnx.with_penalty(model, _X)
        return jnp.mean((y - 3)**2) + 1e-3 * cost
      loss, grads = flax_nnx.value_and_grad(loss_fn)(model)
      optimizer.update(model, grads)
      return loss

    losses = [float(step(model, optimizer)) for _ in range(30)]
    self.assertLess(losses[-1], losses[0] / 4)
    after = nnx.to_linen(model)[1]
    chex.assert_trees_all_equal(after['grid'], before['grid'])
    for name, array in after['params'].items():
      self.assertTrue((array != before['params'][name]).any(), name)

  def test_errors(self):
    twice = flax_nnx.Sequential(_layer())
    twice.layers.append(twice.layers[0])
    unused = flax_nnx.Sequential(_layer())
    unused.more = _layer()
    for run, message in (
        (lambda: nnx.KAN([2, 1]), '`rngs` and `variables`.*got neither'),
        (lambda: nnx.KANLayer(2, 1, rngs=flax_nnx.Rngs(0), variables={}),
         'got both'),
        (lambda: nnx.KANLayer(0, 1, rngs=flax_nnx.Rngs(0)), '`in_features`'),
        (lambda: nnx.KAN([2], rngs=flax_nnx.Rngs(0)), '`features`'),
        (lambda: nnx.to_linen(Mixed()), '`model` .*; got a Mixed'),
        (lambda: nnx.from_linen(3, {}), '`model` .*; got a int'),
        (lambda: nnx.update_grids(flax_nnx.Dropout(0.5), _X),
         '`model` holds no KAN layer'),
        (lambda: nnx.update_grids(_layer(), _X * jnp.nan), 'finite'),
        (lambda: nnx.penalty(twice, _X), 'more than once'),
        (lambda: nnx.with_penalty(unused, _X), 'layer more, which it did not')):
      with self.assertRaisesRegex(ValueError, message):
        run()
    self.assertFalse(hasattr(unused.layers[0], 'statistics'))


def _stack(*layers):
  """Returns layers as one whose arrays have a leading axis."""
  graph, *_ = flax_nnx.split(layers[0])
  states = [flax_nnx.split(layer)[1] for layer in layers]
  return flax_nnx.merge(
      graph, jax.tree.map(lambda *arrays: jnp.stack(arrays), *states))


class Scanned(flax_nnx.Module):
  """Layers of equal shape in a loop, each pass within nnx.remat."""

  def __init__(self, *layers):
    self.stack = _stack(*layers)

  def __call__(self, x):
    @flax_nnx.scan(in_axes=(0, flax_nnx.Carry), out_axes=flax_nnx.Carry)
    @flax_nnx.remat
    def forward(layer, x):
      return layer(x)

    return forward(self.stack, x)


class Members(flax_nnx.Module):
  """An ensemble: the same rows through every member."""

  def __init__(self, *members):
    self.stack = _stack(*members)

  def __call__(self, x):
    return flax_nnx.vmap(
        lambda member, x: member(x), in_axes=(0, None))(self.stack, x)


class Recurrent(flax_nnx.Module):
  """A layer that is the same at every step of a loop over the rows."""

  def __init__(self):
    self.layer = _layer()

  def __call__(self, x):
    @flax_nnx.scan(
        in_axes=(None, flax_nnx.Carry, 0), out_axes=(flax_nnx.Carry, 0))
    def step(layer, carry, row):
      carry = layer(row) + carry
      return carry, carry

    return step(self.layer, x[0], x)[1]


class TransformsTest(parameterized.TestCase):

  def test_a_layer_that_must_not_change(self):
    model = Recurrent()
    with self.assertRaisesRegex(
        ValueError, 'layer layer within a transform.*by itself'):
      nnx.update_grids(model, _X)
    self.assertIsNone(model.layer.before)

  @parameterized.parameters(Scanned, Members)
  def test_update_penalty_and_outputs(self, cls):
    layers = [_layer(seed=seed) for seed in range(3)]
    model = cls(*layers)
    flax_nnx.jit(nnx.update_grids)(model, _X)
    cost = flax_nnx.jit(nnx.penalty)(model, _X)
    x, expected, outputs = _X, 0, []
    for k, layer in enumerate(layers):
      nnx.update_grids(layer, x)
      chex.assert_trees_all_close(
          jax.tree.map(lambda a, k=k: a[k], nnx.to_linen(model.stack)[1]),
          nnx.to_linen(layer)[1], rtol=1e-2, atol=1e-3)
      expected += nnx.penalty(layer, x)
      outputs.append(layer(x))
      x = outputs[-1] if cls is Scanned else x
    # Roundings of a solve, seen through the layers that follow.
    np.testing.assert_allclose(cost, expected, rtol=1e-2)
    np.testing.assert_allclose(
        _call(model, _X), x if cls is Scanned else jnp.stack(outputs),
        rtol=1e-2, atol=1e-2)

  def test_an_ensemble_from_keys(self):
    @flax_nnx.split_rngs(splits=3)
    @flax_nnx.vmap
    def make(rngs):
      return nnx.KANLayer(2, 1, rngs=rngs, **_SMALL)

    members = make(flax_nnx.Rngs(0))
    chex.assert_shape(members.coef[...], (3, 2, 3, 1))
    self.assertFalse((members.coef[0] == members.coef[1]).any())

  def test_split_merge_and_filters(self):
    model = nnx.from_linen(*_MODELS['products']())
    graph, params, grid = flax_nnx.split(model, flax_nnx.Param, nnx.Grid)
    self.assertLen(jax.tree.leaves(params), 8)
    self.assertLen(jax.tree.leaves(grid), 4)
    again = flax_nnx.merge(graph, params, grid)
    self.assertEqual(again.options, model.options)
    np.testing.assert_array_equal(_call(again, _X), _call(model, _X))

  def test_orbax(self):
    """A state restores into a model that was only described."""
    orbax = pytest.importorskip('orbax.checkpoint')
    model = nnx.from_linen(*_MODELS['products']())
    with (tempfile.TemporaryDirectory() as folder,
          orbax.StandardCheckpointer() as checkpointer):
      path = pathlib.Path(folder) / 'state'
      checkpointer.save(path, flax_nnx.state(model))
      checkpointer.wait_until_finished()
      graph, wanted = flax_nnx.split(flax_nnx.eval_shape(lambda: nnx.KAN(
          [2, [0, 1], 1], outside='linear', rngs=flax_nnx.Rngs(0), **_SMALL)))
      again = flax_nnx.merge(graph, checkpointer.restore(path, wanted))
    chex.assert_trees_all_equal(
        nnx.to_linen(again)[1], nnx.to_linen(model)[1])

  def test_sharding_metadata(self):
    model = _layer()
    model.coef.set_metadata(out_sharding=(None, None, 'model'))
    spec = flax_nnx.get_partition_spec(flax_nnx.state(model))
    self.assertEqual(spec['coef'].get_value(), jax.sharding.PartitionSpec(
        None, None, 'model'))
    nnx.update_grids(model, _X)
    self.assertEqual(model.coef.out_sharding, (None, None, 'model'))
