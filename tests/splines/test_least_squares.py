"""Damped normal equations, against lstsq and against their prior."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _least_squares

_RNG = np.random.default_rng(0)


def _normal_equations(rows, values):
  return jnp.asarray(rows.T @ rows)[None], jnp.asarray(rows.T @ values)[None]


class QuadratureTest(parameterized.TestCase):

  def test_intervals_weigh_the_same_however_wide(self):
    points, weights = map(np.asarray, _least_squares.quadrature(
        jnp.array([[0.0, 1.0, 3.0], [-1.0, 0.0, 1.0]]), 1))
    self.assertEqual(points.shape, (2, 4))
    np.testing.assert_allclose(weights, 0.25, rtol=1e-6)
    # Gauss-Legendre with two points, 1 / sqrt(3) of half an interval off its
    # middle.
    off = 0.5 / 3**0.5
    np.testing.assert_allclose(
        points, [[0.5 - off, 0.5 + off, 2 - 2 * off, 2 + 2 * off],
                 [-0.5 - off, -0.5 + off, 0.5 - off, 0.5 + off]], rtol=1e-6)


class DampedTest(parameterized.TestCase):

  def test_rounding_leaves_a_singular_matrix_solvable(self):
    """Without help of the prior: Cholesky's last pivot would be 0.

    The inverse has entries of 1e15, so that sums lose nearly all digits.
    """
    with jax.enable_x64(True):
      gram = jnp.ones((1, 3, 3))
      solution = _least_squares.damped_solve(
          gram, jnp.ones((1, 3, 1)), gram, jnp.zeros((1, 3, 1)), weight=0.0,
          steps=16)
    np.testing.assert_allclose(np.asarray(solution).sum(1), 1, rtol=1e-2)

  def test_samples_decide_where_they_can(self):
    rows, values = _RNG.normal(size=(20, 4)), _RNG.normal(size=(20, 2))
    with jax.enable_x64(True):
      solution = _least_squares.damped_solve(
          *_normal_equations(rows, values),
          *_normal_equations(np.eye(4), np.full((4, 2), 100.0)),
          weight=1e-3, steps=16)
    np.testing.assert_allclose(
        solution[0], np.linalg.lstsq(rows, values)[0], rtol=1e-9)

  def test_the_prior_decides_the_rest(self):
    rows, values = np.diag([1.0, 1.0, 0.0]), np.array([[3.0], [4.0], [5.0]])
    with jax.enable_x64(True):
      solution = _least_squares.damped_solve(
          *_normal_equations(rows, values),
          *_normal_equations(np.eye(3), np.full((3, 1), 7.0)),
          weight=1e-3, steps=16)
    np.testing.assert_allclose(solution[0, :, 0], [3, 4, 7], rtol=1e-9)

  def test_each_step_halves_what_the_prior_adds(self):
    """With a weight of 1 for both, the first solution is half of each."""
    with jax.enable_x64(True):
      for steps in range(4):
        solution = _least_squares.damped_solve(
            *_normal_equations(np.eye(2), np.zeros((2, 1))),
            *_normal_equations(np.eye(2), np.ones((2, 1))),
            weight=1.0, steps=steps)
        np.testing.assert_allclose(solution, 0.5**(steps + 1), rtol=1e-9)

  def test_a_weight_for_each_system(self):
    with jax.enable_x64(True):
      gram, rhs = (jnp.tile(a, (2, 1, 1)) for a in _normal_equations(
          np.eye(2), np.zeros((2, 1))))
      solution = _least_squares.damped_solve(
          gram, rhs, gram, rhs + 1, steps=0,
          weight=jnp.array([1.0, 3.0])[:, None, None])
    np.testing.assert_allclose(solution[:, 0, 0], [0.5, 0.75], rtol=1e-9)
