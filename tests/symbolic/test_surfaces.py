"""Polynomials that stand in for data, and what their derivatives tell."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import _additive
from kan_jax.symbolic import _links
from kan_jax.symbolic import _polynomials
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _surfaces
from kan_jax.symbolic import _symmetries

_RNG = np.random.default_rng(0)
_ROWS = _problems.Rows(np.arange(320), np.arange(320, 400))
_ONES = np.ones(400)


def _problem(x, y):
  symbols = sympy.symbols(f'z:{x.shape[1]}')
  return _problems.Problem(
      symbols, x, y, sympy.Integer(1), np.ones_like(y))


class SurfaceTest(parameterized.TestCase):

  @parameterized.parameters(True, False)
  def test_gradient(self, logs):
    x = _RNG.uniform(1, 2, (400, 2))
    y = x[:, 0]**2 / x[:, 1]
    surface = _surfaces.fit(x, y, _ONES, *_ROWS, logs=logs)
    self.assertLess(surface.error, 1e-6)
    np.testing.assert_allclose(surface(x), y, atol=1e-5)
    # Polynomials of some degree are worse in slopes, and at corners.
    np.testing.assert_allclose(
        surface.gradient(x),
        np.stack([2 * y / x[:, 0], -y / x[:, 1]], 1), atol=1e-3)

  def test_polynomials_are_exact(self):
    x = _RNG.uniform(-1, 1, (400, 5))
    y = x[:, 0] * x[:, 1]**2 + x[:, 4] - 3
    surface = _surfaces.fit(x, y, _ONES, *_ROWS)
    self.assertLess(surface.error, 1e-10)
    shares = surface.share(x, _ONES)
    np.testing.assert_allclose(shares[2:4], 0, atol=1e-9)
    self.assertGreater(shares[[0, 1, 4]].min(), 0.1)

  def test_a_constant_column(self):
    x = np.ones((400, 2))
    self.assertIsNone(_surfaces.fit(x, x[:, 0], _ONES, *_ROWS))


class ProblemsTest(parameterized.TestCase):

  def _look(self, problem):
    return _problems.look(
        problem, _ROWS, problem.target.std(), _links.LINKS[:3])

  @parameterized.parameters(
      ('sum', lambda a, b: np.exp((a - b) / 2), 'z0 - z1'),
      ('product', lambda a, b: np.sin(a * b**2 / 4), 'z0*z1**2'),
      ('squares', lambda a, b: np.sqrt(a**2 + b**2), 'z0**2 + z1**2'))
  def test_two_columns_act_as_one(self, kind, fn, expected):
    x = _RNG.uniform(1, 2, (400, 3))
    problem = _problem(x, fn(x[:, 0], x[:, 1]) * (1 + x[:, 2]**2))
    slopes = _problems.gradient(problem, self._look(problem), _ROWS.train)
    children = [child.exprs[-1] for _, child in _symmetries.pair_proposals(
        problem, slopes, _ROWS.train, 0.02)]
    self.assertIn(sympy.sympify(expected), children, kind)

  def test_symmetry_under_scaling(self):
    """Four columns, of which a ratio and a factor matter."""
    x = _RNG.uniform(1, 2, (400, 4))
    problem = _problem(x, x[:, 0]**2 * np.exp(-x[:, 1] * x[:, 2] / x[:, 3]))
    slopes = _problems.gradient(problem, self._look(problem), _ROWS.train)
    child = next(child for _, child in _symmetries.scale_proposals(
        problem, slopes, _ROWS.train) if len(child.exprs) == 1)
    self.assertEqual(child.factor, sympy.Symbol('z0')**2)
    np.testing.assert_allclose(child.weights * child.target, problem.target)

  def test_weak_columns(self):
    x = _RNG.uniform(1, 2, (400, 3))
    problem = _problem(x, x[:, 0] / x[:, 2])
    self.assertEqual(
        _symmetries.weak(problem, self._look(problem), _ROWS), [1])

  def test_powers_of_columns(self):
    x = _RNG.uniform(1, 2, (400, 3))
    problem = _problem(x, np.cos(x[:, 0]) * x[:, 1]**1.5 / x[:, 2])
    child = _symmetries.power_peel(problem, _ROWS)
    self.assertEqual(child.exprs, (sympy.Symbol('z0'),))
    np.testing.assert_allclose(child.target, np.cos(x[:, 0]))

  def test_as_good(self):
    x = _RNG.uniform(1, 2, (400, 2))
    problem = _problem(x, x[:, 0] + 0.1 * x[:, 1])
    whole = self._look(problem)
    self.assertTrue(_problems.as_good(whole, whole))
    self.assertFalse(_problems.as_good(
        self._look(problem.drop((1,))), whole))


class AdditiveTest(parameterized.TestCase):

  def test_sums_are_recognized(self):
    x = _RNG.uniform(1, 3, (400, 2))
    y = 2 * np.sin(2 * x[:, 0] + 1) - 3 * x[:, 1] + 4
    fitted = _additive.fit(x, y, _ONES, *_ROWS)
    self.assertLess(fitted.error, 1e-3)
    symbols = sympy.symbols('a b')
    first = next(iter(_additive.recognize(fitted, symbols)))
    values = sympy.lambdify(symbols, first)(*x.T)
    np.testing.assert_allclose(values, y, atol=1e-2)


class PolynomialsTest(parameterized.TestCase):

  def test_only_what_is_exact(self):
    x = _RNG.uniform(-1, 1, (200, 2))
    target = 3 * x[:, 0]**2 * x[:, 1] - 0.5 * x[:, 1] + 2
    found = _polynomials.fit(x, target, np.ones(200))
    self.assertEqual(
        {tuple(p): round(c, 9) for p, c in zip(
            found.powers.tolist(), found.coef, strict=True)},
        {(2, 1): 3, (0, 1): -0.5, (0, 0): 2})
    self.assertIsNone(_polynomials.fit(x, np.exp(target), np.ones(200)))
