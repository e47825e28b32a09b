"""Poisson's equation: the residuals, and a coarse solution."""

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments.accuracy import poisson


class Exact(nn.Module):
  """The solution itself, plus a constant."""
  error: float = 0.0

  def __call__(self, x):
    return poisson.exact(x)[:, None] + self.error


def test_laplacian():
  points = jnp.asarray([[0.1, 0.2], [-1.0, 0.5]])
  found = jax.jit(lambda points: poisson.laplacian(
      lambda p: p[0]**2 + 3 * p[1]**2, points))(points)
  np.testing.assert_allclose(found, 8, rtol=1e-6)


def test_residuals_weigh_equation_and_boundary():
  """A constant error shows on the boundary alone, with all of its weight."""
  with jax.enable_x64(True):
    data = poisson.sample(np.random.default_rng(0), 50)
    none, shifted = (
        jax.jit(poisson.make_residuals(model))({}, {}, *data)
        for model in (Exact(), Exact(0.1)))
  np.testing.assert_allclose(none, 0, atol=1e-12)
  np.testing.assert_allclose(shifted[:50], 0, atol=1e-12)
  np.testing.assert_allclose(np.square(shifted).mean(), 0.1**2, rtol=1e-10)


def test_a_coarse_solution():
  with jax.enable_x64(True):
    found, = poisson.solve(3, 0, (5,), 200, 15, progress=False)
  assert found[:2] == (3, 5)
  # The solution's own mean square is about 0.2.
  assert found.square < 0.02


def test_table():
  runs = [poisson.Solution(5, 10, square, 1e-5, 60.0)
          for square in (1e-9, 3e-9)]
  assert poisson.table(runs).splitlines()[2] == (
      '| 5 | 10 | 2 | 2.0e-09 | 3.0e-09 | 1e-07 | 50 | 1.0e-05 | 60 |')
