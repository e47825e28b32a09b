"""Bad input: a ValueError that names the argument, what came, what is allowed.
"""

from typing import Any
from typing import NamedTuple

from absl.testing import parameterized
from flax import linen as nn
from flax import nnx
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd

from kan_jax import checks
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.splines import bsplines
from kan_jax.splines import grids
from kan_jax.training import fitting
from kan_jax.training import multistart
from kan_jax.training import train_steps

_NAN, _INF = float('nan'), float('inf')
_X = np.zeros((5, 2), np.float32)
_NET = linen.KAN([2, 1])
_VARIABLES = networks.kan([2, 1])


def _with(row, value):
  rows = _X.copy()
  rows[row, 1] = value
  return rows


class _Pair(NamedTuple):
  x: Any
  other: Any


class _Picks(nn.Module):
  """A layer that takes its inputs out of what the model is given."""

  @nn.compact
  def __call__(self, x, *unused):
    if isinstance(x, dict | _Pair | list):
      x = x['x'] if isinstance(x, dict) else x[0]
    return linen.KANLayer(1, name='layer')(x)


def _picks():
  return _Picks(), {
      kind: {'layer': arrays} for kind, arrays in networks.layer(2, 1).items()}


class WholeTest(parameterized.TestCase):

  def test_numbers(self):
    for value in (2, np.int32(2), np.uint8(2)):
      number = checks.check_whole('n', value, 2)
      self.assertIs(type(number), int)
      self.assertEqual(number, 2)
    self.assertIsNone(checks.check_whole('n', None, 2, optional=True))

  @parameterized.parameters(
      (1, 'got 1'), (2.0, 'got 2.0'), ('2', "got '2'"), (None, 'got None'),
      (True, 'got True'), (np.True_, 'got np.True_'), (_NAN, 'got nan'))
  def test_anything_else(self, value, message):
    with self.assertRaisesRegex(
        ValueError, f'`n` is a whole number >= [12]; {message}'):
      least = 1 if isinstance(value, bool | np.bool_) else 2
      checks.check_whole('n', value, least)


class ChecksTest(parameterized.TestCase):

  @parameterized.parameters(
      (np.zeros((0, 2)), r'`x` needs at least one row; got .*\(0, 2\)'),
      (np.float32(1), r'`x` needs at least one row; got the shape \(\)'),
      (_with(3, np.nan), '`x` needs finite numbers; 1 of its 5 rows.*row 3'),
      (_with(0, np.inf), '`x` needs finite numbers; 1 of its 5 rows.*row 0'),
      (_with(4, -np.inf), '`x` needs finite numbers; 1 of its 5 rows.*row 4'),
      (np.full((4, 2, 3), np.nan), '4 of its 4 rows.*row 0'),
      (pd.DataFrame({'a': [1, None]}, dtype='Int64'), '`x` needs '),
      (pd.DataFrame({'a': [1.0], 'b': ['2']}), '`x`.*numbers.*object'),
      (['1', '2'], '`x` needs numbers; got the type <U1'),
      ([[1], [2, 3]], '`x` needs numbers, with as many in each row'))
  def test_rows(self, rows, message):
    with self.assertRaisesRegex(ValueError, message):
      checks.check_rows('x', rows)

  def test_rows_that_are_well(self):
    table = pd.DataFrame({'a': [1, 2], 'b': [0.5, 1.5]})
    for rows in (_X, jnp.asarray(_X), np.arange(3), [[1.0], [2.0]], table,
                 table.astype('Float64'), table.astype(object)):
      checks.check_rows('x', rows)

  def test_objects_become_numbers(self):
    labels = checks.as_numbers('y', np.array([0, 2], object))
    self.assertEqual(labels.dtype, int)
    np.testing.assert_array_equal(labels, [0, 2])

  def test_traced_rows_are_known_by_their_shape_alone(self):
    bad = _with(0, np.nan)
    jax.jit(lambda x: checks.check_rows('x', x))(bad)
    with self.assertRaisesRegex(ValueError, r'at least one row'):
      jax.jit(lambda x: checks.check_rows('x', x))(bad[:0])

  @parameterized.parameters(
      ([0, 1, 3], r'`y` needs labels from 0 to 2; got 0 to 3'),
      ([-1, 1, 2], r'`y` needs labels from 0 to 2; got -1 to 2'),
      ([0.0, 1.0], r'`y` needs whole numbers.*got float64 \(2,\)'),
      ([[0], [1]], r'`y` needs whole numbers.*\[n\].*got int64 \(2, 1\)'),
      ([], r'`y` needs whole numbers.*got float64 \(0,\)'),
      (np.zeros(0, int), r'n >= 1; got int64 \(0,\)'),
      (['0', '1'], r'`y` needs whole numbers.*got <U1'),
      ([True, False], r'`y` needs whole numbers.*got bool'))
  def test_labels(self, labels, message):
    with self.assertRaisesRegex(ValueError, message):
      checks.check_labels('y', np.asarray(labels), 3)

  def test_labels_that_are_well(self):
    for kind in (np.uint8, np.int32, np.int64):
      checks.check_labels('y', np.array([0, 2, 1], kind), 3)


