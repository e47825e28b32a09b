"""Estimators and their base, _base.py.

scikit-learn's own checks, raw units, tables, pickles, formulas.
"""

import contextlib
import io
import pickle
from unittest import mock

from absl.testing import parameterized
import jax
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn import base
from sklearn import exceptions
from sklearn import model_selection
from sklearn import pipeline
from sklearn import preprocessing
from sklearn.utils import estimator_checks
import sympy

from kan_jax import symbolic
from kan_jax.estimators import _regularization_path
from kan_jax.estimators import estimators
from kan_jax.layers import inference
from kan_jax.pruning import scores
from kan_jax.symbolic import by_structure
from kan_jax.symbolic import discovery

# Few steps, and large ones, with a given alpha: enough for what is tested.
_QUICK = {'steps': 20, 'learning_rate': 0.05, 'alpha': 1.0}
_RNG = np.random.default_rng(0)
_X = _RNG.uniform(-1, 1, (120, 3))
_Y = np.sin(3 * _X[:, 0]) + _X[:, 1]**2
_LABELS = np.where(_Y > 0.3, 'many', 'few')


def _regressor(**options):
  return estimators.KANRegressor(**_QUICK | options)


def _classifier(**options):
  return estimators.KANClassifier(**_QUICK | options)


# The checks warn of what they themselves do.
@pytest.mark.filterwarnings('default')
@estimator_checks.parametrize_with_checks([_regressor(), _classifier()])
def test_scikit_learn(estimator, check):
  check(estimator)


