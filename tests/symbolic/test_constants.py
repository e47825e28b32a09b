"""Numbers of formulas, and curves of one variable."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import _constants
from kan_jax.symbolic import _curves

_RNG = np.random.default_rng(0)
_A, _B = sympy.symbols('a b')
_X = _RNG.uniform(1, 3, (300, 2))


class ConstantsTest(parameterized.TestCase):

  def test_fit(self):
    y = 2.5 * np.exp(-0.7 * _X[:, 0]) + 0.1 * _X[:, 1]
    start = 2.0 * sympy.exp(-1.0 * _A) + 0.3 * _B
    fitted = _constants.fit(start, [_A, _B], _X, y)
    self.assertLess(fitted.error, 1e-13)
    np.testing.assert_allclose(
        sorted(fitted.numbers), [-0.7, 0.1, 2.5], rtol=1e-10)

  def test_standard_errors(self):
    """A mean of n numbers of deviation s is known to s / sqrt(n)."""
    y = 3 + 0.5 * _RNG.normal(size=300)
    fitted = _constants.fit(sympy.Float(1.0) + 0 * _A, [_A, _B], _X, y)
    # 300 draws tell a deviation to 4 %.
    np.testing.assert_allclose(
        fitted.deviations(), 0.5 / np.sqrt(300), rtol=0.15)

  def test_no_finite_values(self):
    self.assertIsNone(_constants.fit(
        sympy.log(-1.5 * _A), [_A, _B], _X, _X[:, 0]))

  @parameterized.parameters(
      (0.5, 1e-12, sympy.Rational(1, 2)),
      (3.14160, 1e-4, sympy.pi), (0.0795775, 1e-7, 1 / (4 * sympy.pi)),
      (1e-14, 1e-13, sympy.Integer(0)))
  def test_numbers_are_recognized(self, value, deviation, expected):
    self.assertEqual(next(_constants.simple(value, deviation)).exact, expected)

  @parameterized.parameters((0.5312, 1e-6), (0.53, 0.1))
  def test_others_are_not(self, value, deviation):
    """One is no simple number; of the other the data say too little."""
    self.assertEqual(list(_constants.simple(value, deviation)), [])

  def test_recognize(self):
    y = _X[:, 0] * np.pi + _X[:, 1] / 3
    start = 3.1 * _A + 0.3 * _B + 0.01
    fitted = _constants.fit(start, [_A, _B], _X, y)
    again = _constants.recognize(fitted, [_A, _B], _X, y)
    self.assertEqual(again.write(), sympy.pi * _A + _B / 3)

  def test_shorten(self):
    expr = _A / (_A * _B + _A**2)
    y = 1 / (_X[:, 0] + _X[:, 1])
    fitted = _constants.fit(expr, [_A, _B], _X, y)
    self.assertEqual(_constants.shorten(
        fitted, [_A, _B], _X, y).write(), 1 / (_A + _B))


class CurvesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('sin', 0, lambda z: 1 + 2 * np.sin(2.3 * z + 0.4)),
      ('exp', 0, lambda z: 3 * np.exp(-0.4 * z) + 1),
      ('1/(1 + x^2)', 1, lambda z: z / (1 + (1.3 * z - 1)**2)),
      ('x^1/2', 0, lambda z: np.sqrt(z + 0.3)),
      ('log', 0, lambda z: 2 * np.log(z + 1)))
  def test_curves(self, name, power, fn):
    z = _RNG.uniform(0.5, 3, 400)
    best = [match for match in _curves.match(
        z, fn(z), np.ones(400), powers=(0, 1)) if match.left < 1e-20]
    self.assertIn((name, power), [(m.curve.name, m.power) for m in best])
    for match in best:
      values = sympy.lambdify(_A, match.write(_A))(z)
      np.testing.assert_allclose(values, fn(z), rtol=1e-8)

  def test_slopes(self):
    z = np.linspace(0.2, 0.8, 5)
    for curve in _curves.CURVES:
      slope = (curve.fn(z + 1e-6) - curve.fn(z - 1e-6)) / 2e-6
      # Differences of second order lose half of the digits.
      np.testing.assert_allclose(curve.slope(z), slope, rtol=1e-6)
