"""Tables: moments against NumPy's, exact constants, the ends of float64."""

from absl.testing import parameterized
import numpy as np

from kan_jax.estimators import _tables

_RNG = np.random.default_rng(0)
_ROWS = _RNG.normal(size=(50, 3)) * [1, 100, 1e-3] + [0, 5, 2]
_WEIGHT = _RNG.uniform(0.1, 3, 50)
_LARGEST = np.finfo(np.float64).max


class MomentsTest(parameterized.TestCase):

  def test_matches_numpy(self):
    mean, std = _tables.find_moments(_ROWS, _WEIGHT)
    expected = np.average(_ROWS, axis=0, weights=_WEIGHT)
    np.testing.assert_allclose(mean, expected, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(std, np.sqrt(np.average(
        (_ROWS - expected)**2, axis=0, weights=_WEIGHT)), rtol=1e-12)

  @parameterized.parameters(0.0, 7.0, 0.1, -12345678.9, 1e-320)
  def test_constant(self, value):
    """The value itself, so that nothing is left after it is taken away."""
    mean, std = _tables.find_moments(np.full((50, 1), value), _WEIGHT)
    self.assertEqual((mean[0], std[0]), (value, 1))

  def test_rounding_is_constant(self):
    """Where 1 is less than the rounding, the deviation is not 1."""
    rows = 1e30 * (1 + np.finfo(np.float64).eps * (np.arange(50) % 2))[:, None]
    for scale in (1e-30, 1.0):
      mean, std = _tables.find_moments(scale * rows, _WEIGHT)
      standard = _tables.standardize(scale * rows, mean, std)
      self.assertLess(np.abs(standard).max(), 0.1)

  def test_many_rows_far_from_zero(self):
    """Not taken for a constant: seconds since 1970, of one second."""
    rows = 1.7e9 + np.linspace(0, 1, 200_000)[:, None]
    _, std = _tables.find_moments(rows, np.ones(len(rows)))
    np.testing.assert_allclose(std, 12**-0.5, rtol=1e-4)

  @parameterized.parameters(1012, 660, -660, -1010)
  def test_powers_of_two_are_exact(self, exponent):
    mean, std = _tables.find_moments(_ROWS, _WEIGHT)
    far_mean, far_std = _tables.find_moments(
        np.ldexp(_ROWS, exponent), _WEIGHT)
    np.testing.assert_array_equal(np.ldexp(far_mean, -exponent), mean)
    np.testing.assert_array_equal(np.ldexp(far_std, -exponent), std)
    standard = _tables.standardize(_ROWS, mean, std)
    np.testing.assert_array_equal(_tables.standardize(
        np.ldexp(_ROWS, exponent), far_mean, far_std), standard)
    np.testing.assert_array_equal(
        _tables.restore(standard, far_mean, far_std),
        np.ldexp(_tables.restore(standard, mean, std), exponent))

  @parameterized.parameters(1.0, 1e300, 1e-300)
  def test_size_of_the_weights(self, size):
    for actual, expected in zip(
        _tables.find_moments(_ROWS, size * _WEIGHT),
        _tables.find_moments(_ROWS, _WEIGHT), strict=True):
      np.testing.assert_allclose(actual, expected, rtol=1e-12)


class UnitsTest(parameterized.TestCase):

  def test_largest_numbers(self):
    """From one end of float64 to the other, and back."""
    rows = _LARGEST * np.array([[-1.0], [1.0], [0.5], [1.0]])
    mean, std = _tables.find_moments(rows, np.ones(4))
    np.testing.assert_allclose(mean / _LARGEST, 0.375)
    np.testing.assert_allclose(std / _LARGEST, np.std([-1, 1, 0.5, 1]))
    standard = _tables.standardize(rows, mean, std)
    np.testing.assert_allclose(standard.mean(), 0, atol=1e-15)
    np.testing.assert_allclose(
        _tables.restore(standard, mean, std) / _LARGEST, rows / _LARGEST,
        rtol=1e-14)

  def test_far_rows(self):
    """All the same beyond a million deviations; predictions stay finite."""
    mean, std = np.array([3.0]), np.array([1e-200])
    rows = np.array([[3.0], [4.0], [-_LARGEST], [_LARGEST]])
    np.testing.assert_array_equal(
        _tables.standardize(rows, mean, std)[:, 0], [0, 1e6, -1e6, 1e6])
    np.testing.assert_array_equal(_tables.restore(
        np.array([[2.0], [-2.0]]), np.zeros(1), np.array([_LARGEST])),
                                  [[_LARGEST], [-_LARGEST]])

  def test_no_deviation(self):
    np.testing.assert_array_equal(_tables.restore(
        np.array([[2.0, -3.0]]), np.array([0.1, _LARGEST]), np.zeros(2)),
                                  [[0.1, _LARGEST]])


class RowsTest(parameterized.TestCase):

  def test_join(self):
    rows = np.array([[2.0, 1], [1, 1], [2, 1], [0, 0]])
    joined, weight = _tables.join_rows(rows, np.array([1, 0.5, 2, 0]))
    np.testing.assert_array_equal(joined, [[1, 1], [2, 1]])
    np.testing.assert_array_equal(weight, [0.5, 3])

  @parameterized.parameters(2, 3, 7)
  def test_parts(self, count):
    """As many rows in each, and as many of each class, up to one."""
    strata = np.repeat([0.0, 1, 2], [20, 13, 1])
    part = _tables.deal_parts(strata, count, np.random.default_rng(0))
    for rows in (part, part[strata == 0], part[strata == 1]):
      self.assertLessEqual(np.ptp(np.bincount(rows, minlength=count)), 1)
    self.assertEqual(len(_tables.deal_parts(
        np.zeros(1), count, np.random.default_rng(0))), 1)

  def test_weights(self):
    np.testing.assert_array_equal(
        _tables.check_weights(None, _ROWS), np.ones(50))
    for weight in (np.zeros(50), np.full(50, -1.0), np.full(50, np.nan)):
      with self.assertRaises(ValueError):
        _tables.check_weights(weight, _ROWS)
