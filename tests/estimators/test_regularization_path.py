"""The path over alphas: what is tried, where it ends, and what it weighs."""

from unittest import mock
import warnings

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
from sklearn import exceptions

from kan_jax.estimators import _losses
from kan_jax.estimators import _regularization_path
from kan_jax.estimators import estimators

_RNG = np.random.default_rng(0)
_X = _RNG.uniform(-1.5, 1.5, (60, 2))
_TABLE = _regularization_path.Table(
    _X, np.sin(2 * _X[:, :1]), np.ones(60), np.arange(60) % 2)
_MODEL = _regularization_path.make_model((2, 1), 3, 2)


def _search(loss_of_alpha):
  """Searches without networks: the loss is a function of alpha."""
  def take(unused_point, alpha, unused_rounds):
    return _regularization_path._Point(None, alpha, loss_of_alpha(alpha), 0.0)

  points = _regularization_path._search(take, take(None, np.nan, 0))
  return [point.alpha for point in points]


def _fit(weight, **options):
  return _regularization_path.fit_path(
      _MODEL, _TABLE._replace(weight=weight), _losses.squared,
      **{'random': np.random.default_rng(0), 'steps': 10} | options)


class SearchTest(parameterized.TestCase):

  def test_upwards_then_downwards(self):
    """Two alphas without a lower loss end a direction; no warning."""
    with warnings.catch_warnings():
      warnings.simplefilter('error')
      alphas = _search(lambda alpha: abs(np.log(alpha / 10)))
    np.testing.assert_allclose(
        alphas, 10**(np.array([0, 1, 2, 3, 4, -1, -2]) / 2))

  @parameterized.parameters((-1, 'largest.*1e[+]03: .*signal', 1000),
                            (1, 'smallest.*0.0001: .*prior', 1e-4))
  def test_warns_at_a_limit(self, sign, message, limit):
    with self.assertWarnsRegex(exceptions.ConvergenceWarning, message):
      alphas = _search(lambda alpha: 20 + sign * np.log(alpha))
    np.testing.assert_allclose(
        max(alphas) if sign < 0 else min(alphas), limit)


  def test_no_warning_without_noise(self):
    """The smallest is best, but nothing is left to gain."""
    with warnings.catch_warnings():
      warnings.simplefilter('error')
      alphas = _search(lambda alpha: 1e-5 * alpha)
    np.testing.assert_allclose(min(alphas), 1e-4)

  def test_warning_names_the_caller(self):
    """Not a line of the library."""
    regressor = estimators.KANRegressor((), grid=2, steps=5, folds=2)
    with (mock.patch.object(_regularization_path, '_EXPONENTS', range(1)),
          self.assertWarnsRegex(
              exceptions.ConvergenceWarning, 'largest alpha') as context):
      regressor.fit(_X, _X[:, 0])
    self.assertEqual(context.filename, __file__)


class FitPathTest(parameterized.TestCase):

  def test_a_first_fit_compiles_two_programs(self):
    """The first knots and the steps; all else is done in numpy."""
    compiled = []

    def listen(event, seconds, **kwargs):
      del seconds
      if event.endswith('backend_compile_duration'):
        compiled.append(kwargs['fun_name'])

    jax.monitoring.register_event_duration_secs_listener(listen)
    self.addCleanup(jax.monitoring.unregister_event_duration_listener, listen)
    jax.clear_caches()
    estimators.KANRegressor((), grid=2, order=1, steps=5, folds=2).fit(
        _X, _X[:, 0])
    self.assertEqual(compiled, ['jit(_knots)', 'jit(_descend)'])

  def test_weights_of_another_size(self):
    """They choose the same network, with as many times the alpha."""
    weight = np.random.default_rng(1).uniform(0.5, 2, 60)
    lines = []
    first = _fit(weight, log=lines.append)
    self.assertLen(lines, len(first.path['alpha']))
    for size in (2.0**-1000, 64, 2.0**1000):  # Exact in floating point.
      other = _fit(size * weight)
      self.assertEqual(other.alpha, size * first.alpha)
      np.testing.assert_array_equal(
          other.path['validation_loss'], first.path['validation_loss'])
      np.testing.assert_array_equal(
          other.variables['params']['layers_0']['coef'],
          first.variables['params']['layers_0']['coef'])

  def test_given_alpha_counts_rows(self):
    """Rows that weigh twice as much need twice the alpha."""
    one, two = (_fit(weight * np.ones(60), alpha=weight * 3.0)
                for weight in (1, 2))
    self.assertEqual((one.alpha, two.alpha), (3, 6))
    np.testing.assert_array_equal(
        one.variables['params']['layers_0']['coef'],
        two.variables['params']['layers_0']['coef'])
    other = _fit(2 * np.ones(60), alpha=3.0)
    self.assertLess(other.path['loss'][0], one.path['loss'][0])

  @parameterized.parameters(1e300, 1e15)
  def test_strongest_prior(self, alpha):
    """An alpha that float32 cannot hold leaves nothing of the network."""
    fitted = _fit(np.ones(60), alpha=alpha)
    self.assertEqual(fitted.alpha, alpha)
    self.assertTrue(np.isfinite(fitted.path['loss']).all())

  def test_steps_too_long(self):
    with self.assertRaisesRegex(ValueError, 'not finite.*`learning_rate` 1e'):
      _fit(np.ones(60), rate=1e30)


class LossTest(parameterized.TestCase):

  def test_values(self):
    """By hand; the log-odds of log 3 are a probability of 3 / 4."""
    outputs, y = np.array([[1.0, 2.0]]), np.array([[0.0, 4.0]])
    np.testing.assert_allclose(
        _losses.squared(outputs, y), [2.5])
    np.testing.assert_allclose(_losses.sigmoid(
        jnp.log(jnp.array([[3.0], [3.0]])), jnp.array([[1.0], [0.0]])),
                               -np.log([0.75, 0.25]), rtol=1e-6)
    np.testing.assert_allclose(_losses.softmax(
        jnp.log(jnp.array([[3.0, 1.0]])), jnp.array([[0.0, 1.0]])),
                               [-np.log(0.25)], rtol=1e-6)

  def test_prior(self):
    """By hand: half of squared second differences, coefficients and lines."""
    params = {'layers_0': {
        'coef': np.array([1.0, 2, 4])[None, :, None],
        'scale_base': np.array([[3.0]])}}
    np.testing.assert_allclose(
        _losses.prior(params), (1**2 + 0.1 * 21 + 3**2) / 2, rtol=1e-6)
