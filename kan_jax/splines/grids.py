"""Grids that follow the data: new knots from samples, and the refit.

The grid update of arXiv 2404.19756, section 2.4 and appendix A, extended to
every column of samples: also to one that is constant, binary, tiny, huge, or
shorter than the number of coefficients.
"""

import dataclasses
import functools
import numbers
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _least_squares
from kan_jax.splines import bsplines

# A refit may change a function on its samples by this part of its range, ...
_SMALL = 1e-4
# ... or by so many times what least squares leaves. Twice is the promise; the
# least error that is known here is itself a little above that.
_TIMES = 1.7
# It may not let the coefficients grow by more than this factor, ...
_GROWTH = 1.3
# ... or, where that is more, to this multiple of the largest value on a sample.
_REACH = 3.0
# Most edge values that are computed at a time: 128 KiB in float32.
_CHUNK = 2**15


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridUpdate:
  """How a grid update places the knots of a layer. Hashable, so static in jit.

  Attributes:
    eps: Blend between knots spaced uniformly between the extreme samples, 1,
      and knots with equally many samples in each interval, 0.
    margin: Reach of the grid beyond the extreme samples on each side, as a part
      of their range, >= 0.
    min_width: Least width of the whole grid, in the units of the inputs, > 0:
      what a constant column gets.
    min_interval: Least width of one interval, as a part of the uniform one, in
      (0, 1]: what quantiles that coincide get.
    rate: Part of the way that knots move to those of the samples, in (0, 1];
      below 1, a grid remembers other batches. See `move_knots`.

  Raises:
    ValueError: If a number is out of its range.
  """
  eps: float = 1.0
  margin: float = 0.01
  min_width: float = 0.02
  min_interval: float = 0.01
  rate: float = 1.0

  def __post_init__(self):
    if not _lies(self.eps, 0, 1):
      raise ValueError(
          '`eps` blends quantile knots (0) with uniform ones (1), and lies '
          f'between them; got {self.eps!r}.')
    if not _lies(self.margin, 0, sys.float_info.max):
      raise ValueError(
          '`margin` is a part of the range of the samples, finite and >= 0; '
          f'got {self.margin!r}.')
    if not self.min_width or not _lies(self.min_width, 0, sys.float_info.max):
      raise ValueError(
          '`min_width` is a width in the units of the inputs, finite and > 0; '
          f'got {self.min_width!r}.')
    if not self.min_interval or not _lies(self.min_interval, 0, 1):
      raise ValueError(
          '`min_interval` is a part of the uniform interval in (0, 1]; got '
          f'{self.min_interval!r}.')
    _check_rate(self.rate)


def _lies(value: Any, least: float, most: float) -> bool:
  """Whether `value` is a number in the closed range."""
  return isinstance(value, numbers.Real) and least <= float(value) <= most


def _check_rate(rate: float) -> None:
  if not rate or not _lies(rate, 0, 1):
    raise ValueError(f'`rate` is a part of the way in (0, 1]; got {rate!r}.')


_DEFAULT = GridUpdate()


def knots_from_samples(
    x: jax.Array, grid: int, order: int, *,
    grid_update: GridUpdate = _DEFAULT) -> jax.Array:
  """Returns knots that cover the samples of each input.

  Args:
    x: Samples, [n, in], n >= 1.
    grid: Number of intervals.
    order: Degree of the splines.
    grid_update: How the knots are placed; its `rate` is not used.

  Returns:
    Strictly increasing knots, [in, grid + 2 * order + 1], in the dtype of `x`.
    An input with a sample that is not finite, or whose range overflows, gets
    knots that are not finite: `update_grid` then keeps the old ones.

  Raises:
    ValueError: If there are no samples.
  """
  if x.ndim != 2 or not x.shape[0]:
    raise ValueError(
        f'`x` needs samples as [n, in] with n >= 1; got the shape {x.shape}.')
  # The least interval is a blend with the uniform grid, too.
  blend = (grid_update.min_interval
           + (1 - grid_update.min_interval) * grid_update.eps)
  low, high = x.min(0), x.max(0)
  half = jnp.maximum(
      (high - low) * (0.5 + grid_update.margin), grid_update.min_width / 2)
  # Far from zero, intervals must also outgrow the spacing of the floats.
  largest = jnp.maximum(jnp.abs(low), jnp.abs(high))
  half = jnp.maximum(
      half, 4 * float(jnp.finfo(x.dtype).eps) * grid / blend * largest)
  low, high = low + (high - low) / 2 - half, low + (high - low) / 2 + half
  breaks = jnp.linspace(low, high, grid + 1, axis=-1)
  if blend < 1:
    rows = x.shape[0] * np.arange(1, grid) // grid
    inner = jnp.sort(x, axis=0)[rows].T
    quantiles = jnp.concatenate([low[:, None], inner, high[:, None]], -1)
    breaks = blend * breaks + (1 - blend) * quantiles
  return bsplines.extend_knots(breaks, order)


