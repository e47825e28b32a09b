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

from kan_jax.splines import bases
from kan_jax.splines import bsplines


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
    inner = jnp.sort(x.T)[:, rows]  # Accelerators sort rows.
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
    order: int, *, outside: bsplines.Outside = 'zero',
    basis: bases.Name = 'bspline') -> jax.Array:
  """Returns coefficients on `new_knots` that keep the function of each edge.

  Where the new splines can repeat an old one on the samples, they do. Otherwise
  the coefficients are a damped least-squares fit. The samples see only the
  tails of the outermost B-splines; without damping, the coefficients of these
  would grow without bound from update to update. So the old function counts,
  too, on the new grid and beyond its ends, as much as the error on the samples
  allows.

  Args:
    x: Samples, [n, in].
    knots: Old knots, [in, grid + 2 * order + 1].
    coef: Old coefficients, [in, grid + order, out].
    new_knots: New knots, of the shape of the old ones.
    order: Degree of the splines.
    outside: What the splines do beyond their grid; see `splines.basis`.
    basis: What the functions are made of. What follows is of B-splines; others
      take least squares on the samples, and a little on the whole new grid.

  Returns:
    New coefficients, [in, grid + order, out]. Unchanged knots leave `coef` as
    it is to the last bit. Exact on the samples where the new splines can
    represent the old ones there, as for polynomials or for fewer distinct
    samples than coefficients. Else the root mean square of the change on the
    samples is mostly at most 1e-4 of the range of the function, or twice what
    least squares on the new knots would leave. It is more where that takes
    coefficients larger than the old ones and than 1.5 times the largest value
    on the samples, as for rough functions and where few samples see the tails.
    In float32, exact means to 1e-4 of the range, and it is not exact where
    rounding hides the function, most of all far away with orders other than 3.
    Nor is it where the coefficients would have to grow more than values at both
    ends of the samples do, as near the old grid with 'linear' and 'polynomial'
    pieces.
  """
  return bases.find(basis).refit(
      x, knots, coef, new_knots, order, outside=outside)


@functools.partial(
    jax.jit, static_argnames=('order', 'outside', 'grid_update', 'basis'))
def update_grid(
    x: jax.Array, knots: jax.Array, coef: jax.Array, order: int, *,
    outside: bsplines.Outside = 'zero', grid_update: GridUpdate = _DEFAULT,
    basis: bases.Name = 'bspline') -> tuple[jax.Array, jax.Array]:
  """Moves the knots of one layer to the samples and refits its coefficients.

  Args:
    x: Samples that the layer sees, [n, in].
    knots: Knots of the layer, [in, grid + 2 * order + 1].
    coef: Coefficients of the layer, [in, grid + order, out].
    order: Degree of the splines.
    outside: What the splines do beyond their grid; see `splines.basis`.
    grid_update: How the knots are placed, and how far they move.
    basis: What the functions are made of.

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
      x, knots, coef.astype(knots.dtype), new_knots, order, outside=outside,
      basis=basis)
  sound = (jnp.isfinite(new_knots).all(-1)
           & jnp.isfinite(new_coef).all((-2, -1)))
  return (jnp.where(sound[:, None], new_knots, knots),
          jnp.where(sound[:, None, None], new_coef.astype(coef.dtype), coef))


@functools.partial(jax.jit, static_argnames=('order', 'grid', 'basis'))
def refine_grid(
    knots: jax.Array, coef: jax.Array, order: int, grid: int,
    basis: bases.Name = 'bspline') -> tuple[jax.Array, jax.Array]:
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
    basis: What the functions are made of. Chebyshev polynomials of higher
      degree begin at zero.

  Returns:
    Knots [in, grid + 2 * order + 1] and coefficients [in, grid + order, out] of
    the same functions, on the grid and beyond it.

  Raises:
    ValueError: If `grid` is less than the old number of intervals, or no finer
      grid keeps functions of this basis.
  """
  bases.check_refine(basis)
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
  return new_knots, bases.find(basis).refine(
      knots, coef, order, new_knots, parents)
