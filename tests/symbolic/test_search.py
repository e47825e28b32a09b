"""Solvers, the order of attempts, and targets with noise near 0."""

from absl.testing import parameterized
import numpy as np
import sympy
import threadpoolctl

from kan_jax.symbolic import _links
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _record
from kan_jax.symbolic import _search
from kan_jax.symbolic import _solvers
from kan_jax.symbolic import _symmetries
from kan_jax.symbolic import by_structure

_RNG = np.random.default_rng(0)
_LINKS = {link.name: link for link in _links.LINKS}


def _record_of(x, y):
  return _record.Record(
      x, y, [f'z{i}' for i in range(x.shape[1])], lambda line: None, np.inf)


def _problem(record):
  return _problems.Problem(
      tuple(record.symbols), record.x, record.y, sympy.Integer(1),
      np.ones_like(record.y))


class SolversTest(parameterized.TestCase):

  def test_words(self):
    x = _RNG.uniform(1, 2, (300, 2))
    record = _record_of(x, 1 / (2 * x[:, 0] + 3 / x[:, 1]))
    _solvers.solve_words(record, _problem(record), 150, slice(None))
    self.assertTrue(record.exact())

  def test_a_curve(self):
    z = _RNG.uniform(0, 3, (300, 1))
    record = _record_of(z, 2 * np.sin(1.7 * z[:, 0] + 0.3) + 5)
    _solvers.solve_sums(record, _problem(record))
    self.assertTrue(record.exact())

  def test_a_polynomial_of_several_terms(self):
    """(a^2 - b^2)^2 + 2 b^2 c^2 in a root below the line."""
    a, b, c = x = _RNG.uniform(1, 2, (3, 300))
    record = _record_of(x.T, ((a**2 - b**2)**2 + 2 * b**2 * c**2)**-0.5)
    _solvers.solve_sums(record, _problem(record))
    self.assertTrue(record.exact())

  @parameterized.parameters(
      lambda z: 2.5 * np.exp(-0.4 * z) * np.sin(3 * z + 0.5),  # Damped.
      lambda z: 1 / (1 + (2 / z)**2.7), lambda z: 1 / (np.exp(1.7 / z) - 1))
  def test_curves_with_more_numbers(self, fn):
    z = _RNG.uniform(0.5, 5, (200, 1))
    record = _record_of(z, fn(z[:, 0]))
    _solvers.solve_sums(record, _problem(record))
    self.assertTrue(record.exact())

  def test_sums(self):
    x = _RNG.uniform(-1, 1, (400, 2))
    record = _record_of(x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1]**2))
    _solvers.solve_sums(record, _problem(record))
    self.assertTrue(record.exact())


class NoiseTest(parameterized.TestCase):

  def test_the_tangent_has_no_bias(self):
    """E log(y + noise) is below log y, the tangent's mean is not."""
    y = _RNG.uniform(0.2, 0.3, 4000)
    noisy = y + 0.05 * _RNG.normal(size=4000)
    x = np.zeros((4000, 1))
    problem = _problems.Problem((), x, noisy, sympy.Integer(1), y, smooth=y)
    values, weights = problem.respond(_LINKS['log y'])
    # Noise of 0.05 / 0.25 on 4000 rows leaves 0.003; the bias would be 0.02.
    self.assertLess(abs(np.mean(values - np.log(y))), 0.01)
    np.testing.assert_allclose(weights, y**2)

  def test_negative_targets_have_no_logarithm(self):
    problem = _problems.Problem(
        (), np.zeros((2, 1)), np.array([-1.0, 1]), sympy.Integer(1), np.ones(2))
    self.assertIsNone(problem.respond(_LINKS['log y']))

  def test_a_wide_range_with_noise(self):
    """Small targets are negative by noise, and a logarithm is still found."""
    x = _RNG.uniform(1, 3, (800, 3))
    y = (x[:, 0] * x[:, 1] / x[:, 2])**4
    noisy = y + 0.02 * y.std() * _RNG.normal(size=800)
    self.assertLess(noisy.min(), 0)
    record = _record_of(x, noisy)
    # Threads would only wait for one another.
    with threadpoolctl.threadpool_limits(1, 'blas'):
      problem, seen = _problems.smoothen(
          _problem(record), record.rows, record.scale, _links.LINKS)
    # Of 160 rows, the deviation of noise is known to 6 %.
    self.assertLess(seen.size, 0.025)
    error = np.sqrt(np.mean((problem.smooth - y)**2))
    self.assertLess(error, 0.01 * y.std())


class RunTest(parameterized.TestCase):

  @parameterized.parameters(1, -1)
  def test_both_signs(self, sign):
    x = _RNG.uniform(1, 2, (300, 3))
    record = _record_of(x, sign * x[:, 0] * np.exp(-x[:, 1] / x[:, 2]))
    _search.run(record)
    best = _search.finish(record)
    self.assertTrue(record.exact())
    a, b, c = record.symbols
    self.assertEqual(sympy.simplify(
        best.fit.write() - sign * a * sympy.exp(-b / c)), 0)


class FactorsTest(parameterized.TestCase):

  def test_of_a_peak(self):
    """The logarithm of sin^2 has poles, so that no spline sees a^2 / b."""
    x = _RNG.uniform(1, 3, (300, 4))
    a, b, c, d = x.T
    y = a**2 / b * np.sin(c * d)**2
    turn = a**2 / b * np.sin(2 * c * d)
    slopes = np.stack([2 * y / a, -y / b, turn * d, turn * c], 1)
    problem = _problem(_record_of(x, y))
    child = _symmetries.slope_peel(problem, slopes, np.arange(300))
    first, second, *rest = problem.exprs
    self.assertEqual(child.exprs, tuple(rest))
    self.assertEqual(child.factor, first**2 / second)

  def test_of_a_sum(self):
    x = _RNG.uniform(1, 3, (300, 2))
    problem = _problem(_record_of(x, x.sum(1)))
    self.assertIsNone(_symmetries.slope_peel(
        problem, np.ones((300, 2)), np.arange(300)))

  def test_a_noisy_target_that_touches_zero(self):
    """Few problems are opened: a glance does not take zeros for poles."""
    rng = np.random.default_rng(1)
    x = rng.uniform([1, 1, 1, 1, 1], [3, 3, 3, 5, 5], (2000, 5))
    a, b, t, u, v = x.T
    y = a / b * (1 - np.cos(t * (u - v))) / (t * (u - v)**2)
    opened = []
    found = by_structure.find_law(
        x, y + 0.01 * y.std() * rng.normal(size=2000),
        names=['a', 'b', 't', 'u', 'v'], log=opened.append)
    fn = sympy.lambdify(
        sympy.symbols('a b t u v'), found.chosen.expression)
    # The noise of 2,000 rows leaves less than 1e-3 in a handful of numbers.
    self.assertLess(np.std(fn(*x.T) - y), 1e-3 * y.std())
    self.assertLess(len(opened), 10)
