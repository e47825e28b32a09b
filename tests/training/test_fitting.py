"""Fitting with one call."""

import functools
import warnings

from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from scipy import interpolate

from kan_jax import compiling
from kan_jax.layers import linen
from kan_jax.splines import grids as grids_lib
from kan_jax.training import _fit_loop
from kan_jax.training import fitting
from kan_jax.training import optimizers

_RNG = np.random.default_rng(0)
_X = _RNG.uniform(-1, 1, (60, 1))
_Y = np.sin(3 * _X) + 0.1 * _RNG.normal(size=(60, 1))
_MODEL = linen.KAN([1, 1])
_fit = functools.partial(fitting.fit, _MODEL, progress=False)
_LM = optimizers.LevenbergMarquardt
_FROZEN = ('scale_base', 'node_bias')


def _identity(x):
  return x


def _variables():
  return networks.kan([1, 1])


class SolversTest(chex.TestCase):

  def test_lm_ends_at_the_least_squares_fit(self):
    """Splines hold base function and bias: the best fit is theirs."""
    with jax.enable_x64(True):
      found = fitting.fit(
          linen.KAN([1, 1], base_fn=_identity),
          networks.kan([1, 1], dtype=jnp.float64), _X, _Y, optimizer=_LM(),
          steps=30, update_steps=(), progress=False)
    knots = -1 + 0.4 * np.arange(-3, 9)
    design = interpolate.BSpline.design_matrix(_X[:, 0], knots, 3).toarray()
    best = np.linalg.lstsq(design, _Y)[1][0] / len(_X)
    # The last entry is a mean over steps that have all arrived.
    np.testing.assert_allclose(found.history['loss'][-1], best, rtol=1e-6)

  def test_residuals_of_an_equation(self):
    """y' = 3 x^2 and y(-1) = -1 have the solution x^3."""
    def make_residuals(model):
      def residuals(params, collection, x, y):
        def u(x):
          return model.apply({'params': params, 'grid': collection}, x)

        value, slope = jax.jvp(u, (x,), (jnp.ones_like(x),))
        return jnp.where(x == -1, value, slope) - y

      return residuals

    x = jnp.linspace(-1, 1, 21, dtype=jnp.float32)[:, None]
    y = jnp.where(x == -1, -1, 3 * x**2)
    found = _fit(_variables(), x, y, steps=10, update_steps=(),
                 optimizer=_LM(residuals=make_residuals))
    # Cubic splines hold the solution, float32 has 7 digits.
    np.testing.assert_allclose(
        _MODEL.apply(found.variables, x), x**3, atol=1e-4)

  def test_lbfgs(self):
    """T08 of the cases has it with a grid update in a deeper network."""
    found = _fit(_variables(), _X, _Y, steps=40, update_steps=())
    self.assertLess(found.history['loss'][-1], 0.011)  # The noise has 0.01.
    self.assertEqual(found.reason, 'steps')

  def test_lbfgs_forgets_at_a_grid_update(self):
    """Two updates in one fit are two fits with one each, to the last bit."""
    x = 2 * _X
    once = _fit(_variables(), x, _Y, steps=20, update_steps=(0, 10))
    first = _fit(_variables(), x, _Y, steps=10, update_steps=(0,))
    second = _fit(first.variables, x, _Y, steps=10, update_steps=(0,))
    chex.assert_trees_all_equal(once.variables, second.variables)

  def test_compiler_options(self):
    """They change how it computes, not what."""
    found, same = (_fit(
        _variables(), _X, _Y, optimizer=optax.adam(0.01), steps=4, log_every=2,
        update_steps=(0,), compiler_options=options)
                   for options in (None, compiling.QUICK))
    # Roundings of float32.
    np.testing.assert_allclose(
        found.history['loss'], same.history['loss'], rtol=1e-5)
    self.assertIsNot(
        _fit_loop.programs(), _fit_loop.programs(**compiling.QUICK))

  def test_each_program_is_compiled_once(self):
    """Also where L-BFGS begins anew after a grid update, and later goes on."""
    options = {'xla_backend_optimization_level': 0}
    _fit(_variables(), _X, _Y, steps=6, log_every=2, update_steps=(0, 2),
         compiler_options=options)
    programs = _fit_loop.programs(**options)
    self.assertEqual(programs.take._cache_size(), 1)
    self.assertEqual(programs.update_grids._cache_size(), 1)

  def test_batches(self):
    fit = functools.partial(
        _fit, _variables(), _X, _Y, optimizer=optax.adam(0.05), steps=45,
        batch_size=25, update_steps=())
    found = fit(key=jax.random.key(0))
    again, other = fit(key=jax.random.key(0)), fit(key=jax.random.key(1))
    self.assertLess(
        found.history['loss'][-1], 0.2 * found.history['loss'][0])
    np.testing.assert_array_equal(
        found.history['step'], [10, 20, 30, 40, 45])
    chex.assert_trees_all_equal(found.variables, again.variables)
    self.assertTrue((found.history['loss'] != other.history['loss']).any())

  def test_a_loss_of_ones_own_and_labels(self):
    labels = (_X[:, 0] > 0).astype(np.int32)
    model = linen.KAN([1, 2])
    found = fitting.fit(
        model, networks.kan([1, 2]), _X, labels,
        loss_fn=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=optax.adam(0.1), steps=60, update_steps=())
    predicted = model.apply(found.variables, _X).argmax(1)
    self.assertGreater((predicted == labels).mean(), 0.95)

  def test_a_model_without_grids(self):
    model = nn.Dense(1)
    variables = model.init(jax.random.key(0), _X)
    found = fitting.fit(
        model, variables, _X, 2 * _X + 1, optimizer=optax.adam(0.1), steps=200)
    np.testing.assert_allclose(
        found.variables['params']['kernel'], [[2]], atol=1e-2)