def move_knots(
    knots: jax.Array, target: jax.Array, order: int, rate: float) -> jax.Array:
  """Moves knots a part of the way, but their ends far enough to cover.

  One batch is a noisy sample of the range. With a rate below 1, a grid widens
  at once and narrows slowly, so that it still covers what other batches need.

  Args:
    knots: Strictly increasing knots, [in, grid + 2 * order + 1].
    target: Where to, of the same shape, strictly increasing.
    order: Degree of the splines.
    rate: Part of the way, in (0, 1]; 1 returns `target`.
  """
  _check_rate(rate)
  if rate == 1:
    return target
  old, new = (bsplines.interior(k, order) for k in (knots, target))
  breaks = old + rate * (new - old)  # A blend of two increasing rows.
  low = jnp.minimum(breaks[:, :1], new[:, :1])
  high = jnp.maximum(breaks[:, -1:], new[:, -1:])
  return bsplines.extend_knots(
      jnp.concatenate([low, breaks[:, 1:-1], high], 1), order)


def refit(
    x: jax.Array, knots: jax.Array, coef: jax.Array, new_knots: jax.Array,
    order: int, *, outside: bsplines.Outside = 'zero') -> jax.Array:
  """Returns coefficients on `new_knots` that keep the function of each edge.

  Bare least squares does not do: samples see only the tails of the outermost
  B-splines, whose coefficients would grow from update to update without bound.
  So the old function, on the new grid and beyond its ends, is a prior. How much
  it weighs is decided for each edge by the discrepancy principle (Morozov 1966;
  Engl, Hanke and Neubauer, Regularization of Inverse Problems, 1996, section
  4.3): as much as the error on the samples allows.

  Args:
    x: Samples, [n, in].
    knots: Old knots, [in, grid + 2 * order + 1].
    coef: Old coefficients, [in, grid + order, out].
    new_knots: New knots, of the shape of the old ones.
    order: Degree of the splines.
    outside: What the splines do beyond their grid; see `splines.basis`.

  Returns:
    New coefficients, [in, grid + order, out]. On the samples a function changes
    by at most 1e-4 of its range, or by twice what least squares on the new
    knots would leave, in root mean square and in maximum. It may change by more
    where that would take coefficients that are larger than 1.3 times the old
    ones and than 3 times the largest value on a sample, and where rounding
    leaves more, as for nearly constant columns. Unchanged knots leave `coef` as
    it is to the last bit.
  """
  changes = _candidates(x.T, knots, coef, new_knots, order, outside)
  # Twice as many points as coefficients: on all samples the choice would be no
  # better, and take several times as long.
  points = _spread(x.T, 2 * coef.shape[1])
  mean, most, limit, largest = _errors(
      points, knots, coef, new_knots, changes, order, outside)

  # Which candidates are near enough, and which have grown too much.
  near = jnp.ones(mean.shape, bool)
  for error in mean, most:
    near &= error <= jnp.maximum(
        limit, _TIMES * error.min(0, keepdims=True))
  before = jnp.abs(coef).max(1)[None]
  sizes = jnp.abs(coef[None] + changes).max(2)
  bounded = sizes <= jnp.maximum(_GROWTH * before, _REACH * largest)
  # The first is damped most. Fewer samples than coefficients may cost more.
  bounded = bounded.at[0].set(True) | (x.shape[0] < coef.shape[1])

  # The first candidate that is both; else the nearest that is bounded.
  both = near & bounded
  best = jnp.where(both.any(0), both.argmax(0),
                   jnp.where(bounded, mean, jnp.inf).argmin(0))
  change = jnp.take_along_axis(changes, best[None, :, None], 0)[0]
  # Two equal bases may be rounded differently, each where it is used.
  moved = (knots != new_knots).any(-1)[:, None, None]
  return coef + jnp.where(moved, change, 0)