class InputTest(parameterized.TestCase):

  @parameterized.parameters(
      (np.zeros((5, 3), np.float32), r'\[\.\.\., 2\].*got \(5, 3\)'),
      (np.zeros((5, 1), np.float32), r'\[\.\.\., 2\].*got \(5, 1\)'),
      (np.float32(1), r'\[\.\.\., 2\].*got \(\)'),
      (np.zeros((5, 0), np.float32), r'\[\.\.\., 2\].*got \(5, 0\)'),
      (np.zeros((5, 2), np.int32), 'floating dtype; got int32'),
      (np.zeros((5, 2), bool), 'floating dtype; got bool'),
      (np.zeros((5, 2), complex), 'floating dtype; got complex64'),
      (np.zeros((5, 2), object), 'floating numbers in one array; got object'),
      ([[1.0, 2.0], [3.0]], 'floating numbers in one array; got list'),
      (np.full((5, 2), 'a'), 'floating numbers in one array; got <U1'),
      (None, 'floating numbers in one array; got NoneType'))
  def test_what_a_network_is_given(self, x, message):
    for model, variables in (
        (_NET, _VARIABLES), (linen.KANLayer(1), networks.layer(2, 1))):
      with self.assertRaisesRegex(ValueError, '`x`.*' + message):
        model.apply(variables, x)

  @parameterized.parameters(
      (np.zeros((0, 2), np.float32), r'`args\[0\]`.*one row; got .*\(0, 2\)'),
      (_with(2, np.nan), r'`args\[0\]`.*1 of its 5 rows.*the first is row 2'),
      (_with(1, np.inf), r'`args\[0\]`.*1 of its 5 rows.*the first is row 1'))
  def test_grid_update(self, x, message):
    with self.assertRaisesRegex(ValueError, message):
      traversal.update_grids(_NET, _VARIABLES, x)

  @parameterized.parameters(
      ({'rate': 0.0}, r'`rate`.*\(0, 1\]; got 0.0'),
      ({'rate': 1.5}, r'`rate`.*\(0, 1\]; got 1.5'),
      ({'eps': -0.5}, '`eps`.*got -0.5'),
      ({'eps': _NAN}, '`eps`.*got nan'),
      ({'margin': -0.1}, '`margin`.*>= 0; got -0.1'),
      ({'margin': _INF}, '`margin`.*finite.*got inf'),
      ({'min_width': 0.0}, '`min_width`.*> 0; got 0.0'),
      ({'min_interval': 0.0}, r'`min_interval`.*\(0, 1\]; got 0.0'),
      ({'min_interval': '1'}, r"`min_interval`.*\(0, 1\]; got '1'"))
  def test_options_of_a_grid_update(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      grids.GridUpdate(**options)

  def test_arguments_as_apply_takes_them(self):
    """In trees of any kind; also in rows that a layer is applied to itself."""
    layer, variables = linen.KANLayer(1), networks.layer(2, 1)
    expected = traversal.update_grids(layer, variables, _X)
    for args in (
        (_Pair(_X, None),), ({'x': _X, 'key': jax.random.key(0)},),
        ([_X, None],), (pd.DataFrame(_X), 'mode', 0.5), (_X, [_X[0], 'text'])):
      new = traversal.update_grids(*_picks(), *args)
      for kind, arrays in expected.items():
        jax.tree.map(
            np.testing.assert_array_equal, new[kind]['layer'], arrays)
    for x in (_X.tolist(), pd.DataFrame(_X)):
      new = traversal.update_grids(layer, variables, x)
      jax.tree.map(np.testing.assert_array_equal, new, expected)

  @parameterized.parameters(
      ({'x': _with(2, np.nan)}, r"`args\[0\]\['x'\]`.*row 2"),
      (_Pair(_with(2, np.nan), None), r'`args\[0\].x`.*row 2'),
      ([_with(2, np.nan)], r'`args\[0\]\[0\]`.*row 2'),
      ([[0.0, _NAN]], r'`args\[0\]\[0\]\[1\]` needs to be finite'))
  def test_rows_in_trees(self, arg, message):
    with self.assertRaisesRegex(ValueError, message):
      traversal.update_grids(*_picks(), arg)


class OptionsTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'grid': 0}, '`grid`.*>= 1; got 0'),
      ({'grid': -3}, '`grid`.*>= 1; got -3'),
      ({'grid': 5.0}, '`grid`.*whole number.*got 5.0'),
      ({'grid': None}, '`grid`.*whole number.*got None'),
      ({'order': -1}, '`order`.*0 to 5; got -1'),
      ({'order': 6}, '`order`.*0 to 5; got 6'),
      ({'order': 2.5}, '`order`.*0 to 5; got 2.5'),
      ({'grid_range': (1.0, -1.0)}, r'`grid_range`.*lower.*\(1.0, -1.0\)'),
      ({'grid_range': (1.0, 1.0)}, r'`grid_range`.*lower.*\(1.0, 1.0\)'),
      ({'grid_range': (-1.0, np.inf)}, r'`grid_range`.*finite.*inf'),
      ({'grid_range': (_NAN, 1.0)}, r'`grid_range`.*finite.*nan'),
      ({'outside': 'wrap'},
       "`outside`.*zero, clamp, linear, polynomial; got 'wrap'"))
  def test_impossible_options(self, options, message):
    for make in (lambda **o: linen.KAN([2, 1], **o),
                 lambda **o: linen.KANLayer(1, **o)):
      with self.assertRaisesRegex(ValueError, message):
        make(**options)

  @parameterized.parameters(
      ([2, -1], r'got \[2, -1\]'), ([2, 1.5], r'got \[2, 1.5\]'),
      ([2, None], 'got .*None'), ([], r'got \[\]'),
      ([0, 1], r'got \[0, 1\]'))
  def test_impossible_widths(self, features, message):
    with self.assertRaisesRegex(ValueError, '`features`.*' + message):
      linen.KAN(features)

  @parameterized.parameters(0, 2)
  def test_knots_of_another_layer(self, size):
    with self.assertRaisesRegex(
        ValueError, rf'each of the {size} inputs.*got \(3, 12\)'):
      bsplines.basis(jnp.zeros((4, size)), bsplines.uniform_knots(3, 5, 3), 3)