class FittedTest(parameterized.TestCase):

  def test_predicts_and_says_what_it_is(self):
    fitted = _fit(
        _variables(), _X, _Y, optimizer=optax.sgd(1e-3), steps=3, log_every=2,
        refine=(5, 6), update_steps=(), validation=(_X, _Y))
    outputs = fitted.predict(pd.DataFrame(_X))
    np.testing.assert_allclose(
        outputs, fitted.model.apply(fitted.variables, _X), rtol=1e-6)
    lines = str(fitted).splitlines()
    self.assertLen(lines, 3)
    self.assertEqual(
        lines[0], "Fitted KAN [1, 1], 12 parameters, ended by 'steps':")
    self.assertRegex(lines[1], r'^  grid 5, step 3: loss [0-9.e+-]+, '
                     r'validation loss [0-9.e+-]+$')
    self.assertRegex(lines[2], '^  grid 6, step 6: loss ')
    self.assertEqual(repr(fitted), str(fitted))
    # A notebook shows the history instead: here, four entries.
    table = fitted._repr_html_()
    self.assertIn('<th>validation loss</th>', table)
    self.assertEqual(table.count('<tr>'), 1 + len(fitted.history['step']))
    long = fitted._replace(history={
        name: np.repeat(column, 50) for name, column in fitted.history.items()})
    self.assertLess(long._repr_html_().count('<tr>'), 20)

  def test_data_frames(self):
    """Nullable columns and columns of objects, as long as all are numbers."""
    expected = _fit(_variables(), _X, _Y, steps=1, update_steps=())
    for kind in ('Float64', object):
      table = pd.DataFrame(_X).astype(kind)
      fitted = _fit(_variables(), table, pd.DataFrame(_Y).astype(kind),
                    steps=1, update_steps=())
      chex.assert_trees_all_equal(fitted.variables, expected.variables)
    table.iloc[3] = pd.NA
    with self.assertRaisesRegex(ValueError, '`x` needs numbers'):
      _fit(_variables(), table, _Y)