class FitTest(parameterized.TestCase):

  def test_chooses_how_smooth(self):
    """Much noise asks for a stronger prior than none."""
    options = {'alpha': 'auto', 'folds': 2}
    exact = _regressor(**options).fit(_X, _Y)
    noise = np.random.default_rng(1).normal(size=120)
    noisy = _regressor(**options).fit(_X, _X[:, 0] + 2 * noise)
    self.assertGreater(noisy.alpha_, 30 * exact.alpha_)
    self.assertGreater(exact.score(_X, _Y), 0.99)
    self.assertEqual(
        exact.path_['alpha'][exact.path_['validation_loss'].argmin()],
        exact.alpha_)

  @parameterized.parameters((1e-6, 0.0), (1e6, -1e8))
  def test_raw_units(self, scale, offset):
    """Other units, other numbers, the same predictions."""
    plain = _regressor().fit(_X, _Y)
    other = _regressor().fit(scale * _X + offset, scale * _Y + offset)
    np.testing.assert_allclose(
        other.predict(scale * _X + offset),
        # 1e-8 of float64's offset is lost, and training magnifies it.
        scale * plain.predict(_X) + offset, atol=1e-3 * scale, rtol=0)

  @parameterized.parameters(
      (2.0**1023, 1.0), (1.7e308, 1.0), (1.0, 1e200), (1.0, 2.0**1020),
      (1e-290, 1e-200), (2.0**-1000, 2.0**-1000))
  def test_ends_of_float64(self, x_scale, y_scale):
    """Neither infinite, nor 0, nor NaN, and without a warning."""
    plain = _regressor().fit(_X, _Y).predict(_X)
    scaled = _regressor().fit(x_scale * _X, y_scale * _Y).predict(x_scale * _X)
    exact = all(np.frexp(scale)[0] == 0.5 for scale in (x_scale, y_scale))
    # As in `test_raw_units`, where rounding is magnified; else to the bit.
    np.testing.assert_allclose(
        scaled / y_scale, plain, rtol=0, atol=0 if exact else 1e-3)

  @parameterized.parameters(100.0, 1e300, 1e-300)
  def test_size_of_the_weights(self, size):
    """'auto' chooses the same network for weights of any size."""
    weight = np.arange(120.0)
    noisy = _Y + 0.5 * np.random.default_rng(1).normal(size=120)
    options = {'alpha': 'auto', 'folds': 2}
    plain, equal = (_regressor(**options).fit(_X, noisy, weight)
                    for weight in (None, np.full(120, size)))
    np.testing.assert_allclose(equal.alpha_, size * plain.alpha_, rtol=1e-12)
    np.testing.assert_allclose(
        equal.predict(_X), plain.predict(_X), rtol=0, atol=1e-3)
    ratios = _regressor(**options).fit(_X, noisy, weight / weight.mean())
    scaled = _regressor(**options).fit(_X, noisy, size * weight)
    np.testing.assert_allclose(scaled.alpha_, (
        size * weight.mean() * ratios.alpha_), rtol=1e-12)
    np.testing.assert_allclose(
        scaled.predict(_X), ratios.predict(_X), rtol=0, atol=1e-3)

  def test_verbose(self):
    """A line for each alpha that is tried."""
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
      model = _regressor(alpha='auto', folds=2, verbose=True).fit(_X, _Y)
    lines = shown.getvalue().splitlines()
    self.assertLen(lines, len(model.path_['alpha']))
    self.assertRegex(lines[0], '^alpha 1: loss 0.*, of rows left out 0')

  @parameterized.parameters('auto', 0.3)
  def test_weights_and_order(self, alpha):
    """A weight counts rows; their order does not matter. To the bit."""
    weight = _RNG.integers(0, 3, 120)
    rows = _RNG.permutation(np.repeat(np.arange(120), weight))
    options = {'alpha': alpha, 'folds': 2}
    weighted, repeated = (
        _classifier(**options).fit(_X, _LABELS, weight),
        _classifier(**options).fit(_X[rows], _LABELS[rows]))
    np.testing.assert_array_equal(
        weighted.predict_proba(_X), repeated.predict_proba(_X))

  def test_compiles_once(self):
    """Other rows and about as many, other alphas and rates: one program."""
    def predicting(model):
      return inference.freeze(model.model_, model.variables_)._program

    model = _regressor().fit(_X, _Y)
    model.predict(_X)
    predict = predicting(model)
    counts = (_regularization_path._descend._cache_size(),
              predict._cache_size())
    for rows, options in ((100, {'alpha': 0.1}), (80, {'random_state': 3}),
                          (110, {'learning_rate': 0.01})):
      model = _regressor(**options).fit(_X[:rows], _Y[:rows])
      model.predict(_X[:7])
      self.assertIs(predicting(model), predict)
    self.assertEqual(counts, (
        _regularization_path._descend._cache_size(), predict._cache_size()))

  def test_blocks(self):
    """More rows than a step sees."""
    x = _RNG.uniform(-1, 1, (20_000, 2))
    model = _regressor(alpha='auto', hidden_layer_sizes=()).fit(x, x.sum(1))
    np.testing.assert_allclose(model.predict(x), x.sum(1), atol=0.02)

  def test_constant_columns_and_wide_tables(self):
    x = np.concatenate([_X[:8], np.ones((8, 1)), _RNG.normal(size=(8, 50))], 1)
    for model, y in ((_regressor(), _Y[:8]), (_classifier(), [0, 1] * 4)):
      shares = model.fit(x, y).feature_importances_
      self.assertEqual(shares[3], 0)
      self.assertAlmostEqual(shares.sum(), 1)
      self.assertTrue(np.isfinite(model.predict(1e30 * x)).all())

  def test_constant_targets(self):
    model = _regressor().fit(_X, np.full(120, 7.0))
    np.testing.assert_allclose(model.predict(_X), 7, rtol=1e-15)
    self.assertEqual(float(model.formula_), 7)
    self.assertFalse(model.feature_importances_.any())

  def test_many_outputs_and_float64(self):
    y = np.stack([_Y, _X[:, 2]], 1)
    with jax.enable_x64(True):
      model = _regressor(hidden_layer_sizes=[4, 4]).fit(_X, y)
      self.assertEqual(model.predict(_X).shape, (120, 2))
    self.assertEqual(model.model_.features, (3, 4, 4, 2))
    self.assertEqual(
        model.variables_['params']['layers_1']['coef'].dtype, np.float64)

  @parameterized.parameters(
      ({'hidden_layer_sizes': (0,)}, '`hidden_layer_sizes`.*>= 1'),
      ({'hidden_layer_sizes': 8}, '`hidden_layer_sizes`.*got 8'),
      ({'alpha': -1}, "`alpha`.*'auto'.*got -1"), ({'alpha': 'x'}, '`alpha`'),
      ({'folds': 1}, '`folds`.*>= 2'), ({'steps': 1.5}, '`steps`.*got 1.5'),
      ({'learning_rate': 0}, '`learning_rate`.*> 0'),
      ({'learning_rate': 'a'}, "`learning_rate`.*got 'a'"),
      ({'learning_rate': None}, '`learning_rate`.*got None'),
      ({'learning_rate': True}, '`learning_rate`.*got True'),
      ({'learning_rate': 1e300}, '`learning_rate`.*got 1e[+]300'),
      ({'learning_rate': float('nan')}, '`learning_rate`.*got nan'),
      ({'learning_rate': 1e30}, '`learning_rate` 1e[+]30 is too large'),
      ({'alpha': [1.0]}, '`alpha`'), ({'steps': True}, '`steps`.*got True'),
      ({'grid': 0}, '`grid`'), ({'order': 9}, '`order`'))
  def test_options(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      _regressor(**options).fit(_X, _Y)

  def test_one_class(self):
    with self.assertRaisesRegex(ValueError, "one class alone, 'a'"):
      _classifier().fit(_X, ['a'] * 120)
    with self.assertRaisesRegex(ValueError, "one class alone, 'few'"):
      _classifier().fit(_X, _LABELS, _LABELS == 'few')


class ToolsTest(parameterized.TestCase):

  def test_grid_search_in_a_pipeline(self):
    search = model_selection.GridSearchCV(
        pipeline.make_pipeline(preprocessing.StandardScaler(), _classifier()),
        {'kanclassifier__alpha': [1.0, 1000.0]}, cv=3, error_score='raise')
    search.fit(_X, _LABELS)
    self.assertEqual(search.best_params_['kanclassifier__alpha'], 1)
    self.assertGreater(search.best_score_, 0.85)
    scores = model_selection.cross_val_score(_regressor(), _X, _Y, cv=3)
    self.assertGreater(scores.min(), 0.8)

  def test_pandas(self):
    table = pd.DataFrame(_X, columns=['a', 'b', 'c'])
    model = _regressor().fit(table, pd.Series(_Y))
    self.assertEqual(list(model.feature_names_in_), ['a', 'b', 'c'])
    with self.assertRaisesRegex(ValueError, 'feature names should match'):
      model.predict(table.rename(columns={'a': 'z'}))

  def test_copies(self):
    """Pickled, dumped and cloned: the same predictions."""
    model = _classifier().fit(_X, _LABELS)
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    for copy in (pickle.loads(pickle.dumps(model)), joblib.load(file),
                 base.clone(model).fit(_X, _LABELS)):
      np.testing.assert_array_equal(
          copy.predict_proba(_X), model.predict_proba(_X))

  def test_importances_are_computed_once_for_a_fit(self):
    """Copies take them along; what a caller does to them stays his."""
    model = _regressor().fit(_X, _Y)
    shares = model.feature_importances_
    with mock.patch.object(scores, 'attribution') as unused:
      for same in (model, pickle.loads(pickle.dumps(model))):
        same.feature_importances_[:] = 7
        np.testing.assert_array_equal(same.feature_importances_, shares)
    unused.assert_not_called()
    model.fit(_X[:, ::-1], _Y)
    self.assertEqual(model.feature_importances_.argmin(), 0)
    self.assertEqual(shares.argmin(), 2)
    self.assertNotIn('_importances', vars(base.clone(model)))

  def test_plot(self):
    table = pd.DataFrame(_X, columns=['$', 'b', 'c'])
    model = _classifier().fit(table, _LABELS)
    texts = [text.get_text() for text in model.plot().axes[0].texts]
    self.assertIn(r'\$', texts)
    self.assertIn('many', texts)


class FormulaTest(parameterized.TestCase):

  def test_raw_units_and_names(self):
    """Columns that do not matter are not in it; it is found once."""
    table = pd.DataFrame({'c': np.ones(120), 'length (cm)': 3 + _X[:, 0]})
    model = _regressor().fit(table, 5 * table['length (cm)']**2)
    with mock.patch.object(by_structure, 'find_law') as unused:
      self.assertNotIn('formula_', dir(model))  # Too slow to be looked at.
      model._repr_html_()
    unused.assert_not_called()
    self.assertEqual(model.formula_, 5 * sympy.Symbol('length (cm)')**2)
    self.assertIs(model.formula_, model.formula_)
    self.assertIn('formula_', dir(model))
    x = pd.DataFrame({'c': np.ones(3), 'length (cm)': [1.0, 3.0, 10.0]})
    np.testing.assert_allclose(
        model.predict_by_formula(x), [5, 45, 500], rtol=1e-12)
    report = model.formula_report_
    self.assertAlmostEqual(report['formula'], 1)
    self.assertAlmostEqual(
        report['network'], model.score(table, 5 * table['length (cm)']**2))
    with mock.patch.object(by_structure, 'find_law') as unused:
      self.assertNotIn('formula_', dir(model.fit(table, _Y)))
    unused.assert_not_called()

  def test_unfitted(self):
    for name in ('formula_', 'formula_report_', 'feature_importances_',
                 'model_'):
      with self.assertRaises(exceptions.NotFittedError):
        getattr(_regressor(), name)

  def test_of_two_classes(self):
    """Found, not made up: it says of rows what the model says."""
    table = pd.DataFrame({'length (cm)': 3 + _X[:, 0]})
    near = np.abs(_X[:, 0]) < 0.5
    model = _classifier().fit(table, np.where(near, 'near', 'far'))
    formula = model.formula_
    odds = symbolic.lambdify([formula], ['length (cm)'])(table.to_numpy())
    # Log-odds of the second class, whose sign decides.
    agrees = (odds[:, 0] > 0) == (model.predict(table) == 'near')
    np.testing.assert_array_equal(
        model.predict_by_formula(table) == 'near', odds[:, 0] > 0)
    self.assertAlmostEqual(
        model.formula_report_['formula'],
        np.mean((odds[:, 0] > 0) == near))
    self.assertGreater(agrees.mean(), 0.95)
    self.assertGreater(
        np.corrcoef(odds[:, 0], model.decision_function(table))[0, 1], 0.95)

  def test_of_classes(self):
    """An expression for each class, of the log-odds that they compute."""
    labels = np.digitize(_Y, [0, 0.5])
    model = _classifier().fit(_X, labels).set_params(verbose=True)
    found, shown = [], io.StringIO()

    def discover(x, y, **options):
      found.append((x, y, options['names']))
      options['log']('tried')
      return mock.Mock(expression=sympy.Symbol(options['names'][0]))

    with (mock.patch.object(by_structure, 'find_law', return_value=None),
          mock.patch.object(discovery, 'discover', discover),
          contextlib.redirect_stdout(shown)):
      self.assertEqual(model.formula_, [sympy.Symbol('x_0')] * 3)
    self.assertEqual(shown.getvalue(), '0: tried\n1: tried\n2: tried\n')
    self.assertEqual(found[0][2], ['x_0', 'x_1', 'x_2'])
    outputs = model.decision_function(found[0][0])
    outputs -= outputs.mean(1, keepdims=True)
    np.testing.assert_allclose(
        np.stack([y for _, y, _ in found], 1), outputs, atol=1e-6)