def _candidates(
    x: jax.Array, knots: jax.Array, coef: jax.Array, new_knots: jax.Array,
    order: int, outside: bsplines.Outside) -> jax.Array:
  """Solves for changes of the coefficients, with a prior that weighs less.

  The systems are driven by the change of the basis, and no array of
  n x in x out is made.

  Returns:
    [3 or 4, in, grid + order, out]: damped most first; the last is as near to
    least squares as the type allows.
  """
  # The change is linear in the old coefficients. If outputs are many, solve for
  # the matrix that they have in common.
  shared = coef.shape[2] > coef.shape[1]

  def equations(points, weights, outside, basis_outside):
    new = bsplines.basis_by_input(points, new_knots, order, outside=outside)
    old = bsplines.basis_by_input(points, knots, order, outside=outside)
    basis = bsplines.basis_by_input(
        points, new_knots, order, outside=basis_outside)
    weighted = basis * weights[:, None]
    drive = _least_squares.gram_matrix(weighted, old - new)
    return (_least_squares.gram_matrix(weighted, basis),
            drive if shared else jnp.matmul(drive, coef, precision='highest'))

  def prior(breaks):
    # B-splines that fall to zero beyond the ends, whatever `outside` is, and a
    # target that stays bounded there.
    return equations(*_least_squares.quadrature(breaks, order),
                     'zero' if outside == 'zero' else 'clamp', 'zero')

  samples = equations(x, jnp.full_like(x, 1 / x.shape[1]), outside, outside)
  wide, narrow = prior(new_knots), prior(bsplines.interior(new_knots, order))
  # The less the prior weighs, the less it looks beyond the ends of the grid.
  middle = tuple((a + b) / 2 for a, b in zip(wide, narrow, strict=True))
  priors, weights = [wide, middle, narrow], [1, 0.05, 2e-3]
  if coef.dtype == jnp.float64:  # Float32 does not reach further.
    priors, weights = [*priors, narrow], [*weights, 9e-8]
  # All at once: on a CPU with few cores, LAPACK calls that run side by side can
  # wait for each other without end (jaxlib 0.10).
  count = len(priors)
  changes = _least_squares.damped_solve(
      *(jnp.concatenate([part] * count) for part in samples),
      *(jnp.concatenate(parts) for parts in zip(*priors, strict=True)),
      weight=jnp.repeat(jnp.asarray(weights, coef.dtype), len(coef))[
          :, None, None], steps=16)
  changes = changes.reshape(count, len(coef), *changes.shape[1:])
  return (jnp.matmul(changes, coef, precision='highest') if shared else changes)


def _spread(x: jax.Array, count: int) -> jax.Array:
  """Returns samples [in, count] that lie all over the range of samples [in, n].

  The extremes are among them. Found by comparing alone, so that rows may be on
  many devices.
  """
  low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
  places = low + (high - low) * jnp.linspace(0, 1, count, dtype=x.dtype)[None]
  above = jnp.where(
      x[:, None] >= places[..., None], x[:, None], jnp.inf).min(-1)
  return jnp.minimum(above, high)


