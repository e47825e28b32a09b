"""Numbers of formulas as people write them."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import simplify

_NAMES = ('x', 'y')
_X, _Y = sympy.symbols(_NAMES)
_ROWS = np.random.default_rng(0).uniform(0.5, 2, (50, 2))


def _tidy(expr, error=1e-8):
  return simplify.tidy(expr, _NAMES, _ROWS, error)


class TidyTest(parameterized.TestCase):

  @parameterized.parameters(
      (1.0 * _X / _Y + 1e-17, _X / _Y),
      (0.333333333333 * _X, _X / 3),
      (sympy.sin(3.14159265359 * _X), sympy.sin(sympy.pi * _X)),
      (sympy.sin(1.0 * _X + 3.14159265359), -sympy.sin(_X)),
      (0.25 * (2.0 * _X + 2.0)**2, (_X + 1)**2),
      (2.0 * sympy.exp(_X + 0.69314718056), 4 * sympy.exp(_X)),
      (sympy.exp(_X**2.0 - 1e-12), sympy.exp(_X**2)),
      (1e-12 * _X + _Y, _Y))
  def test_becomes(self, expr, expected):
    self.assertEqual(_tidy(expr), expected)

  @parameterized.parameters(
      (sympy.log(0.001 * _X + 0.002),), (1e-9 / (_X - 2.5),),
      (0.7236 * _X,), (sympy.sqrt(_X - 0.4999),))
  def test_keeps_what_matters(self, expr):
    """To a small part of what the expression itself varies by."""
    values = sympy.lambdify(_NAMES, expr)(*_ROWS.T)
    tidy = _tidy(expr, 1e-6 * values.std())
    np.testing.assert_allclose(
        sympy.lambdify(_NAMES, tidy)(*_ROWS.T), values,
        atol=1e-6 * values.std())
    self.assertEqual(tidy.free_symbols, expr.free_symbols)

  def test_noise_decides(self):
    expr = 1.00004 * _X + 0.003
    self.assertEqual(_tidy(expr, 0.01), _X)
    self.assertEqual(_tidy(expr, 1e-4), _X + 0.003)

  def test_what_is_not_finite_stays(self):
    expr = sympy.log(_X - 1.0)
    self.assertEqual(_tidy(expr), expr)


class RoundDigitsTest(parameterized.TestCase):

  def test_significant_digits(self):
    x = sympy.Symbol('x')
    rounded = simplify.round_digits(
        123456.0 * x + 1.23456e-9 * sympy.exp(0.98765 * x)
        + x**sympy.Rational(3, 2), 3)
    np.testing.assert_allclose(
        sorted(float(f) for f in rounded.atoms(sympy.Float)),
        [1.23e-9, 0.988, 123000.0])
    self.assertTrue(rounded.has(x**sympy.Rational(3, 2)))

  def test_keeps_what_fewer_digits_would_break(self):
    x = sympy.Symbol('x')
    fraction = 1 / (sympy.sin(3.001 * x) - sympy.sin(2.999 * x))
    rounded = simplify.round_digits(fraction, 2)
    self.assertAlmostEqual(
        float(rounded.subs(x, 1)), float(fraction.subs(x, 1)), places=6)

  def test_rounded_numbers_compute_in_full_precision(self):
    x = sympy.Symbol('x')
    rounded = simplify.round_digits(sympy.sin(1.23456 * x) / 3.0, 2)
    np.testing.assert_allclose(
        float(rounded.subs(x, sympy.Float(0.7))), np.sin(1.2 * 0.7) * 0.33,
        rtol=1e-12)

  @parameterized.parameters(
      (0.36 * (1.7 * _X + 0.0)**2, '1.0*x**2'),
      (7.7 / (7.7 * _X + 15.4), '1.0/(x + 2.0)'),
      (3.3 * (2.2 * _X + 4.4) * (0.5 * _Y + 1.5), '3.6*(x + 2.0)*(y + 3.0)'),
      (sympy.exp(7.7 / (7.7 * _X + 15.4)), 'exp(1.0/(x + 2.0))'))
  def test_redundant_numbers_are_joined(self, expr, expected):
    """Each would be rounded for itself."""
    self.assertEqual(str(simplify.round_digits(expr, 2)), expected)

  @parameterized.parameters(1, 2, 4)
  def test_error_on_rows(self, digits):
    """The sine of a large argument, a difference of large numbers, a power."""
    for expr in (sympy.sin(1234.567 * _X + 0.5), 1234.56 * _X - 1233.21 * _Y,
                 (1.2345 * _X + 0.01234)**12, sympy.exp(-123.456 * _X) * _Y):
      rounded = simplify.round_digits(expr, digits, _NAMES, _ROWS)
      values, short = (
          sympy.lambdify(_NAMES, e)(*_ROWS.T) for e in (expr, rounded))
      self.assertLessEqual(
          np.abs(short - values).max(), 10.0**(1 - digits) * abs(values).max())

  def test_rows_outside_the_domain_are_left_out(self):
    rounded = simplify.round_digits(
        sympy.log(1.2345 * _X - 1.2345) * _Y, 3, _NAMES, _ROWS)
    self.assertEqual(
        rounded, sympy.log(sympy.Float(1.23, 15) * _X - sympy.Float(1.23, 15))
        * _Y)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, '`digits`.*got 0'):
      simplify.round_digits(_X, 0)
