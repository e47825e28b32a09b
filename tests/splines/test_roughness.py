"""The roughness of splines, and the coordinates where it is diagonal."""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _roughness


def _tree(coef):
  """A layer with three inputs among other parameters, and its grid."""
  coef = np.broadcast_to(coef, (3, *np.shape(coef)))[..., None]
  params = {'a': {'coef': jnp.asarray(coef)}, 'coef': jnp.ones(3)}
  return params, {'a': {'knots': jnp.zeros((3, coef.shape[1] + 4))}}


def _rough(coef):
  params, grid = _tree(coef)
  modes = _roughness.to_modes(params, grid)
  return [sum(jnp.sum(count * jnp.square(mode)) for count, mode in zip(
      jax.tree.leaves(counts), jax.tree.leaves(modes), strict=True))
          for counts in _roughness.squares(params, grid)]


class RoughnessTest(chex.TestCase):

  def test_differences_of_twice_the_order_of_the_error(self):
    """Coefficients of a polynomial on even knots are one in their index."""
    with jax.enable_x64(True):
      index = np.arange(11) / 4
      np.testing.assert_allclose(_rough(index**7 - index), 0, atol=1e-6)
      # The eighth difference of k**8 is 8!, at 3 places and 3 inputs, and the
      # grid has 8 intervals.
      expected = 9 * np.square(40320 / 4.0**8)
      np.testing.assert_allclose(
          _rough(index**8), [expected, expected * 8**8], rtol=1e-9)

  def test_few_coefficients(self):
    """Four have differences of order three at most: 3! of k**3, one interval.
    """
    with jax.enable_x64(True):
      np.testing.assert_allclose(
          _rough(np.arange(4.0)**3)[0], 3 * 36, rtol=1e-12)

  def test_modes_are_a_rotation(self):
    with jax.enable_x64(True):
      params, grid = _tree(np.random.default_rng(0).normal(size=20))
      modes = _roughness.to_modes(params, grid)
      np.testing.assert_allclose(
          np.linalg.norm(modes['a']['coef']),
          np.linalg.norm(params['a']['coef']), rtol=1e-14)
      chex.assert_trees_all_close(
          _roughness.from_modes(modes, grid), params, rtol=1e-12)
      np.testing.assert_array_equal(modes['coef'], 1)
