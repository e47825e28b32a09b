"""From data to formulas."""

from absl.testing import parameterized
import jax
import numpy as np
import sympy

import kan_jax
from kan_jax.symbolic import discovery

_RNG = np.random.default_rng(0)
# A small library compiles fast.
_LIBRARY = [kan_jax.LIBRARY[0], *(
    f for f in kan_jax.LIBRARY if f.name in ('x', 'x^2', 'sin', 'exp'))]


def _discover(x, y, **options):
  with jax.enable_x64(True):
    return discovery.discover(
        x, y, key=jax.random.key(0), library=_LIBRARY, grids=(5,),
        **options)


class DiscoverTest(parameterized.TestCase):

  def test_a_product_among_noise_free_shapes(self):
    """The sum cannot fit, the product does; a third input does not matter."""
    x = _RNG.uniform([3, -20, 0], [5, 10, 1e-3], (300, 3))
    lines = []
    discovered = _discover(
        x, 0.5 * x[:, 0] * x[:, 1], names=['a', 'b', 'c'],
        shapes=[[3, 1], [3, [0, 1]], [3, 5, 1]], log=lines.append)
    a, b = sympy.symbols('a b')
    self.assertEqual(discovered.expression, a * b / 2)
    self.assertLess(discovered.relative, 1e-12)
    self.assertIn('[3, 1]: splines', lines[0])
    self.assertFalse(any('[3, 5, 1]' in line for line in lines))
    self.assertEqual(discovered.model.features, (3, (0, 1)))
    first, second, third = repr(discovered).splitlines()
    self.assertEqual(first, 'a*b/2')
    self.assertRegex(second, '^RMSE .* on test rows, .* standard deviation$')
    self.assertEqual(third, 'from a KAN of the shape [3, (0, 1)]')
    self.assertIn(r'$\displaystyle \frac{a b}{2}$', discovered._repr_html_())

  def test_noise(self):
    x = _RNG.uniform(-1, 2, (300, 1))
    y = 3 * np.sin(2 * x[:, 0]) + 0.1 * _RNG.normal(size=300)
    discovered = _discover(x, y, shapes=[[1, 1]])
    # Of 60 test rows, the deviation of the noise is known to 10 %.
    np.testing.assert_allclose(discovered.error, 0.1, rtol=0.3)
    points = np.linspace(-1, 2, 7)
    np.testing.assert_allclose(
        sympy.lambdify('x_0', discovered.expression)(points),
        3 * np.sin(2 * points), atol=0.1)


class ByStructureTest(parameterized.TestCase):

  def test_a_law_needs_no_network(self):
    x = _RNG.uniform(1, 3, (300, 2))
    with jax.enable_x64(True):
      found = discovery.discover(
          x, 2.5 * x[:, 0] / x[:, 1]**2, key=jax.random.key(0),
          names=['a', 'b'])
    a, b = sympy.symbols('a b')
    self.assertEqual(found.expression, sympy.Rational(5, 2) * a / b**2)
    self.assertLess(found.relative, 1e-12)
    self.assertIsNone(found.model)
    self.assertEqual(found.front[-1].expression, found.expression)
    self.assertEqual(repr(found).splitlines()[-1], 'by structure')

  def test_units_of_an_energy(self):
    x = _RNG.uniform(1, 3, (60, 2))
    data = x, x[:, 0] * x[:, 1]**2 / 2
    units = {'names': ['m', 'v'], 'units': {'m': 'kg', 'v': 'm/s'}}
    found = _discover(*data, **units, target_unit='J')
    m, v = sympy.symbols('m v')
    self.assertEqual(found.expression, m * v**2 / 2)
    with self.assertRaisesRegex(ValueError, 'networks, which know no `units`'):
      _discover(*data, **units, target_unit='J', shapes=[[2, 1]])

  def test_numbers_in_doubt(self):
    x = _RNG.uniform(1, 3, (300, 1))
    y = 2.345 * x[:, 0] + 0.05 * _RNG.normal(size=300)
    with jax.enable_x64(True):
      found = discovery.discover(
          x, y, key=jax.random.key(0), names=['a'])
    self.assertEqual(found.expression.free_symbols, {sympy.Symbol('a')})
    np.testing.assert_allclose(
        float(found.expression.subs('a', 2)), 4.69, atol=0.02)
    for number, deviation in found.deviations.items():
      self.assertIn(number, found.expression.atoms(sympy.Float))
      # 240 rows of noise 0.05 at points whose squares have the mean 4.3.
      np.testing.assert_allclose(
          deviation, 0.05 / np.sqrt(240 * 4.3), rtol=0.2)
    if found.deviations:
      self.assertIn('±', repr(found))


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'x': np.ones((60, 2))}, 'column 0 of `x` is constant'),
      ({'y': np.ones(60)}, '`y` is constant'),
      ({'y': np.ones((60, 1))}, r'\(60, 2\) and \(60, 1\)'),
      ({'x': np.full((60, 2), np.nan)}, '`x`.*finite'),
      ({'names': ['a']}, '`names`.*2 inputs'),
      ({'names': ['a', 'a']}, '`names`.*2 inputs'))
  def test_data(self, change, message):
    x = _RNG.uniform(-1, 1, (60, 2))
    data = {'x': x, 'y': x.sum(1)} | change
    with self.assertRaisesRegex(ValueError, message):
      _discover(**data)

  def test_float32(self):
    with self.assertRaisesRegex(ValueError, 'float64 is off'):
      discovery.discover(
          np.ones((60, 1)), np.ones(60), key=jax.random.key(0))
