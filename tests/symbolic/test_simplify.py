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
