"""Units: what they are, what they allow; tables of unusual size."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import _scaling
from kan_jax.symbolic import _units
from kan_jax.symbolic import by_structure

_RNG = np.random.default_rng(0)
_A, _B = sympy.symbols('a b')


class ParseTest(parameterized.TestCase):

  @parameterized.parameters(
      ('N', 'kg*m/s**2'), ('V', 'J/C'), ('ohm*F', 's'), ('Pa*m^2', 'N'),
      ('W/(V*A)', '1'), ('m**0.5*m**(1/2)', 'm'), ('T', 'Wb*m**-2'),
      ('H*A/s', 'V'), ('S', '1/ohm'), ('J/(mol*K)', 'kg*m**2/s**2/K/mol'))
  def test_units_that_are_equal(self, first, second):
    self.assertEqual(_units.parse('x', first), _units.parse('x', second))

  @parameterized.parameters('km', 'm+s', '2*m', 'm**m', '', 'm(', 'm.real')
  def test_no_unit(self, text):
    with self.assertRaisesRegex(ValueError, 'unit of x .* got'):
      _units.parse('x', text)

  @parameterized.parameters(
      ({'a': 'm'}, 'm', "each of the inputs .'a', 'b'."),
      ({'a': 'm', 'b': 's'}, None, '`target_unit`'),
      (None, 'm', 'without `units`'),
      ({'a': 'm', 'b': 'kg'}, 's', 'no product of powers'))
  def test_errors(self, units, target, message):
    x = _RNG.uniform(1, 2, (60, 2))
    with self.assertRaisesRegex(ValueError, message):
      by_structure.find_law(
          x, x[:, 0], names=['a', 'b'], units=units, target_unit=target)


class ConsistencyTest(parameterized.TestCase):

  @parameterized.parameters(
      (_A + 2 * _A * _B, True), (_A + _B, False), (_A * sympy.sin(_B), True),
      (sympy.sin(_A), False), (sympy.sqrt(_A**2 + 3 * _A**2 * _B), True),
      (_A**2, False), (_A + 1, False), (_A * 2**_B, True))
  def test_length_and_number(self, expr, expected):
    metre, none = _units.parse('a', 'm'), _units.parse('b', '1')
    self.assertEqual(
        _units.is_consistent(expr, {_A: metre, _B: none}, metre), expected)


class LawTest(parameterized.TestCase):

  def test_a_pendulum_is_found_by_its_units(self):
    """Nothing but a number is left, even of few rows and with much noise."""
    x = _RNG.uniform(1, 3, (60, 3))
    y = 2 * np.pi * np.sqrt(x[:, 0] / x[:, 1])
    noisy = y * (1 + 0.05 * _RNG.normal(size=60))
    found = by_structure.find_law(
        x, noisy, names=['l', 'g', 'm'], target_unit='s', time_limit=0,
        units={'l': 'm', 'g': 'm/s**2', 'm': 'kg'})
    values = sympy.lambdify(['l', 'g'], found.chosen.expression)(*x.T[:2])
    np.testing.assert_allclose(values, y, rtol=0.03)

  def test_units_of_unusual_size(self):
    x = _RNG.uniform(1, 5, (300, 2)) * [1e24, 1e6]
    y = np.sqrt(2 * 6.674e-11 * x[:, 0] / x[:, 1])
    found = by_structure.find_law(x, y, names=['a', 'b'])
    self.assertTrue(found.reached)
    values = sympy.lambdify(['a', 'b'], found.chosen.expression)(*x.T)
    np.testing.assert_allclose(values, y, rtol=1e-9)
    self.assertLessEqual(found.chosen.operations, 6)


class ScalingTest(parameterized.TestCase):

  def test_columns_of_like_size_get_one_unit(self):
    x = np.array([[1e30, 2e28, 5, 3e-11, 1e-2]])
    np.testing.assert_allclose(
        _scaling.choose(x), [1e28, 1e28, 1, 1e-11, 1], rtol=1e-12)

  def test_a_sum_keeps_its_form(self):
    scaled = 2 * _A * sympy.exp(1 / (_A - _B))
    raw = _scaling.undo(scaled, {_A: 1e10, _B: 1e10}, 1e-3)
    values = sympy.lambdify((_A, _B), raw)(5e10, 3e10)
    np.testing.assert_allclose(values, 2e-3 * 5 * np.exp(0.5), rtol=1e-12)
    self.assertIn(_A - _B, raw.atoms(sympy.Add))
