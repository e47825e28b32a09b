"""Fits of one function to edges: exact, scale-free, honest about failure."""

import tracemalloc

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from kan_jax.layers import functions
from kan_jax.symbolic import affine_fit

_X = np.random.default_rng(0).uniform(-1, 1, 200)
# a and b within the domain of each function on [-1, 1].
_SHIFTED = dict.fromkeys(
    ('log', 'sqrt', '1/sqrt', 'x^1.5', '1/x', '1/x^2', '1/x^3', '1/x^4',
     '1/x^5'), (1.3, 2.0))
_SHIFTED |= dict.fromkeys(('arcsin', 'arccos', 'arctanh'), (0.5, 0.2))


def _fit(name, x, y):
  """The fit of one edge, as a tuple of numbers."""
  fit = affine_fit.fit_affine(functions.find(name), x[:, None], y[:, None])
  return affine_fit.AffineFit(*(field[0] for field in fit))


def _value(name, x, a, b, c, d):
  with jax.enable_x64(True):
    return np.asarray(c * functions.find(name).fn(jnp.asarray(a * x + b)) + d)


class FitTest(chex.TestCase):

  @parameterized.parameters(f.name for f in functions.LIBRARY)
  def test_finds_itself_to_machine_precision(self, name):
    a, b = _SHIFTED.get(name, (1.3, 0.2))
    y = _value(name, _X, a, b, 2.5, 0.7)
    fit = _fit(name, _X, y)
    self.assertLess(fit.residual, 1e-24)
    self.assertEqual(fit.r2, 1)
    self.assertFalse(fit.at_boundary)
    fresh = np.linspace(-0.9, 0.9, 50)  # Not where sgn jumps.
    np.testing.assert_allclose(
        _value(name, fresh, *fit[:4]), _value(name, fresh, a, b, 2.5, 0.7),
        rtol=1e-10)

  @parameterized.parameters(
      ('sin', 30.0, 1.0), ('tanh', 30.0, -9.0), ('gaussian', 20.0, -6.6),
      ('exp', 20.0, 0.0), ('log', 1.0, 1.001), ('1/x', 1.0, 1.001))
  def test_steep(self, name, a, b):
    x = np.linspace(-1, 1, 200)
    self.assertLess(_fit(name, x, _value(name, x, a, b, 1, 0)).residual, 1e-20)

  @parameterized.parameters((1e-6, 0.0), (1e6, 50.0))
  def test_units_of_x(self, scale, shift):
    y = np.sin(3 * _X + 1) + 0.1 * _X**2
    plain = _fit('sin', _X, y)
    other = _fit('sin', scale * _X + shift, y)
    self.assertAlmostEqual(other.r2, plain.r2, places=9)
    np.testing.assert_allclose(abs(other.a), abs(plain.a) / scale, rtol=1e-6)

  @parameterized.parameters((1e-9, 0.0), (1e9, 100.0))
  def test_units_of_y(self, scale, shift):
    y = np.sin(3 * _X + 1) + 0.1 * _X**2
    plain = _fit('sin', _X, y)
    other = _fit('sin', _X, scale * y + shift)
    self.assertAlmostEqual(other.r2, plain.r2, places=9)
    np.testing.assert_allclose(abs(other.a), abs(plain.a), rtol=1e-6)
    np.testing.assert_allclose(abs(other.c), abs(plain.c) * scale, rtol=1e-5)

  def test_plain_parameters_where_they_do(self):
    a, b, c, d, *_, parameters, _ = _fit('x^2', _X, 3 * _X**2 + 1)
    np.testing.assert_allclose((a, b, c, d), (1, 0, 3, 1), atol=1e-9)
    self.assertEqual(parameters, 2)
    self.assertEqual(_fit('exp', _X, 2 * np.exp(3 * _X)).parameters, 3)
    self.assertEqual(_fit('sin', _X, np.sin(3 * _X + 1)).parameters, 4)

  def test_boundary_is_flagged(self):
    """A line is the limit of ever flatter sines: where the search ends."""
    self.assertTrue(_fit('sin', _X, 3 * _X).at_boundary)
    x = np.linspace(-1, 1, 200)
    self.assertTrue(_fit('sin', x, np.sin(41.5 * x)).at_boundary)

  def test_not_finite_is_rejected(self):
    x = np.linspace(-1, 1, 200)
    y = np.abs(x)
    for name in ('sqrt', 'log'):
      fit = _fit(name, x, y)
      with jax.enable_x64(True):
        value = functions.find(name).fn(jnp.asarray(fit.a * x + fit.b))
      self.assertTrue(np.isfinite(value).all())
    never = functions.Function(
        'never', lambda x: x / jnp.zeros_like(x), lambda z: z)
    fit = affine_fit.fit_affine(never, x[:, None], y[:, None])
    self.assertEqual(fit.r2, -np.inf)
    self.assertEqual(fit.c, 0)

  def test_finite_in_the_dtype_of_the_inputs(self):
    x = np.linspace(0.1, 1.1, 200, dtype=np.float32)
    fit = _fit('sqrt', x, np.sqrt(x - x[0]))
    if np.isfinite(fit.r2):
      arguments = np.float32(fit.a) * x + np.float32(fit.b)
      self.assertTrue(np.isfinite(np.sqrt(arguments)).all())

  def test_numbers_beyond_the_dtype_are_rejected(self):
    """Steep powers of tiny inputs: c would be 1e40, which float32 has not."""
    x = np.linspace(1e-9, 2e-9, 200, dtype=np.float32)
    huge = functions.Function('x^7', lambda z: z**7, lambda z: z**7)
    fit = affine_fit.fit_affine(huge, x[:, None], np.sin(1e9 * x)[:, None])
    value = np.float32(fit.c) * (np.float32(fit.a) * x)**7
    self.assertTrue(np.isfinite(value).all() or fit.r2[0] == -np.inf)

  def test_constant_and_few_samples(self):
    for name in ('0', 'x', 'sin'):
      fit = _fit(name, _X, np.full_like(_X, 0.3))
      self.assertEqual((fit.residual, fit.c), (0, 0))
      np.testing.assert_allclose(fit.d, 0.3)
    self.assertEqual(_fit('sin', np.ones(3), np.arange(3.0)).c, 0)
    self.assertEqual(_fit('exp', np.ones(1), np.ones(1)).residual, 0)

  def test_noise(self):
    y = np.sin(3 * _X) + np.random.default_rng(1).normal(0, 0.01, 200)
    fit = _fit('sin', _X, y)
    self.assertAlmostEqual(abs(fit.a), 3, delta=0.02)
    self.assertBetween(fit.residual, 1e-4, 3e-4)

  def test_all_samples_decide(self):
    """Of 20,000 with noise, a few hundred would miss a by 1 %."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 20_000)
    y = 2 * np.sin(1.5 * x + 0.4) + rng.normal(0, 0.1, x.size)
    fit = _fit('sin', x, y)
    expected, _ = optimize.curve_fit(
        lambda x, a, b, c, d: c * np.sin(a * x + b) + d, x, y, (1.5, 0.4, 2, 0))
    np.testing.assert_allclose(
        _value('sin', _X, *fit[:4]), _value('sin', _X, *expected), atol=1e-4)
    np.testing.assert_allclose(fit.a, expected[0], rtol=1e-3)

  def test_memory(self):
    """Few edges at a time are float64; 64 of 20,000 samples would be 20 MB."""
    x = np.random.default_rng(0).uniform(-1, 1, (20_000, 64))
    x = x.astype(np.float32)
    sin = functions.find('sin')
    affine_fit.fit_affine(sin, x[:, :8], np.sin(x[:, :8]))
    y = np.sin(2 * x)
    tracemalloc.start()
    try:
      affine_fit.fit_affine(sin, x, y)
      _, peak = tracemalloc.get_traced_memory()
    finally:
      tracemalloc.stop()
    self.assertLess(peak, 4 * x.nbytes)

  @parameterized.parameters('sqrt', 'log', 'arctanh', '1/x', 'x^1.5')
  def test_outside_the_domain_is_no_mistake(self, name):
    """Also for who wants to hear of every NaN."""
    expected = _fit(name, _X, np.sin(_X))
    with jax.debug_nans(True), jax.debug_infs(True):
      fit = _fit(name, _X, np.sin(_X))
    self.assertEqual(fit, expected)

  def test_prints_a_line_for_each_edge(self):
    x = np.stack([_X, 2 * _X], 1)
    fit = affine_fit.fit_affine(functions.find('x'), x, 3 * x + 1)
    first, *lines = repr(fit).splitlines()
    self.assertEqual(first, 'AffineFit, edges: 2')
    self.assertEqual(lines[0], '  0: r2 1, a 1, b 0, c 3, d 1')
    many = affine_fit.AffineFit(*(np.ones(50) for _ in fit))
    self.assertEndsWith(repr(many), '... and 30 more')

  def test_edges_do_not_meet(self):
    """Many edges at a time give what each gives alone; order is kept."""
    x = np.stack([_X, 2 * _X + 1] * 5, 1)
    y = np.sin(2 * x) * np.arange(1, 11)
    fit = affine_fit.fit_affine(functions.find('sin'), x, y)
    chex.assert_shape(list(fit), (10,))
    for i in (0, 9):
      alone = _fit('sin', x[:, i], y[:, i])
      np.testing.assert_allclose(fit.c[i], alone.c, rtol=1e-9)

  def test_the_global_flag_stays(self):
    _fit('sin', _X, _X)
    self.assertFalse(jax.config.jax_enable_x64)

  def test_errors(self):
    sin = functions.find('sin')
    with self.assertRaisesRegex(ValueError, r'`x` and `y`.*got \(3,\)'):
      affine_fit.fit_affine(sin, np.ones(3), np.ones(3))
    with self.assertRaisesRegex(ValueError, r'`x` and `y`.*\(0, 2\)'):
      affine_fit.fit_affine(sin, np.ones((0, 2)), np.ones((0, 2)))
    with self.assertRaisesRegex(ValueError, 'finite numbers'):
      affine_fit.fit_affine(sin, np.array([[np.nan]]), np.ones((1, 1)))
