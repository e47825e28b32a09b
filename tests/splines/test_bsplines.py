"""B-splines against scipy, and against what defines them."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import interpolate

from kan_jax.splines import _least_squares
from kan_jax.splines import bsplines

# A few roundings for each level of the recursion.
_VALUE_TOLERANCE = {jnp.float32: 2e-6, jnp.float64: 4e-15}


def _uneven_knots(grid, order, dtype=jnp.float32):
  """Knots of two inputs with intervals of quite different widths."""
  rng = np.random.default_rng(grid + 10 * order)
  breaks = np.cumsum(rng.uniform(0.1, 1.0, (2, grid + 1)), axis=1)
  return bsplines.extend_knots(jnp.asarray(breaks, dtype), order)


def _samples(knots, order, n=101):
  """Samples that cover the grid of each input, both ends included."""
  grid = np.asarray(bsplines.interior(knots, order))
  x = np.linspace(grid[:, 0], grid[:, -1], n, dtype=grid.dtype)
  return jnp.asarray(x.clip(grid[:, 0], grid[:, -1]))


class KnotsTest(parameterized.TestCase):

  @parameterized.product(order=tuple(range(6)), grid=(1, 5))
  def test_uniform_knots(self, order, grid):
    knots = bsplines.uniform_knots(3, grid, order, (-2.0, 4.0))
    chex.assert_shape(knots, (3, grid + 2 * order + 1))
    np.testing.assert_allclose(
        np.diff(knots, axis=1), 6 / grid, rtol=1e-5)  # Rounded ends.
    np.testing.assert_array_equal(knots[:, order], -2.0)
    np.testing.assert_array_equal(knots[:, -order - 1], 4.0)

  @parameterized.parameters(
      ({'order': 6}, '`order`.* 0 to 5; got 6'),
      ({'order': -1}, '`order`.* 0 to 5; got -1'),
      ({'order': 2.0}, '`order`.* 0 to 5; got 2.0'),
      ({'grid': 0}, '`grid`.* >= 1; got 0'),
      ({'grid_range': (1.0, -1.0)}, r'`grid_range`.*got \(1.0, -1.0\)'),
      ({'grid_range': (0.0, float('nan'))}, '`grid_range`.*finite'))
  def test_impossible_arguments(self, given, message):
    with self.assertRaisesRegex(ValueError, message):
      bsplines.uniform_knots(**({'size': 2, 'grid': 5, 'order': 3} | given))


class BasisTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.product(
      order=tuple(range(6)), grid=(1, 5), dtype=(jnp.float32, jnp.float64))
  def test_matches_scipy(self, order, grid, dtype):
    with jax.enable_x64(dtype == jnp.float64):
      knots = _uneven_knots(grid, order, dtype)
      x = _samples(knots, order)
      values = self.variant(
          functools.partial(bsplines.basis, order=order))(x, knots)
      chex.assert_shape(values, (101, 2, grid + order))
      chex.assert_type(values, dtype)
    for i in range(2):
      expected = interpolate.BSpline.design_matrix(
          np.array(x[:, i]), np.array(knots[i]), order).toarray()
      np.testing.assert_allclose(
          values[:, i], expected, atol=_VALUE_TOLERANCE[dtype])

  @parameterized.product(
      order=tuple(range(1, 6)), derivative=(1, 2, 3),
      dtype=(jnp.float32, jnp.float64))
  def test_derivatives_match_scipy(self, order, derivative, dtype):
    """Both the explicit derivative and automatic differentiation."""
    with jax.enable_x64(dtype == jnp.float64):
      knots = _uneven_knots(5, order, dtype)[:1]
      x = _samples(knots, order)
      explicit = bsplines.basis(x, knots, order, derivative=derivative)[:, 0]
      automatic = functools.partial(_basis_at, knots=knots, order=order)
      for _ in range(derivative):
        automatic = jax.jacfwd(automatic)
      automatic = jax.jit(jax.vmap(automatic))(x[:, 0])
    expected = np.zeros(explicit.shape)
    if derivative <= order:
      spline = interpolate.BSpline(
          np.array(knots[0], float), np.eye(5 + order), order)
      expected = spline.derivative(derivative)(np.array(x[:, 0], float))
    # Each derivative divides by an interval, so errors scale with its size.
    tolerance = _VALUE_TOLERANCE[dtype] * max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(explicit, expected, atol=tolerance)
    np.testing.assert_allclose(automatic, expected, atol=tolerance)

  @parameterized.product(order=tuple(range(6)), grid=(1, 2, 5, 50))
  def test_partition_of_unity_on_the_closed_grid(self, order, grid):
    knots = _uneven_knots(grid, order)
    values = bsplines.basis(_samples(knots, order, 1001), knots, order)
    np.testing.assert_allclose(values.sum(-1), 1, atol=1e-5)
    self.assertGreaterEqual(values.min(), -1e-6)

  def test_known_cubic_values(self):
    knots = bsplines.uniform_knots(1, 5, 3)
    at_knot = bsplines.basis(knots[:, 5], knots, 3)[0, 2:5]
    np.testing.assert_allclose(at_knot, [1 / 6, 2 / 3, 1 / 6], atol=1e-6)

  def test_extreme_inputs_give_zero(self):
    knots = bsplines.uniform_knots(1, 5, 3)
    x = jnp.array([[1e6], [-1e6], [1e38], [jnp.inf], [-jnp.inf]])
    for order_of_derivative in range(3):
      values = bsplines.basis(x, knots, 3, derivative=order_of_derivative)
      np.testing.assert_array_equal(values, 0)
    grads = jax.grad(lambda x: bsplines.basis(x, knots, 3).sum())(x)
    np.testing.assert_array_equal(grads, 0)

  def test_wrong_number_of_inputs(self):
    knots = bsplines.uniform_knots(3, 5, 3)
    with self.assertRaisesRegex(ValueError, r'each of the 2 .* \(3, 12\)'):
      bsplines.basis(jnp.zeros((4, 2)), knots, 3)


def _basis_at(x, knots, order):
  return bsplines.basis(x[None], knots, order)[0]


class OutsideTest(parameterized.TestCase):

  def test_zero_falls_within_order_intervals(self):
    # All coefficients 1; values worked out by hand on intervals of 0.4.
    knots = bsplines.uniform_knots(1, 5, 3)
    x = jnp.array([[-1], [0], [1], [1.2], [1.4], [1.8], [2.2], [100], [-100]])
    np.testing.assert_allclose(
        bsplines.basis(x, knots, 3).sum(-1)[:, 0],
        [1, 1, 1, 0.97917, 0.83333, 0.16667, 0, 0, 0], atol=1e-5)

  @parameterized.product(order=tuple(range(6)), outside=('clamp', 'linear'))
  def test_continues_from_the_ends(self, order, outside):
    knots = _uneven_knots(5, order)
    grid = bsplines.interior(knots, order)
    low, high = grid[:, 0], grid[:, -1]
    evaluate = functools.partial(
        bsplines.basis, knots=knots, order=order, outside=outside)
    for end, x in ((low, low - 3), (high, high + 3)):
      slope = bsplines.basis(end, knots, order, derivative=1)
      expected = bsplines.basis(end, knots, order)
      if outside == 'linear':
        expected += (x - end)[:, None] * slope
      np.testing.assert_allclose(evaluate(x), expected, rtol=1e-5, atol=1e-5)
      np.testing.assert_allclose(
          evaluate(x, derivative=1), slope if outside == 'linear' else 0,
          atol=1e-5)
      np.testing.assert_array_equal(evaluate(x, derivative=2), 0)
      np.testing.assert_allclose(evaluate(x).sum(-1), 1, atol=2e-5)

  @parameterized.product(order=tuple(range(1, 6)), outside=('clamp', 'linear'))
  def test_equal_inside(self, order, outside):
    knots = _uneven_knots(5, order)
    x = _samples(knots, order)
    for derivative in range(3):
      np.testing.assert_allclose(
          bsplines.basis(
              x, knots, order, derivative=derivative, outside=outside),
          bsplines.basis(x, knots, order, derivative=derivative), atol=1e-5)

  @parameterized.product(order=tuple(range(6)), derivative=(0, 1, 2))
  def test_polynomials_go_on(self, order, derivative):
    with jax.enable_x64(True):
      knots = _uneven_knots(5, order, jnp.float64)
      grid = np.asarray(bsplines.interior(knots, order))
      x = np.linspace(grid[:, 0] - 1, grid[:, -1] + 1, 101)
      values = bsplines.basis(jnp.asarray(x), knots, order,
                             derivative=derivative, outside='polynomial')
    for i, row in enumerate(np.asarray(knots)):
      spline = interpolate.BSpline(
          row, np.eye(5 + order), order, extrapolate=True)
      # Of a derivative beyond the order, scipy 1.15.0 aborts the process.
      expected = (spline(x[:, i], nu=derivative) if derivative <= order
                  else np.zeros((len(x), 5 + order)))
      np.testing.assert_allclose(
          values[:, i], expected, atol=1e-13 * max(1, np.abs(expected).max()))

  @parameterized.parameters(('linear', 2.5), ('clamp', 0))
  def test_gradient_follows_the_tangent(self, outside, beyond):
    """Up to both ends of the grid, and what the policy says beyond them."""
    knots = bsplines.uniform_knots(1, 5, 3)
    coef = jnp.arange(8.0)
    def f(x):
      return bsplines.basis(x[None], knots, 3, outside=outside)[0] @ coef
    # Equal steps in the coefficients make a straight line of slope 1 / 0.4.
    np.testing.assert_allclose(
        jax.vmap(jax.grad(f))(jnp.array([-9.0, -1.0, 0.3, 1.0, 7.0])),
        [beyond, 2.5, 2.5, 2.5, beyond], rtol=1e-5)

  def test_unknown_policy(self):
    knots = bsplines.uniform_knots(1, 5, 3)
    with self.assertRaisesRegex(
        ValueError, 'zero, clamp, linear, polynomial; got .wrap'):
      bsplines.basis(jnp.zeros((1, 1)), knots, 3, outside='wrap')


class FitTest(parameterized.TestCase):

  @parameterized.product(
      order=tuple(range(1, 6)), dtype=(jnp.float32, jnp.float64))
  def test_matches_scipy_least_squares(self, order, dtype):
    with jax.enable_x64(dtype == jnp.float64):
      knots = bsplines.uniform_knots(1, 5, order, dtype=dtype)
      x = jnp.sort(jax.random.uniform(
          jax.random.key(0), (300, 1), dtype, -1, 1), axis=0)
      y = jnp.sin(5 * x)[..., None]
      coef = bsplines.fit_coef(x, y, knots, order)
      fitted = bsplines.evaluate(x, knots, coef, order)[:, 0, 0]
    exact = (np.array(a, float) for a in (x[:, 0], y[:, 0, 0], knots[0]))
    x64, y64, knots64 = exact
    expected = interpolate.make_lsq_spline(x64, y64, knots64, order)(x64)
    # Normal equations square the condition of the basis, about 10**order.
    tolerance = 2e-5 if dtype == jnp.float32 else 1e-12
    np.testing.assert_allclose(fitted, expected, atol=tolerance)

  @parameterized.parameters(0, 1, 3, 5)
  def test_few_rows_are_interpolated(self, order):
    knots = bsplines.uniform_knots(2, 20, order)
    x = jnp.array([[-0.9, 0.0], [0.1, 0.5], [0.5, -0.4]])
    y = jnp.arange(12.0).reshape(3, 2, 2)
    coef = bsplines.fit_coef(x, y, knots, order)
    np.testing.assert_allclose(
        bsplines.evaluate(x, knots, coef, order), y, atol=1e-4)
    between = bsplines.evaluate(_samples(knots, order), knots, coef, order)
    self.assertLess(np.abs(between).max(), 2 * y.max())  # No wild swings.

  def test_wrong_coefficients(self):
    knots = bsplines.uniform_knots(2, 5, 3)
    with self.assertRaisesRegex(ValueError, r'\(2, 8\).*got \(2, 7, 1\)'):
      bsplines.evaluate(jnp.zeros((1, 2)), knots, jnp.zeros((2, 7, 1)), 3)

  def test_no_samples(self):
    knots = bsplines.uniform_knots(2, 5, 3)
    with self.assertRaisesRegex(ValueError, r'n >= 1.*got \(0, 2\)'):
      bsplines.fit_coef(jnp.zeros((0, 2)), jnp.zeros((0, 2, 1)), knots, 3)

  @parameterized.parameters(*range(6))
  def test_quadrature_averages_products_of_splines(self, order):
    """Exact in each interval, up to the degree of a product."""
    knots = _uneven_knots(4, order)
    points, weights = map(np.asarray, _least_squares.quadrature(
        bsplines.interior(knots, order), order))
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    grid = np.array(bsplines.interior(knots, order), float)
    low, high = grid[:, :-1], grid[:, 1:]
    for power in range(2 * order + 2):
      means = (high**(power + 1) - low**(power + 1)) / (
          (power + 1) * (high - low))
      np.testing.assert_allclose(
          (weights * points**power).sum(1), means.mean(1), rtol=1e-5)
