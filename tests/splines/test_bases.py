"""What all bases promise, those of `_global_bases.py` against NumPy's own."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev

from kan_jax.splines import bases
from kan_jax.splines import bsplines
from kan_jax.splines import grids

_NAMES = ('bspline', 'chebyshev', 'radial')
_GLOBAL = ('chebyshev', 'radial')
# Two inputs with grids of their own; -1.5 to 2.25 reaches beyond both.
_KNOTS = np.stack([
    np.asarray(bsplines.uniform_knots(1, 5, 3, ends))[0]
    for ends in ((-1, 1), (0.5, 2))])
_X = np.linspace(-1.5, 2.25, 76, dtype=np.float32)[None].repeat(2, 0)


def _values(name, x=_X, knots=_KNOTS, order=3, **options):
  return bases.find(name).values(
      jnp.asarray(x), jnp.asarray(knots), order=order, **options)


def _expected(name, x, low, high, size, derivative=0):
  """The functions in float64, [size, n], as the books write them."""
  if name == 'chebyshev':
    u = (2 * x - low - high) / (high - low)
    return np.stack([
        chebyshev.chebval(u, chebyshev.chebder(row, derivative))
        for row in np.eye(size)]) * (2 / (high - low))**derivative
  centres = np.linspace(low, high, size)[:, None]
  z = (x - centres) / (centres[1] - centres[0])
  bell = np.exp(-z**2)
  # Hermite's polynomials.
  factor = {0: 1, 1: -2 * z, 2: 4 * z**2 - 2}[derivative]
  return factor * bell / (centres[1] - centres[0])**derivative


class ValuesTest(parameterized.TestCase):

  @parameterized.product(
      name=_GLOBAL, derivative=(0, 1, 2), size=((5, 3), (20, 0)),
      dtype=(jnp.float32, jnp.float64))
  def test_within_the_grid(self, name, derivative, size, dtype):
    grid, order = size
    with jax.enable_x64(dtype == jnp.float64):
      knots = bsplines.uniform_knots(1, grid, order, (0.5, 2), dtype)
      x = jnp.linspace(0.5, 2, 41, dtype=dtype)[None]
      y = _values(name, x, knots, order, derivative=derivative)
      self.assertEqual(y.dtype, dtype)
      exact, (low, high) = np.asarray(x[0], np.float64), (0.5, 2)
      expected = _expected(name, exact, low, high, grid + order, derivative)
    # Roundings of a place u move T_n by n^2 of them near the ends.
    scale = (grid + order)**2 * np.abs(expected).max()
    np.testing.assert_allclose(
        y[0], expected, rtol=0, atol=2 * float(jnp.finfo(dtype).eps) * scale)

  @parameterized.product(
      name=_GLOBAL, derivative=(0, 2),
      outside=('zero', 'clamp', 'linear'))
  def test_derivatives_are_those_of_autodiff(self, name, derivative, outside):
    inner = functools.partial(
        _values, name, derivative=derivative, outside=outside)
    _, tangent = jax.jvp(inner, (_X,), (jnp.ones_like(_X),))
    expected = inner(derivative=derivative + 1)
    np.testing.assert_allclose(
        tangent, expected, rtol=0, atol=1e-5 * np.abs(expected).max())

  @parameterized.product(name=_GLOBAL, outside=('zero', 'clamp', 'linear'))
  def test_beyond_the_grid(self, name, outside):
    """What numbers at and beyond the ends say, without a formula of ours."""
    low, high = _KNOTS[:, 3], _KNOTS[:, -4]
    ends = np.stack([low, high], 1)
    step, at_ends, slopes = 0.3, _values(name, ends), _values(
        name, ends, derivative=1)
    beyond = np.stack([low - step, high + step], 1)
    y = _values(name, beyond, outside=outside)
    if outside == 'clamp':
      np.testing.assert_array_equal(y, at_ends)
    elif outside == 'linear':
      sides = np.array([-step, step])[None, None]
      np.testing.assert_allclose(
          y, at_ends + sides * slopes, rtol=2e-6, atol=2e-5)
    elif name == 'radial':
      for i in range(2):
        np.testing.assert_allclose(
            y[i], _expected(name, beyond[i], low[i], high[i], 8), atol=1e-6)
    else:
      # Fades from the value at the end, less and less of it.
      part = y / at_ends
      self.assertTrue(((part > 0) & (part < 1)).all())
      np.testing.assert_allclose(part, part[:, :1].repeat(8, 1), rtol=1e-5)
      outermost = np.stack([_KNOTS[:, 0], _KNOTS[:, -1]], 1)
      np.testing.assert_array_equal(_values(name, outermost), 0)

  @parameterized.product(name=_GLOBAL, order=(0, 1, 5))
  def test_far_away(self, name, order):
    knots = bsplines.uniform_knots(2, 4, order)
    x = jnp.array([[1e30, -1e30, np.inf, np.nan]] * 2, jnp.float32)
    for outside in ('zero', 'clamp'):
      for derivative in (0, 2):
        y = _values(name, x, knots, order, outside=outside,
                    derivative=derivative)
        self.assertTrue(np.isfinite(y[..., :-1]).all())
        if outside == 'zero' or derivative:
          np.testing.assert_array_equal(y[..., :-1], 0)
        if not derivative:
          self.assertTrue(np.isnan(y[..., -1]).all())  # It stays visible.

  @parameterized.parameters(*_NAMES)
  def test_places_are_only_faster(self, name):
    knots = jnp.asarray(_KNOTS)
    places = bases.find(name).places(knots, 3)
    np.testing.assert_allclose(
        bases.find(name).values(_X, *places, order=3), _values(name),
        atol=5e-7)  # Other programs may round otherwise.

  @parameterized.parameters(*_GLOBAL)
  def test_knots_count_as_constants(self, name):
    slope = jax.grad(lambda k: _values(name, knots=k).sum())(_KNOTS)
    np.testing.assert_array_equal(slope, 0)

  @parameterized.product(name=_GLOBAL, grid=(1, 2))
  def test_smallest(self, name, grid):
    """One function alone, or two: none divides by a distance of zero."""
    knots = bsplines.uniform_knots(2, grid, 0)
    y = _values(name, _X, knots, 0)
    chex.assert_shape(y, (2, grid, 76))
    chex.assert_tree_all_finite(y)
    self.assertGreater(float(y.max()), 0.9)


class FitTest(parameterized.TestCase):

  @parameterized.product(name=_GLOBAL, size=((1, 0), (5, 3), (30, 3)))
  def test_finds_coefficients(self, name, size):
    grid, order = size
    basis, knots = bases.find(name), bsplines.uniform_knots(2, grid, order)
    coef = np.random.default_rng(0).normal(size=(2, grid + order, 3))
    points = basis.points(knots, order)
    y = np.einsum('ign,igo->nio', basis.values(points, knots, order=order),
                  coef)
    fitted = basis.fit(points.T, jnp.asarray(y, jnp.float32), knots, order)
    # A prior of sqrt(eps) = 3e-4 in 16 steps leaves no trace; the rest is
    # rounding, in normal equations whose condition is below 100.
    np.testing.assert_allclose(fitted, coef, atol=3e-5)


def _update(name, x, knots, coef, **options):
  return grids.update_grid(x, knots, coef, 3, basis=name, **options)


class RefitTest(parameterized.TestCase):

  @parameterized.product(
      dtype=(jnp.float32, jnp.float64), outside=('zero', 'linear'))
  def test_keeps_a_polynomial(self, dtype, outside):
    """Within the old grid, the change of the interval is exact."""
    rng = np.random.default_rng(0)
    with jax.enable_x64(dtype == jnp.float64):
      knots = bsplines.uniform_knots(2, 5, 3, dtype=dtype)
      coef = jnp.asarray(rng.normal(size=(2, 8, 3)), dtype)
      x = jnp.asarray(rng.uniform(-0.9, 0.6, (50, 2)), dtype)
      new_knots, new_coef = _update(
          'chebyshev', x, knots, coef, outside=outside)
      self.assertLess(float(new_knots[0, -4]), 0.7)  # It has moved.
      before, after = (
          np.einsum('ign,igo->ino', _values('chebyshev', x.T, k), c)
          for k, c in ((knots, coef), (new_knots, new_coef)))
      # And as NumPy changes the interval.
      low, high = np.asarray(new_knots[:, 3]), np.asarray(new_knots[:, -4])
      for i in range(2):
        for o in range(3):
          series = chebyshev.Chebyshev(np.asarray(coef[i, :, o], np.float64))
          expected = series.convert(
              domain=(low[i], high[i]), kind=chebyshev.Chebyshev).coef
          np.testing.assert_allclose(
              new_coef[i, :, o], expected, atol=100 * jnp.finfo(dtype).eps)
    # Values and coefficients are about 1; sums have eight terms.
    np.testing.assert_allclose(
        after, before, atol=100 * float(jnp.finfo(dtype).eps))

  @parameterized.parameters(*_GLOBAL)
  def test_keeps_a_smooth_function(self, name):
    rng = np.random.default_rng(0)
    basis, knots = bases.find(name), bsplines.uniform_knots(1, 9, 3)
    x = rng.uniform(-1, 1, (200, 1)).astype(np.float32)
    target = np.sin(3 * x)[..., None]
    coef = basis.fit(x, target, knots, 3)
    inner = np.abs(x[:, 0]) < 0.8
    x, target = x[inner], target[inner]
    new_knots, new_coef = _update(name, x, knots, coef)

    def error(knots, coef):
      y = np.einsum('ign,igo->nio', _values(name, x.T, knots), coef)
      return float(np.sqrt(np.square(y - target).mean()))

    # Little more than either grid leaves by itself, and that is little.
    best = error(new_knots, basis.fit(x, target, new_knots, 3))
    self.assertLess(error(new_knots, new_coef), 1.5 * (
        error(knots, coef) + best) + 1e-6)
    self.assertLess(best, 1e-2)

  @parameterized.product(name=_GLOBAL, samples=(
      'uniform', 'normal', 'cauchy'))
  def test_many_updates_stay_bounded(self, name, samples):
    """Each on other samples; B-splines need a prior beyond their ends here."""
    rng = np.random.default_rng(0)
    draw = {'uniform': lambda size: rng.uniform(-1, 1, size),
            'normal': lambda size: rng.normal(size=size),
            'cauchy': lambda size: rng.standard_cauchy(size)}[samples]
    knots = bsplines.uniform_knots(3, 5, 3)
    coef = jnp.asarray(rng.normal(size=(3, 8, 2)), jnp.float32)
    largest = np.abs(coef).max()
    for _ in range(60):
      x = jnp.asarray(draw((128, 3)), jnp.float32)
      knots, coef = _update(name, x, knots, coef)
      # Gaussians beside each other may cancel, most where few samples are.
      self.assertLess(np.abs(coef).max(), 4 * largest)

  @parameterized.product(name=_GLOBAL, column=(
      np.full(9, 0.3), [0.7], [0.0, 1.0], 1e6 + np.arange(9), np.zeros(9),
      1e-30 * np.arange(9)))
  def test_degenerate_samples(self, name, column):
    knots = bsplines.uniform_knots(1, 5, 3)
    coef = jnp.asarray(
        np.random.default_rng(0).normal(size=(1, 8, 2)), jnp.float32)
    x = jnp.asarray(column, jnp.float32)[:, None]
    new_knots, new_coef = _update(name, x, knots, coef)
    chex.assert_tree_all_finite((new_knots, new_coef))
    self.assertTrue((new_knots != knots).any())  # Not refused as unsound.
    before, after = (
        np.einsum('ign,igo->ino', _values(name, x.T, k), c)
        for k, c in ((knots, coef), (new_knots, new_coef)))
    np.testing.assert_allclose(after, before, atol=2e-3)

  @parameterized.parameters(*_GLOBAL)
  def test_the_same_knots_change_nothing(self, name):
    coef = jnp.asarray(
        np.random.default_rng(0).normal(size=(2, 8, 2)), jnp.float32)
    knots = jnp.asarray(_KNOTS)
    np.testing.assert_array_equal(
        grids.refit(_X.T, knots, coef, knots, 3, basis=name), coef)

  @parameterized.parameters(*_GLOBAL)
  def test_a_column_that_is_not_finite_keeps_its_grid(self, name):
    coef = jnp.ones((2, 8, 1))
    x = jnp.asarray(_X.T).at[3, 0].set(jnp.nan)
    knots, new_coef = _update(name, x, jnp.asarray(_KNOTS), coef)
    np.testing.assert_array_equal(knots[0], _KNOTS[0])
    np.testing.assert_array_equal(new_coef[0], coef[0])
    self.assertTrue((knots[1] != _KNOTS[1]).any())


class RefineTest(parameterized.TestCase):

  @parameterized.parameters('bspline', 'chebyshev')
  def test_keeps_functions(self, name):
    coef = jnp.asarray(
        np.random.default_rng(0).normal(size=(2, 8, 2)), jnp.float32)
    knots, new_coef = grids.refine_grid(
        jnp.asarray(_KNOTS), coef, 3, 12, basis=name)
    chex.assert_shape(new_coef, (2, 15, 2))
    before, after = (
        np.einsum('ign,igo->ino', _values(name, knots=k), c)
        for k, c in ((_KNOTS, coef), (knots, new_coef)))
    np.testing.assert_allclose(after, before, atol=1e-5)

  def test_radial_says_that_it_cannot(self):
    with self.assertRaisesRegex(
        ValueError, "`basis` 'radial' cannot be refined.*'bspline' or 'cheb"):
      grids.refine_grid(
          jnp.asarray(_KNOTS), jnp.ones((2, 8, 1)), 3, 12, basis='radial')


class MistakesTest(parameterized.TestCase):

  @parameterized.parameters('fourier', None, (['radial'],))
  def test_unknown(self, name):
    with self.assertRaisesRegex(
        ValueError, '`basis` is one of bspline, chebyshev, radial; got'):
      bases.find(name)

  @parameterized.parameters(*_GLOBAL)
  def test_polynomial_beyond_the_grid(self, name):
    with self.assertRaisesRegex(
        ValueError, '`outside` is one of zero, clamp, linear for the `basis` '
        f"'{name}'; got 'polynomial'"):
      bases.check(name, 'polynomial')
    bases.check('bspline', 'polynomial')
