"""B-splines that are looked up, against the recursion that defines them."""

from typing import get_args

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _lookup
from kan_jax.splines import bsplines
from kan_jax.splines import grids


def _dense(x, knots, order, outside):
  """Puts the values where they belong, [in, grid + order, n]."""
  first, value = _lookup.values(
      x, _lookup.find(x, knots, order, outside), knots, order, outside)
  size = knots.shape[1] - order - 1
  return sum(
      value[:, r, None] * (
          (first + r)[:, None] == jnp.arange(size)[None, :, None])
      for r in range(order + 1))


class LocalTest(parameterized.TestCase):

  @parameterized.product(
      order=tuple(range(6)), outside=get_args(bsplines.Outside))
  def test_equal_to_all_splines(self, order, outside):
    """Values and two derivatives, on a grid between uniform and quantiles."""
    with jax.enable_x64(True):
      samples = np.random.default_rng(order).normal(size=(200, 2))**3
      knots = grids.knots_from_samples(
          jnp.asarray(samples), 6, order, grid_update=grids.GridUpdate(eps=0.5))
      rows = np.asarray(knots)
      x = np.linspace(rows[:, 0] - 1, rows[:, -1] + 1, 301).T
      # Ends belong to the grid; other knots only to the interval on the right.
      x = jnp.asarray(np.concatenate([x, rows[:, order:-order - 1]], 1)
                      if order else x)

      def found(x):
        return _dense(x, knots, order, outside)

      def slope(x):
        return jax.jvp(found, (x,), (jnp.ones_like(x),))[1]

      def bend(x):
        return jax.jvp(slope, (x,), (jnp.ones_like(x),))[1]

      for derivative, fn in enumerate((found, slope, bend)):
        expected = bsplines.basis_by_input(
            x, knots, order, derivative=derivative, outside=outside)
        scale = max(1.0, np.abs(expected).max())
        # The ends of `clamp` and `linear` have a derivative on either side.
        inside = ((x > rows[:, order, None]) & (x < rows[:, -order - 1, None])
                  ) | (outside in ('zero', 'polynomial')) | (derivative == 0)
        np.testing.assert_allclose(
            jnp.where(inside[:, None], jax.jit(fn)(x) - expected, 0), 0,
            atol=1e-11 * scale)

  def test_extreme_inputs_give_zero(self):
    knots = bsplines.uniform_knots(1, 5, 3)
    x = jnp.array([[1e6, -1e38, jnp.inf, -jnp.inf]])
    value, slope = jax.value_and_grad(
        lambda x: _lookup.values(
            x, _lookup.find(x, knots, 3), knots, 3)[1].sum())(x)
    self.assertEqual(value, 0)
    np.testing.assert_array_equal(slope, 0)

  @parameterized.parameters('zero', 'linear', 'polynomial')
  def test_sums_in_all_modes(self, outside):
    """Forward, backward, both, and side by side, as of every spline's value."""
    with jax.enable_x64(True):
      rng = np.random.default_rng(0)
      samples = rng.normal(size=(50, 2))**3
      knots = grids.knots_from_samples(
          jnp.asarray(samples), 5, 3, grid_update=grids.GridUpdate(eps=0.5))
      at = tuple(jnp.asarray(rng.normal(size=size))
                 for size in ((2, 9), (2, 4), (2, 8, 4)))
      along = tuple(jnp.asarray(rng.normal(size=a.shape)) for a in at)

      def looked_up(x, scale, coef):
        return _lookup.sums(x, knots, scale, coef, 3, outside)

      def plain(x, scale, coef):
        return (scale[None] * bsplines.evaluate(
            x.T, knots, coef, 3, outside=outside)).sum(1)

      def modes(fn):
        def total(args):
          return jnp.sin(fn(*args)).sum()

        def pushed(args):
          return jax.jvp(jax.grad(total), (args,), (along,))

        return jax.jit(lambda args: (
            fn(*args), pushed(args), jax.vmap(lambda shift: fn(
                args[0] + shift, *args[1:]))(jnp.array([0.0, 0.3]))))(at)

      chex.assert_trees_all_close(modes(looked_up), modes(plain), atol=1e-10)