class ModelsTest(parameterized.TestCase):

  @parameterized.parameters(
      (nnx.Linear(2, 1, rngs=nnx.Rngs(0)),
       r'a Linear, an NNX module.*nnx.Optimizer; kan_jax.nnx has KANLayer'),
      (linen.KAN, 'the class KAN.$'), (3, r'KAN\(\[2, 5, 1\]\); got a int.$'))
  def test_what_is_no_linen_module(self, model, message):
    for call in (
        lambda: fitting.fit(model, _VARIABLES, _X, _X[:, :1]),
        lambda: multistart.fit_best(
            model, _X, _X[:, :1], key=jax.random.key(0)),
        lambda: traversal.update_grids(model, _VARIABLES, _X),
        lambda: traversal.view_layers(model, _VARIABLES, _X)):
      with self.assertRaisesRegex(ValueError, message):
        call()

  @parameterized.parameters((_X, 'a ndarray'), ({}, r'\[\]'))
  def test_variables_without_parameters(self, variables, message):
    with self.assertRaisesRegex(
        ValueError, rf'`variables`.*model.init.*got {message}'):
      fitting.fit(_NET, variables, _X, _X[:, :1])


class TrainingTest(parameterized.TestCase):

  def _loss(self, loss_fn, x, y):
    objective = train_steps.make_objective(_NET, loss_fn)
    return jax.eval_shape(
        objective, _VARIABLES['params'], _VARIABLES['grid'], x, y)

  def test_empty_batch(self):
    with self.assertRaisesRegex(ValueError, r'batch is empty.*\(0, 1\)'):
      self._loss(lambda outputs, y: outputs[:, 0] - y, _X[:0], _X[:0, 0])
    evaluate = train_steps.make_evaluate(
        _NET, {'error': lambda outputs, y: outputs[:, 0] - y})
    with self.assertRaisesRegex(ValueError, r'`data`.*one row.*\(0, 2\)'):
      evaluate(_VARIABLES, (_X[:0], _X[:0, 0]))

  @parameterized.parameters(
      (lambda outputs, y: jnp.square(outputs - y), (5,)),
      (lambda outputs, y: jnp.square(outputs - y).mean(), (5,)),
      (lambda outputs, y: jnp.abs(outputs - y).sum(1), (5,)))
  def test_targets_that_broadcast(self, loss_fn, shape):
    with self.assertRaisesRegex(
        ValueError, r'outputs \(5, 1\) against targets \(5,\)'):
      self._loss(loss_fn, _X, np.zeros(shape, np.float32))

  @parameterized.parameters(
      (lambda outputs, y: jnp.square(outputs - y), r'shape \(5, 1\)'),
      (lambda outputs, y: jnp.square(outputs - y).mean(), r'shape \(\)'))
  def test_losses_of_another_shape(self, loss_fn, message):
    with self.assertRaisesRegex(
        ValueError, message + r'.*outputs \(5, 1\).*targets \(5, 1\).*5 rows'):
      self._loss(loss_fn, _X, _X[:, :1])

  def test_errors_of_the_loss_are_its_own(self):
    def loss_fn(outputs, y):
      raise ValueError('of the user')

    with self.assertRaisesRegex(ValueError, '^of the user$'):
      self._loss(loss_fn, _X, _X[:, 0])

  def test_labels_of_integer_losses_keep_their_shape(self):
    """[n] labels beside [n, classes] outputs are no mistake."""
    model = linen.KAN([2, 3])
    loss, _ = jax.eval_shape(
        train_steps.make_objective(
            model, optax.softmax_cross_entropy_with_integer_labels),
        *networks.kan([2, 3]).values(), _X, np.zeros(5, np.int32))
    self.assertEqual(loss.shape, ())
