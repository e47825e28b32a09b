"""The search by networks: its rows, its units, its end."""

from absl.testing import parameterized
import jax
import numpy as np
import sympy

from kan_jax.symbolic import _networks

_X = np.random.default_rng(0).uniform([1, -2], [3, 4], (60, 2))
_DATA = _networks.Data(
    _X, _X[:, 0] * _X[:, 1], ('a', 'b'), *np.split(np.arange(60), [36, 48]))


class DataTest(parameterized.TestCase):

  def test_units(self):
    x, y = _DATA.scale().data(*_DATA.rows(np.arange(60)))
    np.testing.assert_allclose(np.max(np.abs(x), 0), 1, rtol=1e-6)
    self.assertEqual(y.shape, (60, 1))
    np.testing.assert_allclose(np.std(y), 1, rtol=1e-6)

  def test_error(self):
    a, b = sympy.symbols('a b')
    self.assertEqual(_DATA.error(a * b, _DATA.test), 0)
    self.assertAlmostEqual(_DATA.error(a * b + 2, _DATA.test), 2)

  def test_no_time_no_formula(self):
    options = _networks.Options(
        jax.random.key(0), (3,), 5, 1, (), lambda line: None, progress=False,
        deadline=-np.inf)
    self.assertIsNone(_networks.search(_DATA, [[2, 1]], options))

  def test_the_time_ends_a_fit(self):
    """Where there is a formula already; else the first one is written."""
    lines = []
    options = _networks.Options(
        jax.random.key(0), (3,), 5, 1, (), lines.append, progress=False,
        deadline=-np.inf, strict=True)
    self.assertIsNone(_networks.search(_DATA, [[2, 1]], options))
    self.assertEqual(lines, ['the time is over: the best formula so far'])
    with self.assertRaises(_networks.TimeOverError):
      options.check_time()