class ScheduleTest(chex.TestCase):

  def test_windows(self):
    """Entries end where they should; grids move in between."""
    windows = _fit_loop.Schedule(7, 3, frozenset({0, 4, 5, 9})).windows()
    self.assertEqual(
        [(w.start, w.size, w.updates) for w in windows],
        [(0, 3, {0}), (3, 3, {1, 2}), (6, 1, set())])
    # Each of the two windows that are compared is without an update.
    for updates, expected in (
        ((), [False, True, True, True]), ((0,), [False, False, True, True]),
        ((0, 4), [False] * 3 + [True]), ((10,), [False] * 4)):
      self.assertEqual(
          [w.may_settle for w in _fit_loop.Schedule(
              12, 3, frozenset(updates)).windows()], expected)

  def test_updates_apart_from_entries(self):
    """The same steps and grids, whatever the history's pace."""
    fit = functools.partial(
        _fit, _variables(), 2 * _X, _Y, optimizer=optax.adam(0.01), steps=6,
        update_steps=(0, 4))
    coarse, fine = fit(log_every=6), fit(log_every=2)
    chex.assert_trees_all_equal(coarse.variables, fine.variables)
    np.testing.assert_array_equal(fine.history['step'], [2, 4, 6])
    np.testing.assert_allclose(
        coarse.history['loss'], fine.history['loss'].mean(), rtol=1e-5)

  def test_callback(self):
    """It gets what the history has, while the fit goes on."""
    entries = []
    found = _fit(
        _variables(), _X, _Y, optimizer=optax.adam(0.01), steps=6,
        update_steps=(0, 4), log_every=2, callback=entries.append)
    self.assertEqual(
        [entry.step for entry in entries], found.history['step'].tolist())
    self.assertEqual(
        [entry.loss for entry in entries], found.history['loss'].tolist())
    self.assertEqual(
        entries[-1].metrics,
        {'grid': 5, 'penalty': found.history['penalty'][-1]})

  def test_refine(self):
    variables = _variables()
    before = jax.tree.map(np.array, variables)
    found = _fit(variables, _X, _Y, optimizer=optax.adam(1e-6), steps=20,
                 refine=(5, 10), update_steps=(0,))
    self.assertEqual(found.model, linen.KAN([1, 1], grid=10))
    np.testing.assert_array_equal(found.history['grid'], [5, 5, 10, 10])
    # A step is tiny, and so is what a refinement or a grid update changes.
    np.testing.assert_allclose(
        found.history['loss'], found.history['loss'][0], rtol=2e-3)
    chex.assert_trees_all_equal(variables, before)

  @parameterized.parameters(((), 1.0), ({0}, 2.04), (range(1), 2.04))
  def test_grid_updates(self, update_steps, width):
    """With inputs on [-2, 2] and a margin of 0.01 of their range of 4."""
    x = np.linspace(-2, 2, 60)[:, None]
    found = _fit(_variables(), x, _Y, optimizer=optax.adam(1e-6), steps=2,
                 update_steps=update_steps)
    knots = found.variables['grid']['layers_0']['knots']
    np.testing.assert_allclose(knots[0, -4], width, rtol=1e-6)

  @parameterized.parameters(
      (_LM(frozen=_FROZEN),), (optimizers.LBFGS(frozen=list(_FROZEN)),),
      (optax.chain(optax.adamw(0.1, weight_decay=0.1), optax.freeze(
          {'layers_0': {name: name in _FROZEN for name in (
              'coef', 'scale_base', 'scale_spline', 'node_bias')}})),))
  def test_frozen(self, optimizer):
    variables = _variables()
    found = _fit(variables, _X, _Y, optimizer=optimizer, steps=3,
                 update_steps=())
    before, after = (v['params']['layers_0'] for v in (
        variables, found.variables))
    for name in before:
      if name in _FROZEN:
        np.testing.assert_array_equal(before[name], after[name])
      else:
        self.assertTrue((before[name] != after[name]).any(), name)

  def test_tolerance(self):
    """On each grid a linear fit arrives at once and is left early."""
    found = _fit(_variables(), _X, _Y, optimizer=_LM(tolerance=0.01), steps=100,
                 log_every=5, update_steps=[0], refine=(5, 10))
    steps, grids = found.history['step'], found.history['grid']
    self.assertLess(steps[-1], 100)
    self.assertEqual(set(grids), {5, 10})
    # An entry may hold a grid update; two more are compared.
    self.assertGreaterEqual((grids == 5).sum(), 3)
    loss = found.history['loss'][grids == 10]
    self.assertGreater(loss[-1], 0.99 * loss[-2])

  def test_grids_move_on_each_grid_of_refine(self):
    """The second grid has even intervals again: 5 became 7 unevenly."""
    options = {'optimizer': optax.sgd(1e-9), 'steps': 2, 'refine': (5, 7)}
    uneven, even = (
        np.diff(_fit(_variables(), _X, _Y, update_steps=updates, **options)
                .variables['grid']['layers_0']['knots'][0, 3:-3])
        for updates in ((), (0,)))
    np.testing.assert_allclose(even, even.mean(), rtol=1e-5)
    self.assertGreater(np.ptp(uneven), 0.1)

  def test_smooth_ends(self):
    """Where no sample is, a cubic goes on as a cubic."""
    x = np.random.default_rng(0).uniform(-0.6, 1, (40, 1))
    end = np.linspace(-1, -0.6, 9)[:, None]
    with jax.enable_x64(True):
      model = linen.KAN([1, 1], grid=20, base_fn=_identity)
      errors = []
      for smooth in (0.0, 1e-6):
        found = fitting.fit(
            model, networks.kan([1, 1], grid=20, dtype=jnp.float64), x, x**3,
            optimizer=_LM(smooth=smooth), steps=40, update_steps=(),
            progress=False)
        outputs = model.apply(found.variables, end)
        errors.append(np.abs(outputs - end**3).max())
    self.assertGreater(errors[0], 1e-2)
    self.assertLess(errors[1], 1e-6)

  def test_patience(self):
    found = _fit(
        _variables(), _X[:8], _Y[:8], optimizer=optax.adam(0.1), steps=400,
        validation=(_X[8:], _Y[8:]), patience=3, log_every=5)
    seen = found.history['validation_loss']
    self.assertEqual(found.reason, 'patience')
    self.assertEqual(len(seen) - 1 - np.argmin(seen), 3)
    errors = _MODEL.apply(found.variables, _X[8:]) - _Y[8:]
    np.testing.assert_allclose(
        np.square(errors).mean(), seen.min(), rtol=1e-5)

  def test_stops_where_it_is_not_finite(self):
    def loss_fn(outputs, y):
      return jnp.log(outputs - y)[:, 0]  # Down to 0, then beyond.

    with pytest.warns(UserWarning, match='fit stopped: in step'):
      found = _fit(
          _variables(), _X, jnp.full((60, 1), -3.0), loss_fn=loss_fn,
          optimizer=optax.sgd(5.0), steps=100, update_steps=())
    self.assertRegex(found.reason, 'in step [0-9]+, .* is not finite')
    chex.assert_tree_all_finite(found.variables)
    self.assertLess(found.history['step'][-1], 100)

  def test_nothing_is_printed(self):
    with warnings.catch_warnings():
      warnings.simplefilter('error')
      fitting.fit(_MODEL, _variables(), _X, _Y, optimizer=optax.sgd(0.1),
                  steps=2, update_steps=())
    out, err = self.capfd.readouterr()
    self.assertEqual((out, err), ('', ''))

  @pytest.fixture(autouse=True)
  def _capture(self, capfd):
    self.capfd = capfd


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'steps': 0}, '`steps`.*>= 1; got 0'),
      ({'steps': 1.5}, '`steps`.*got 1.5'),
      ({'log_every': 0}, '`log_every`'),
      ({'update_steps': [0, -1]}, '`update_steps`.*>= 0; got -1'),
      ({'update_steps': 10}, r'`update_steps`.*range\(0, 50, 10\).*got 10'),
      ({'patience': 0}, '`patience`'),
      ({'patience': 2}, '`patience` needs `validation`'),
      ({'optimizer': 'adam'}, r"`optimizer` is LBFGS\(\).*got 'adam'"),
      ({'optimizer': 'lm'}, r"`optimizer`.*LevenbergMarquardt\(\).*got 'lm'"),
      ({'optimizer': 'lbfgs'}, r"`optimizer` is LBFGS\(\).*got 'lbfgs'"),
      ({'optimizer': optimizers.LBFGS}, r'`optimizer` is LBFGS\(\).*got <cl'),
      ({'optimizer': _LM(), 'lamb': 0.1}, '`optimizer`.*lamb'),
      ({'optimizer': _LM(), 'loss_fn': optax.l2_loss}, '`optimizer`.*loss_fn'),
      ({'lamb': -1.0}, '`lamb`.*got -1.0'),
      ({'optimizer': _LM(frozen=('knots',))}, '`frozen`.*node_bias.*knots'),
      ({'batch_size': 10}, '`batch_size`.*LBFGS needs all rows'),
      ({'batch_size': 10, 'optimizer': _LM()}, '`batch_size`.*Levenberg'),
      ({'batch_size': 10, 'optimizer': optax.sgd(0.1)}, '`key`'),
      ({'batch_size': 61, 'optimizer': optax.sgd(0.1),
        'key': jax.random.key(0)}, '`batch_size`.*60 rows.*got 61'),
      ({'refine': (10, 5)}, '`refine`.*10, 5'),
      ({'refine': (3,)}, '`refine`.*5 intervals'),
      ({'validation': (_X, _Y[1:])}, r'`validation\[0\]`.*\(59, 1\)'),
      ({'validation': (_X * np.nan, _Y)}, r'`validation\[0\]`.*finite'))
  def test_options(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      _fit(_variables(), _X, _Y, **options)

  @parameterized.parameters(
      (lambda: _LM(tolerance=1.0), '`tolerance`.*got 1.0'),
      (lambda: optimizers.LBFGS(tolerance=-0.1), '`tolerance`.*got -0.1'),
      (lambda: optimizers.OptaxTransform(optax.sgd(0.1), tolerance=1),
       '`tolerance`.*got 1'),
      (lambda: _LM(smooth=-1.0), '`smooth`.*got -1.0'),
      (lambda: optimizers.LBFGS(memory_size=0), '`memory_size`.*got 0'))
  def test_options_of_optimizers(self, make, message):
    with self.assertRaisesRegex(ValueError, message):
      make()

  @parameterized.parameters(
      (_X, _Y[1:], '`x` and `y`'), (_X[:0], _Y[:0], '`x`.*one row'),
      (_X, np.full((60, 1), np.inf), '`y`.*finite'),
      (_X, _Y[:, 0], r'\(60, 1\).*\(60,\)'))
  def test_data(self, x, y, message):
    with self.assertRaisesRegex(ValueError, message):
      _fit(_variables(), x, y, optimizer=optax.sgd(0.1))

  @parameterized.parameters(
      ({'grid': {}}, r"`params`.*got \['grid'\]"), (3, '`params`.*got a int'))
  def test_variables_without_parameters(self, variables, message):
    with self.assertRaisesRegex(ValueError, message):
      fitting.fit(linen.KAN([2, 1]), variables, _X, _Y)

  def test_grid_update_reaches_the_grids(self):
    model = linen.KAN([1, 1])
    fitted = fitting.fit(
        model, networks.kan([1, 1]), _X, _Y, optimizer=optax.sgd(0.0), steps=1,
        update_steps=(0,), grid_update=grids_lib.GridUpdate(margin=0.5),
        progress=False, compiler_options=compiling.QUICK)
    ends = fitted.variables['grid']['layers_0']['knots'][0, [3, -4]]
    reach = 0.5 * np.ptp(_X)
    np.testing.assert_allclose(
        ends, [_X.min() - reach, _X.max() + reach], rtol=1e-5)

  def test_refine_needs_a_kan(self):
    with self.assertRaisesRegex(ValueError, '`refine`.*Dense'):
      fitting.fit(nn.Dense(1), {'params': {}}, _X, _Y, refine=(5,))
