"""Whether errors are noise."""

from absl.testing import parameterized
import numpy as np
import threadpoolctl

from kan_jax.symbolic import _noise

_RNG = np.random.default_rng(0)


class NoiseTest(parameterized.TestCase):

  def setUp(self):
    super().setUp()
    # Threads would only wait for one another.
    self.enterContext(threadpoolctl.threadpool_limits(1, 'blas'))

  def test_smooth_errors(self):
    x = _RNG.uniform(-1, 1, (800, 3))
    noise = _RNG.normal(size=800)
    self.assertTrue(_noise.is_noise(x, noise))
    # A sixteenth of the sum of squares, in one of 35 terms.
    self.assertFalse(_noise.is_noise(x, noise + 0.75 * x[:, 0] * x[:, 1]))

  @parameterized.parameters(
      lambda x, rng: rng.normal(size=len(x)) * x[:, 0]**2,
      lambda x, rng: (rng.exponential(size=len(x)) - 1) * x[:, 1],
      lambda x, rng: rng.standard_t(2.5, size=len(x)))
  def test_noise_of_any_kind(self, draw):
    """Of other deviations on other rows, skew, with errors far out."""
    rng = np.random.default_rng(1)
    for _ in range(10):
      x = rng.uniform(0, 1, (400, 5))
      # 30 draws of 1e-3 each are alike once in 30 such tests.
      self.assertTrue(_noise.is_noise(x, draw(x, rng)))

  def test_three_columns_of_twelve(self):
    """No pair of columns shows anything, nor does a polynomial of degree 2."""
    x = _RNG.uniform(-2, 2, (800, 12))
    errors = np.sin(2 * x[:, 1] * x[:, 4]) * x[:, 9]
    self.assertFalse(_noise.is_noise(x, errors))
    self.assertEqual(_noise.find_alike(x, errors).columns, (1, 4, 9))

  def test_likely_columns(self):
    """What a few columns show is no chance, though many might show it."""
    x = _RNG.uniform(-1, 1, (300, 14))
    errors = 0.55 * np.sign(x[:, 3] * x[:, 7]) + _RNG.normal(size=300)
    every = _noise.find_alike(x, errors)
    some = _noise.find_alike(x, errors, {3, 7})
    self.assertLess(some.chance, every.chance)
    self.assertEqual(some.columns, (3, 7))

  def test_a_table_too_small_for_cells(self):
    x = _RNG.uniform(size=(6, 1))
    self.assertTrue(_noise.is_noise(x, _RNG.normal(size=6)))
