"""Polynomials against the recursion that defines B-splines."""

import functools
from typing import get_args

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _polynomials
from kan_jax.splines import bsplines
from kan_jax.splines import grids

_BLENDS = (0.0, 0.5, 1.0)  # Quantiles, a mixture, uniform.


def _knots(blend, order, grid=6):
  """Knots of two inputs whose samples crowd around zero."""
  samples = np.random.default_rng(order).normal(size=(200, 2))**3
  return grids.knots_from_samples(
      jnp.asarray(samples), grid, order,
      grid_update=grids.GridUpdate(eps=blend))


def _points(knots):
  """Points between the knots, beyond them, and on each of them: [in, n]."""
  rows = np.asarray(knots)
  low, high = rows[:, 0], rows[:, -1]
  between = np.linspace(low - 1, high + 1, 301).T
  return jnp.asarray(np.concatenate([between, rows], 1), knots.dtype)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _both(x, knots, order, derivative):
  return (bsplines.basis_by_input(x, knots, order, derivative=derivative),
          bsplines.cox_de_boor(x, knots, order, derivative))


class PiecesTest(parameterized.TestCase):

  @parameterized.product(order=tuple(range(6)), blend=_BLENDS)
  def test_equal_to_the_definition(self, order, blend):
    """Values and two derivatives, at the knots to the same side."""
    with jax.enable_x64(True):
      knots = _knots(blend, order)
      x = _points(knots)
      for derivative in range(3):
        fast, plain = _both(x, knots, order, derivative)
        scale = max(1.0, np.abs(plain).max())
        np.testing.assert_allclose(fast, plain, atol=1e-12 * scale)

  @parameterized.product(order=(1, 3, 5), blend=_BLENDS)
  def test_equal_in_float32(self, order, blend):
    knots = _knots(blend, order)
    assert knots.dtype == jnp.float32
    x = _points(knots)
    for derivative in range(3):
      fast, plain = _both(x, knots, order, derivative)
      scale = max(1.0, np.abs(plain).max())
      # Roundings of as many powers, of pieces in quite uneven intervals.
      np.testing.assert_allclose(fast, plain, atol=1e-6 * order * scale)

  @parameterized.parameters(*range(6))
  def test_derivatives_in_both_modes(self, order):
    """Forward, backward, and forward over backward."""
    with jax.enable_x64(True):
      knots = _knots(0.5, order)
      x = _points(knots)
      weight = jnp.asarray(np.random.default_rng(0).normal(
          size=(2, knots.shape[1] - order - 1, 1)))

      def total(x):
        return (bsplines.basis_by_input(x, knots, order) * weight).sum()

      def expected(derivative):
        return (bsplines.cox_de_boor(x, knots, order, derivative)
                * weight).sum(1)

      slope = jax.jit(jax.grad(total))
      _, along = jax.jit(lambda x: jax.jvp(total, (x,), (jnp.ones_like(x),)))(x)
      _, bend = jax.jvp(slope, (x,), (jnp.ones_like(x),))
      first, second = expected(1), expected(2)
      for found, wanted in (
          (slope(x), first), (along, first.sum()), (bend, second)):
        np.testing.assert_allclose(
            found, wanted, atol=1e-10 * max(1.0, np.abs(second).max()))

  @parameterized.product(outside=get_args(bsplines.Outside), order=(0, 3))
  def test_nan_stays_nan_and_alone(self, outside, order):
    knots = _knots(1.0, order)
    x = jnp.array([[0.1, jnp.nan], [0.2, 0.3]])
    values = bsplines.basis_by_input(x, knots, order, outside=outside)
    self.assertTrue(np.isnan(values[0, :, 1]).all())
    self.assertTrue(np.isfinite(values[1]).all())
    self.assertTrue(np.isfinite(values[0, :, 0]).all())

  @parameterized.product(high=(0.0, -1.0, 1e-30), order=(0, 1, 3))
  def test_the_end_belongs_to_the_grid(self, high, order):
    """Also at zero, where the next number up is too small to compare with."""
    knots = bsplines.extend_knots(
        jnp.linspace(high - 1, high, 4, dtype=jnp.float32)[None], order)
    end = bsplines.interior(knots, order)[:, -1:]
    values = bsplines.basis_by_input(end, knots, order)
    np.testing.assert_allclose(values.sum(), 1, rtol=1e-5)
    np.testing.assert_array_equal(values[0, -1] > 0.9 if order < 2 else True,
                                  True)

  def test_table_shape(self):
    table = _polynomials.tabulate(bsplines.uniform_knots(4, 5, 3), 3)
    self.assertEqual(table.shape, (4, 16 + 4 + 5, 8))