def _errors(
    points: jax.Array, knots: jax.Array, coef: jax.Array, new_knots: jax.Array,
    changes: jax.Array, order: int, outside: bsplines.Outside) -> tuple[
        jax.Array, jax.Array, jax.Array, jax.Array]:
  """Measures on points [in, p] how far changes move the function of each edge.

  Sums of products of the bases would do without points, but in float32 not tell
  a change of 1e-4 from none.

  Returns:
    Root mean square and maximum of the error, [changes, in, out]; the error
    that counts as none and the largest value, [1, in, out].
  """
  multiply = functools.partial(jnp.einsum, precision='highest')
  eps = float(jnp.finfo(coef.dtype).eps)

  def measure(arrays):
    old, new, coef, changes = arrays  # Of one input.
    values = multiply('gn,go->on', old, coef)
    both = jnp.concatenate(
        [jnp.broadcast_to(coef[None], changes.shape), changes], 1)
    error = multiply('cgo,gn->con', both, jnp.concatenate([old - new, -new]))
    limit = jnp.maximum(_SMALL / 2 * jnp.ptp(values, 1),
                        eps**(2 / 3) * jnp.abs(coef).max(0))
    return (jnp.sqrt(jnp.square(error).mean(2)), jnp.abs(error).max(2),
            limit[None], jnp.abs(values).max(1)[None])

  arrays = (*(bsplines.basis_by_input(points, k, order, outside=outside)
              for k in (knots, new_knots)), coef, jnp.moveaxis(changes, 0, 1))
  # Few inputs at a time: what they need stays in a processor's cache.
  size = max(1, _CHUNK // (points.shape[1] * coef.shape[2]))
  measured = (jax.vmap(measure)(arrays) if size >= len(points)
              else jax.lax.map(measure, arrays, batch_size=size))
  mean, most, limit, largest = (jnp.moveaxis(a, 1, 0) for a in measured)
  return mean, most, limit, largest


@functools.partial(
    jax.jit, static_argnames=('order', 'outside', 'grid_update'))
def update_grid(
    x: jax.Array, knots: jax.Array, coef: jax.Array, order: int, *,
    outside: bsplines.Outside = 'zero',
    grid_update: GridUpdate = _DEFAULT) -> tuple[jax.Array, jax.Array]:
  """Moves the knots of one layer to the samples and refits its coefficients.

  Args:
    x: Samples that the layer sees, [n, in].
    knots: Knots of the layer, [in, grid + 2 * order + 1].
    coef: Coefficients of the layer, [in, grid + order, out].
    order: Degree of the splines.
    outside: What the splines do beyond their grid; see `splines.basis`.
    grid_update: How the knots are placed, and how far they move.

  Returns:
    New knots and coefficients, in the shapes and dtypes of the old ones. An
    input keeps its old ones where the new ones would not be finite.
  """
  bsplines.check_coef(knots, coef, order)
  x = x.astype(knots.dtype)
  grid = knots.shape[-1] - 2 * order - 1
  target = knots_from_samples(x, grid, order, grid_update=grid_update)
  new_knots = move_knots(knots, target, order, grid_update.rate)
  new_coef = refit(
      x, knots, coef.astype(knots.dtype), new_knots, order, outside=outside)
  sound = (jnp.isfinite(new_knots).all(-1)
           & jnp.isfinite(new_coef).all((-2, -1)))
  return (jnp.where(sound[:, None], new_knots, knots),
          jnp.where(sound[:, None, None], new_coef.astype(coef.dtype), coef))


@functools.partial(jax.jit, static_argnames=('order', 'grid'))
def refine_grid(
    knots: jax.Array, coef: jax.Array, order: int, grid: int) -> tuple[
        jax.Array, jax.Array]:
  """Splits the intervals of one layer's grids and keeps its functions.

  Old breaks stay, so nothing is approximated (pykan interpolates the knots and
  fits anew). Each interval is cut into equal parts; their number differs by at
  most one between intervals. The knots beyond the ends stay, too. A later grid
  update gives all of them the usual spacing again.

  Args:
    knots: [in, old grid + 2 * order + 1].
    coef: [in, old grid + order, out].
    order: Degree of the splines.
    grid: New number of intervals, at least the old one.

  Returns:
    Knots [in, grid + 2 * order + 1] and coefficients [in, grid + order, out] of
    the same functions, on the grid and beyond it.

  Raises:
    ValueError: If `grid` is less than the old number of intervals.
  """
  bsplines.check_grid(grid)
  breaks = bsplines.interior(knots, order)
  old = breaks.shape[-1] - 1
  if grid < old:
    raise ValueError(
        f'`grid` must be at least the {old} intervals that there are; got '
        f'{grid}.')
  counts = np.diff(np.arange(old + 1) * grid // old)
  parents = np.repeat(np.arange(old), counts)
  part = np.concatenate([np.arange(count) / count for count in counts])
  inner = breaks[:, parents] + (
      jnp.diff(breaks)[:, parents] * jnp.asarray(part, knots.dtype)[None])
  # The knots beyond the ends stay, and with them what the splines do there.
  new_knots = jnp.concatenate(
      [knots[:, :order], inner, knots[:, old + order:]], 1)
  return new_knots, bsplines.insert_knots(
      knots, coef, order, new_knots, parents)
