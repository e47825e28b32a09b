"""Splines looked up interval by interval, against SciPy and `basis`."""

import itertools

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
from scipy import interpolate

from kan_jax.splines import _intervals
from kan_jax.splines import bsplines

_GRID, _OUTSIDE = 12, ('zero', 'clamp', 'linear', 'polynomial')


def _knots(order, even):
  """Two grids, on [-1, 1] and [0, 6]."""
  inner = np.linspace(-1, 1, _GRID + 1)
  if not even:
    inner = np.sign(inner) * np.abs(inner)**1.5
  step = inner[1] - inner[0], inner[-1] - inner[-2]
  far = np.arange(1, order + 1)
  row = np.concatenate(
      [inner[0] - step[0] * far[::-1], inner, inner[-1] + step[1] * far])
  return np.stack([row, 3 * row + 3]).astype(np.float32)


def _coef(order):
  return np.random.default_rng(1).normal(
      size=(2, _GRID + order, 3)).astype(np.float32)


def _sums(x, knots, coef, order, outside):
  even = _intervals.are_even(knots, order, outside)
  table = jax.tree.map(jnp.asarray, _intervals.tabulate(
      knots, coef, order, outside, even))
  return jax.jit(lambda x: _intervals.sums(x, table, order, even))(x)


class SumsTest(parameterized.TestCase):

  @parameterized.parameters(
      *itertools.product(range(6), (True, False), _OUTSIDE))
  def test_as_a_product_with_all_b_splines(self, order, even, outside):
    """Within, at the knots, and beyond them."""
    knots, coef = _knots(order, even), _coef(order)
    self.assertEqual(
        _intervals.are_even(knots, order, outside), even and order > 1)
    within = np.random.default_rng(0).uniform(-1.4, 1.4, 200)
    ends = knots[0, order], knots[0, -order - 1]
    one = np.concatenate([within, knots[0], ends]).astype(np.float32)
    x = np.stack([one, 3 * one + 3])
    x[1, 200:-2], x[1, -2:] = knots[1], (knots[1, order], knots[1, -order - 1])
    if not order:  # At a jump, what is rounded may be on either side.
      x = x[:, :200]
    expected = np.einsum('ifn,ifo->no', bsplines.basis_by_input(
        x, knots, order=order, outside=outside), coef)
    np.testing.assert_allclose(
        _sums(x, knots, coef, order, outside), expected, rtol=0,
        atol=2e-6 * np.ptp(expected))

  @parameterized.parameters(1, 2, 3, 5)
  def test_as_scipy(self, order):
    knots, coef = _knots(order, even=False), _coef(order)
    x = np.random.default_rng(0).uniform(-1, 1, (1, 100)).astype(np.float32)
    y = _sums(x, knots[:1], coef[:1], order, 'zero')
    expected = interpolate.BSpline(knots[0], coef[0], order)(x[0])
    np.testing.assert_allclose(y, expected, atol=1e-6 * np.ptp(expected))

  @parameterized.parameters(True, False)
  def test_far_away(self, even):
    """Where powers overflow: zero, the end's value, a line; NaN stays NaN."""
    knots, coef = _knots(3, even)[:1], _coef(3)[:1]
    x = np.array([[-3e38, 3e38, np.nan]], np.float32)
    np.testing.assert_array_equal(_sums(x, knots, coef, 3, 'zero')[:2], 0)
    ends = _sums(np.array([[-1, 1]], np.float32), knots, coef, 3, 'clamp')
    far = _sums(x, knots, coef, 3, 'clamp')
    np.testing.assert_allclose(far[:2], ends, atol=1e-6)
    self.assertTrue(np.isnan(far[2]).all())
    near = np.array([[1, 2, 3, 1001]], np.float32)
    line = np.asarray(_sums(near, knots, coef, 3, 'linear'))
    np.testing.assert_allclose(
        (line[3] - line[0]) / 1000, line[2] - line[1], rtol=1e-4)

  @parameterized.parameters(True, False)
  def test_slopes(self, even):
    """Derivatives in the inputs are those of the splines."""
    knots, coef = _knots(3, even)[:1], _coef(3)[:1]
    x = np.linspace(-0.95, 0.95, 50, dtype=np.float32)
    table = jax.tree.map(jnp.asarray, _intervals.tabulate(
        knots, coef, 3, 'zero', even))
    slope = jax.vmap(jax.jacfwd(
        lambda x: _intervals.sums(x[None, None], table, 3, even)[0]))(x)
    expected = interpolate.BSpline(knots[0], coef[0], 3)(x, 1)
    np.testing.assert_allclose(slope, expected, atol=1e-5 * np.ptp(expected))
