"""Grid updates: knots that suit any samples, and functions that stay.

The latter is what `_refit.py` does.
"""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import bsplines
from kan_jax.splines import grids

_RNG = np.random.default_rng(0)
_AWKWARD = {
    'uniform': _RNG.uniform(-1, 1, 400),
    'normal': _RNG.normal(3, 2, 400),
    'zeros of a relu': np.maximum(_RNG.normal(size=400), 0),
    'heavy tails': _RNG.standard_cauchy(400),
}
# Columns on which splines of order 3 on any grid can repeat the old one: few
# distinct values, or so narrow that the old function is a parabola there.
_EXACT = {
    'constant': np.full(400, 0.3),
    'nearly constant': 0.3 + 1e-6 * _RNG.normal(size=400),
    'binary': np.repeat([0.0, 1.0], 200),
    'huge offset': 1e6 + _RNG.normal(size=400),
    'tiny spread': 1e-8 * _RNG.normal(size=400),
    'tiny shifted spread': 0.5 + 1e-8 * _RNG.normal(size=400),
}


# Compiled once for all tests that share shapes and options.
_update = jax.jit(
    grids.update_grid, static_argnums=3, static_argnames='grid_update')


def _columns(*groups, dtype=jnp.float32):
  """The columns side by side: [400, in]."""
  return jnp.asarray(
      np.stack([c for group in groups for c in group.values()], 1), dtype)


class KnotsFromSamplesTest(parameterized.TestCase):

  @parameterized.product(
      rows=(400, 2, 1), eps=(0.0, 0.5, 1.0), order=(0, 3, 5),
      grid=(1, 5, 50))
  def test_strictly_increasing_and_covering(
      self, rows, eps, order, grid):
    x = _columns(_AWKWARD, _EXACT)[:rows]
    knots = grids.knots_from_samples(
        x, grid, order, grid_update=grids.GridUpdate(eps=eps))
    chex.assert_shape(knots, (10, grid + 2 * order + 1))
    self.assertGreater(np.diff(knots, axis=1).min(), 0)
    inner = bsplines.interior(knots, order)
    np.testing.assert_array_less(inner[:, 0], np.nextafter(x.min(0), np.inf))
    np.testing.assert_array_less(np.nextafter(x.max(0), -np.inf), inner[:, -1])
    np.testing.assert_allclose(
        bsplines.basis(x, knots, order).sum(-1), 1, atol=1e-5)

  def test_rate(self):
    old = bsplines.uniform_knots(2, 4, 2)
    target = jnp.stack([3 * old[0], 0.2 * old[1]])
    moved = grids.move_knots(old, target, 2, rate=0.25)
    inner = bsplines.interior(moved, 2)
    # Wider at once, a quarter of the way where it narrows.
    np.testing.assert_allclose(inner[0], [-3, -0.75, 0, 0.75, 3], atol=1e-6)
    np.testing.assert_allclose(inner[1], [-0.8, -0.4, 0, 0.4, 0.8], atol=1e-6)
    with self.assertRaisesRegex(ValueError, r'`rate`.*\(0, 1\]; got 0'):
      grids.move_knots(old, target, 2, rate=0)

  @parameterized.parameters(
      (1.0, [0, 0.25, 0.5, 0.75, 1]), (0.0, [0, 0.0625, 0.25, 0.5625, 1]))
  def test_blend_direction(self, eps, expected):
    x = (jnp.linspace(0, 1, 1001)**2)[:, None]
    knots = grids.knots_from_samples(
        x, 4, 0, grid_update=grids.GridUpdate(eps=eps))
    np.testing.assert_allclose(knots[0], expected, atol=0.02)  # The margin.

  def test_scale_free(self):
    x = _columns(_AWKWARD)[:, :2]
    knots = grids.knots_from_samples(
        x, 5, 3, grid_update=grids.GridUpdate(eps=0.3))
    scaled = grids.knots_from_samples(
        1000 * x, 5, 3, grid_update=grids.GridUpdate(eps=0.3))
    np.testing.assert_allclose(scaled, 1000 * knots, rtol=1e-4, atol=1e-2)

  @parameterized.parameters(0.0, 0.01, 0.25)
  def test_margin(self, margin):
    """Exactly that part of the range lies beyond each extreme sample."""
    x = jnp.asarray([[-1.0, 10.0], [3.0, 20.0], [0.0, 11.0]])
    for eps in (0.0, 1.0):
      inner = bsplines.interior(grids.knots_from_samples(
          x, 4, 2, grid_update=grids.GridUpdate(eps=eps, margin=margin)), 2)
      reach = margin * np.array([4, 10])
      low, high = np.array([[-1, 10], [3, 20]])
      np.testing.assert_allclose(inner[:, 0], low - reach, rtol=1e-6)
      np.testing.assert_allclose(inner[:, -1], high + reach, rtol=1e-6)

  @parameterized.parameters(-0.1, 1.1, float('nan'))
  def test_impossible_blend(self, eps):
    with self.assertRaisesRegex(ValueError, '`eps` blends'):
      grids.GridUpdate(eps=eps)

  @parameterized.parameters(
      ('margin', -0.1), ('min_width', 0.0), ('min_width', float('inf')),
      ('min_interval', 0.0), ('min_interval', 1.1), ('rate', 0.0))
  def test_impossible_options(self, name, value):
    with self.assertRaisesRegex(ValueError, f'`{name}` .* got {value}'):
      grids.GridUpdate(**{name: value})

  def test_options_are_equal_by_value(self):
    """As jit needs it of what is static."""
    one, same = grids.GridUpdate(eps=0.5), grids.GridUpdate(eps=0.5)
    self.assertEqual((one, hash(one)), (same, hash(same)))
    self.assertNotEqual(one, grids.GridUpdate(eps=0.4))

  def test_no_samples(self):
    with self.assertRaisesRegex(ValueError, r'n >= 1; got the shape \(0, 2\)'):
      grids.knots_from_samples(jnp.zeros((0, 2)), 5, 3)

  def test_reaches_as_far_as_promised(self):
    """A margin on each side; where samples coincide, the least widths."""
    x = jnp.array([[2.0, 0.5, 0.0], [6.0, 0.5, 0.0], [4.0, 0.5, 1.0],
                   [3.0, 0.5, 1.0]])
    knots = grids.knots_from_samples(
        x, 4, 1, grid_update=grids.GridUpdate(
            eps=0.0, margin=0.05, min_width=0.3, min_interval=0.2))
    inner = np.asarray(bsplines.interior(knots, 1))
    np.testing.assert_allclose(
        inner[:, [0, -1]], [[1.8, 6.2], [0.35, 0.65], [-0.05, 1.05]], rtol=1e-5)
    # A part of 1.1 / 4, between quantiles that coincide.
    np.testing.assert_allclose(
        np.diff(inner[2]).min(), 0.2 * 1.1 / 4, rtol=1e-5)


class UpdateTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  @parameterized.product(
      rows=(400, 2, 1), eps=(0.0, 1.0),
      dtype=(jnp.float32, jnp.float64))
  def test_keeps_what_can_be_kept(self, rows, eps, dtype):
    with jax.enable_x64(dtype == jnp.float64):
      x = _columns(_EXACT, dtype=dtype)[:rows]
      if rows < 400:  # Then any columns will do.
        x = jnp.concatenate([x, _columns(_AWKWARD, dtype=dtype)[:rows]], 1)
      size = x.shape[1]
      knots = bsplines.uniform_knots(size, 5, 3, dtype=dtype)
      coef = jax.random.normal(jax.random.key(1), (size, 8, 2), dtype)
      new_knots, new_coef = self.variant(functools.partial(
          grids.update_grid, order=3,
          grid_update=grids.GridUpdate(eps=eps)))(x, knots, coef)
      before = bsplines.evaluate(x, knots, coef, 3)
      after = bsplines.evaluate(x, new_knots, new_coef, 3)
    # Of the size of the coefficients, which is 1.
    tolerance = 1e-4 if dtype == jnp.float32 else 1e-8
    error = np.abs(after - before).max((0, 2))
    np.testing.assert_array_less(error, tolerance)
    self.assertTrue((new_knots != knots).any(1).all())

  @parameterized.product(order=tuple(range(6)), eps=(0.0, 1.0))
  def test_polynomials_stay(self, order, eps):
    with jax.enable_x64(True):
      knots = bsplines.uniform_knots(1, 5, order, (-3.0, 3.0), jnp.float64)
      points = np.linspace(-3, 3, 200)[:, None]
      coef = bsplines.fit_coef(points, points[..., None]**order, knots, order)
      x = np.asarray(_columns(_AWKWARD, dtype=jnp.float64)[:, :1])
      new = _update(
          x, knots, coef, order, grid_update=grids.GridUpdate(eps=eps))
      np.testing.assert_allclose(
          bsplines.evaluate(x, *new, order), x[..., None]**order, atol=1e-8)

  @parameterized.product(order=(0, 1, 3, 5), eps=(0.0, 1.0))
  def test_near_the_best_fit_without_its_coefficients(self, order, eps):
    """Where the function cannot stay, and least squares may use any means.

    The coefficients of the best fit to these samples reach 6e8.
    """
    with jax.enable_x64(True):
      x = _columns(_AWKWARD, dtype=jnp.float64)
      knots = bsplines.uniform_knots(4, 5, order, (-1.5, 1.5), jnp.float64)
      coef = jnp.tile(
          jax.random.normal(jax.random.key(2), (1, 5 + order, 1)), (4, 1, 1))
      new_knots, new_coef = _update(
          x, knots, coef, order, grid_update=grids.GridUpdate(eps=eps))
      old, new = (
          np.asarray(bsplines.evaluate(x, *s, order)[..., 0])
          for s in ((knots, coef), (new_knots, new_coef)))
      design = np.asarray(bsplines.basis(x, new_knots, order))
    for i, name in enumerate(_AWKWARD):
      best = design[:, i] @ np.linalg.lstsq(design[:, i], old[:, i])[0]
      size, least, error = (np.sqrt(np.mean(a**2)) for a in (
          old[:, i], best - old[:, i], new[:, i] - old[:, i]))
      # What the damping costs: a part of the error, or of the function.
      self.assertLess(error, 1.3 * least + 0.01 * size, name)
    self.assertLess(np.abs(new_coef).max(), 4 * np.abs(coef).max())

  def test_coefficients_do_not_grow_with_batches_that_differ(self):
    """Without damping beyond the ends, they reach 1e3 here, and NaN later."""
    knots = bsplines.uniform_knots(1, 5, 3)
    coef = jax.random.normal(jax.random.key(0), (1, 8, 1))
    x = jnp.linspace(-1, 1, 400)[:, None]
    for _ in range(12):  # The samples move outward.
      x *= 1.2
      knots, coef = _update(x, knots, coef, 3)
    self.assertLess(np.abs(coef).max(), 10)

  @parameterized.product(rows=(400, 2, 1), order=(0, 3, 5))
  def test_finite_values_and_gradients(self, rows, order):
    x = _columns(_AWKWARD, _EXACT)[:rows]
    knots = bsplines.uniform_knots(10, 5, order)
    coef = jax.random.normal(jax.random.key(3), (10, 5 + order, 1))
    grad = jax.jit(jax.grad(lambda x, c, k: bsplines.evaluate(
        x, k, c, order).sum(), argnums=(0, 1)))
    for eps in (0.0, 1.0):
      new_knots, new_coef = _update(
          x, knots, coef, order, grid_update=grids.GridUpdate(eps=eps))
      grads = grad(x, new_coef, new_knots)
      chex.assert_tree_all_finite((new_knots, new_coef, grads))

  def test_many_outputs_are_refitted_as_few_are(self):
    """One matrix for all outputs, or a solution for each: the same edges."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(60, 3)), jnp.float32)
    knots = bsplines.uniform_knots(3, 4, 2)
    new = grids.knots_from_samples(x, 4, 2)
    coef = jnp.asarray(rng.normal(size=(3, 6, 12)), jnp.float32)
    many, few = (grids.refit(x, knots, c, new, 2) for c in (
        coef, coef[..., :6]))
    # Roundings of sums of 6 terms, through systems of condition 1e3.
    np.testing.assert_allclose(many[..., :6], few, atol=1e-4)

  def test_unchanged_knots_leave_the_coefficients_to_the_bit(self):
    x = _columns(_AWKWARD)[:, :1]
    coef = jax.random.normal(jax.random.key(4), (1, 8, 3))
    knots, coef = _update(x, bsplines.uniform_knots(1, 5, 3), coef, 3)
    again = _update(x, knots, coef, 3)
    chex.assert_trees_all_equal(again, (knots, coef))

  @parameterized.parameters(float('nan'), float('inf'), 3e38)
  def test_an_unusable_column_keeps_its_grid(self, value):
    x = jax.random.normal(jax.random.key(5), (50, 2))
    x = x.at[3, 0].set(value).at[4, 0].set(-value)
    knots = bsplines.uniform_knots(2, 5, 3)
    coef = jax.random.normal(jax.random.key(6), (2, 8, 1))
    new_knots, new_coef = _update(x, knots, coef, 3)
    chex.assert_trees_all_equal(
        (new_knots[0], new_coef[0]), (knots[0], coef[0]))
    self.assertFalse(np.array_equal(new_knots[1], knots[1]))
    chex.assert_tree_all_finite((new_knots, new_coef))

  def test_shrinking_activations(self):
    """A range that shrinks by a million leaves knots, values, gradients sound.

    This is what a strong penalty does to a layer's inputs.
    """
    rng = jax.random.key(7)
    x = jax.random.normal(rng, (128, 4))
    knots = bsplines.uniform_knots(4, 5, 3)
    coef = jax.random.normal(rng, (4, 8, 3))
    knots, coef = _update(x, knots, coef, 3)
    for _ in range(60):
      x *= 0.8
      before = bsplines.evaluate(x, knots, coef, 3)
      knots, coef = _update(x, knots, coef, 3)
      after = bsplines.evaluate(x, knots, coef, 3)
      self.assertGreater(np.diff(knots).min(), 0)
      # A spline of size 1 on four fifths of its grid; it cannot stay exactly.
      self.assertLess(np.abs(after - before).max(), 0.3)
    self.assertLess(np.abs(coef).max(), 3)  # None explodes to fit a few.

  @parameterized.parameters('linear', 'polynomial')
  def test_data_far_from_the_grid(self, outside):
    """Pieces go on, in float32: to 1e-4 of their range."""
    x = np.random.default_rng(0).uniform(9, 11, (200, 1)).astype(np.float32)
    old = (bsplines.uniform_knots(1, 5, 3),
           jax.random.normal(jax.random.key(0), (1, 8, 4)))
    new = grids.update_grid(jnp.asarray(x), *old, 3, outside=outside)
    with jax.enable_x64(True):
      before, after = (np.asarray(bsplines.evaluate(
          x.astype(np.float64), *(a.astype(jnp.float64) for a in spline), 3,
          outside=outside)) for spline in (old, new))
    np.testing.assert_array_less(
        np.abs(after - before).max((0, 1)), 1e-4 * np.ptp(before, (0, 1)))


# Functions whose refits should be near the best, ...
_FUNCTIONS = (
    lambda x: np.sin(3 * x), lambda x: np.sin(3 * x) + 0.3 * np.sin(9 * x),
    lambda x: 1 - 2 * x + x**2, lambda x: np.tanh(4 * x), np.abs)
# ... and columns to see them on, of uniform and normal numbers.
_SPREAD = {
    'the same place': lambda u, z: u, 'a part': lambda u, z: 0.3 + 0.7 * u,
    'a little less': lambda u, z: 0.9 * u, 'narrow': lambda u, z: 0.2 + 0.1 * u,
    'wide': lambda u, z: 2 * u, 'constant': lambda u, z: np.full_like(u, 0.3),
    'binary': lambda u, z: np.where(u > 0, 1.0, 0.0)}
_UNEVEN = {
    'normal': lambda u, z: z / 2, 'shifted': lambda u, z: 0.6 + z / 2,
    'zeros of a relu': lambda u, z: np.maximum(z, 0) / 2,
    'two groups': lambda u, z: np.where(u > 0, 0.3 + 0.2 * u, -0.6 + 0.3 * u),
    'long tail': lambda u, z: np.exp(2 * z) / 20}


class NearLeastSquaresTest(parameterized.TestCase):
  """A change on the samples, against `numpy.linalg.lstsq` on the new knots."""

  @parameterized.product(rows=(32, 1000), dtype=(jnp.float32, jnp.float64))
  def test_within_the_bound(self, rows, dtype):
    """At most 1e-4 of the range, or twice least squares.

    On even columns one edge misses it, by 2.5: the rough sine on all of its
    grid, where least squares takes coefficients of nine times the values.
    """
    rng = np.random.default_rng(0)
    u, z = rng.uniform(-1, 1, rows), rng.normal(size=rows)
    x = np.stack([
        make(u, z) for make in (_SPREAD | _UNEVEN).values()], 1).astype(dtype)
    with jax.enable_x64(True):
      knots = bsplines.uniform_knots(x.shape[1], 5, 3, dtype=jnp.float64)
      points = np.tile(np.linspace(-1, 1, 200)[:, None], x.shape[1])
      coef = bsplines.fit_coef(
          points, np.stack([fn(points) for fn in _FUNCTIONS], -1), knots, 3)
      old = knots.astype(dtype), coef.astype(dtype)
      new = _update(jnp.asarray(x), *old, 3)
      # In float64, so that only the refit's own roundings are seen.
      before, after = (np.asarray(bsplines.evaluate(
          x.astype(np.float64), *(a.astype(jnp.float64) for a in spline), 3))
                       for spline in (old, new))
      design = np.asarray(bsplines.basis(
          x.astype(np.float64), new[0].astype(jnp.float64), 3))
    within, excess = [], []
    for i in range(x.shape[1]):
      best = design[:, i] @ np.linalg.lstsq(design[:, i], before[:, i])[0]
      least, error = (np.sqrt(np.mean((a - before[:, i])**2, 0))
                      for a in (best, after[:, i]))
      # Roundings, where a column is constant and the range is zero.
      floor = np.maximum(1e-4 * np.ptp(before[:, i], axis=0), 3e-5)
      within.append(error <= np.maximum(floor, 2 * least))
      excess.append(error / np.maximum(least, 1e-12))
    # Nor nearer than that asks: the sine on a part of its grid.
    self.assertGreater(excess[1][0], 1.2)
    even, uneven = np.split(np.array(within), [len(_SPREAD)])
    self.assertGreaterEqual(even.sum(), even.size - 1)
    # Fewer where few samples see the tails, for the same reason: 19 to 22.
    self.assertGreaterEqual(uneven.sum(), 18)
