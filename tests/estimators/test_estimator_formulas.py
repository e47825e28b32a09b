"""Formulas of estimators: what is looked at, in which order, and how well."""

from unittest import mock

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.estimators import _formulas
from kan_jax.estimators import inputs
from kan_jax.symbolic import by_structure
from kan_jax.symbolic import discovery

_X = np.random.default_rng(0).uniform(1, 5, (300, 5))
_NOISE = np.random.default_rng(1).normal(size=300)
_FORCE = 6.674 * _X[:, 0] * _X[:, 1] / _X[:, 2]**2
_A, _B, _C = sympy.symbols('a b c')


def _question(y, computed, of_network=False):
  return _formulas.Question(
      _X, y, computed, of_network, list('abcde'), lambda: np.full(5, 0.2))


def _find(question, **options):
  return _formulas.find(question, **{
      'log': lambda line: None, 'progress': False,
      'options': lambda count: {'shapes': [[count, 1]]}} | options)


def _law(expression, *, reached=False, interrupted=False):
  return by_structure.Law(
      by_structure.Formula(expression, 0.1, 3), {}, (), 0.1, reached,
      interrupted)


class FindTest(parameterized.TestCase):

  @parameterized.parameters(0.0, 0.02)
  def test_a_law_with_noise_and_columns_that_do_not_matter(self, noise):
    y = _FORCE + noise * _FORCE.std() * _NOISE
    with mock.patch.object(discovery, 'discover') as unused:
      formula = _find(_question(y, _FORCE))
    unused.assert_not_called()
    factor = formula / (_A * _B / _C**2)
    self.assertTrue(factor.is_number, formula)
    # 300 rows leave a standard error of about noise / sqrt(300).
    np.testing.assert_allclose(float(factor), 6.674, rtol=0.3 * noise + 1e-12)
    # No more digits than the rows support.
    self.assertLess(len(str(formula)), len('6.67400*a*b/c**2') + 1)

  def test_then_what_the_network_says_and_then_networks(self):
    """Each only where what came before leaves more than the network does."""
    y = _FORCE + 0.1 * _NOISE
    law = 6.674 * _A * _B / _C**2
    near = law + 0.06  # Adds 17 % to the error that noise leaves.
    for laws, of_network, expected in (
        ([_law(near, reached=True)], 0, near),
        ([_law(near), _law(law)], 0, law),
        ([_law(_A, reached=True), _law(law)], 0, law),
        ([_law(_A, interrupted=True)], 0, _A),
        ([_law(law)], 0, law),
        ([_law(_A), _law(law)], 0, law),
        ([None, _law(law)], 0, law),
        ([_law(_A), _law(_B)], 1, law),
        ([None, None], 1, law)):
      with (mock.patch.object(
          by_structure, 'find_law', side_effect=laws) as find_law,
            mock.patch.object(
                discovery, 'discover',
                return_value=mock.Mock(expression=law)) as discover):
        self.assertEqual(_find(_question(y, _FORCE)), expected)
      self.assertEqual(find_law.call_count, len(laws))
      self.assertEqual(discover.call_count, of_network)
    np.testing.assert_array_equal(find_law.call_args.args[1], _FORCE)

  def test_a_law_is_kept_where_networks_do_no_better_or_are_interrupted(self):
    for outcome in ({'return_value': mock.Mock(expression=_B)},
                    {'side_effect': KeyboardInterrupt}):
      with (mock.patch.object(
          by_structure, 'find_law', side_effect=[_law(_A * _B / _C**2), None]),
            mock.patch.object(discovery, 'discover', **outcome)):
        self.assertEqual(
            _find(_question(_FORCE, _FORCE + 1e-3)), _A * _B / _C**2)

  def test_few_rows_and_nothing_that_matters(self):
    few = _question(_FORCE, _FORCE)._replace(x=_X[:49])
    with self.assertRaisesRegex(ValueError, '50 different rows.*got 49'):
      _find(few)
    mean = sympy.Float(float(_FORCE.mean()))
    self.assertEqual(_find(few._replace(x=np.ones((49, 5)))), mean)
    nothing = _question(_FORCE, _FORCE + 1)._replace(
        importances=lambda: np.zeros(5))
    with mock.patch.object(by_structure, 'find_law', return_value=None):
      self.assertEqual(_find(nothing), mean)

  def test_of_many_columns_ten_are_looked_at(self):
    x = np.random.default_rng(0).uniform(size=(60, 12))
    shares = np.arange(12.0)
    question = _formulas.Question(
        x, x[:, 0], x[:, 0] + 1, False, [f'x_{i}' for i in range(12)],
        lambda: shares)
    self.assertEqual(question.candidates().tolist(), list(range(2, 12)))
    self.assertEqual(
        question._replace(x=x * (shares < 9)).candidates().tolist(),
        list(range(9)))


class DoubtTest(parameterized.TestCase):

  def test_as_large_as_what_labels_leave_open(self):
    odds = 10 * np.random.default_rng(2).normal(size=(4000, 1))
    chances = np.full((4000, 1), 0.5)
    noise = _formulas.with_doubt(odds, chances) - odds
    # A fair coin: 1 / sqrt(1/4); 4000 draws tell a deviation to 1 %.
    np.testing.assert_allclose(noise.std(), 2, rtol=0.05)
    noise = _formulas.with_doubt(odds, np.ones((4000, 1))) - odds
    np.testing.assert_allclose(noise.std(), 0.5 * odds.std(), rtol=0.05)

  def test_numbers_are_those_of_the_network(self):
    """The form comes from what is in doubt, its numbers do not."""
    odds = 2.5 * _X[:, 0] - 7.3
    noisy = odds + _NOISE
    with mock.patch.object(discovery, 'discover') as unused:
      formula = _find(_question(noisy, odds, of_network=True))
    unused.assert_not_called()
    np.testing.assert_allclose(
        [float(c) for c in sympy.Poly(formula, _A).all_coeffs()],
        [2.5, -7.3], rtol=1e-4)


class InputsTest(parameterized.TestCase):

  def test_candidates(self):
    """Up to ten, however little they seem to matter."""
    shares = np.array([0.5, 0.001, 0, *np.full(9, 0.05)])
    self.assertEqual(inputs.candidates(shares).tolist(),
                     [0, *range(3, 12)])
    self.assertEqual(inputs.candidates(shares[:4]).tolist(), [0, 1, 3])
