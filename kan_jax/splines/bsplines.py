"""B-splines as pure functions of arrays: basis, evaluation, fit, insertion.

Everything is written for one spline per input, with the inputs side by side:
`knots[i]` are the knots of input `i`, and every edge that leaves an input
shares its basis. A spline of order k (its polynomial degree) with G intervals
on [lo, hi] has G + 2k + 1 knots, k of them beyond each end, and G + k basis
functions (de Boor, A Practical Guide to Splines, 1978, ch. IX; for KANs,
arXiv 2404.19756, section 2.2).
"""

from collections.abc import Sequence
import functools
import math
from typing import get_args
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax.splines import _least_squares
from kan_jax.splines import _polynomials

MAX_ORDER = 5

Outside = Literal['zero', 'clamp', 'linear', 'polynomial']


def check_order(order: int) -> None:
  """Raises a ValueError unless `order` is a whole number in 0..MAX_ORDER."""
  if not isinstance(order, int | np.integer) or not 0 <= order <= MAX_ORDER:
    raise ValueError(
        f'`order` is the degree of the splines, one of 0 to {MAX_ORDER}; got '
        f'{order!r}.')


def check_grid(grid: int) -> None:
  """Raises a ValueError unless `grid` is a whole number >= 1."""
  checks.check_whole('grid', grid, 1)


def check_range(grid_range: tuple[float, float]) -> None:
  """Raises a ValueError unless `grid_range` is finite and increasing."""
  low, high = grid_range
  if not (math.isfinite(low) and math.isfinite(high) and low < high):
    raise ValueError(
        '`grid_range` needs two finite numbers, the lower one first; got '
        f'{grid_range!r}.')


def check_outside(outside: str) -> None:
  """Raises a ValueError unless `outside` names a policy."""
  if outside not in get_args(Outside):
    raise ValueError(
        f'`outside` is one of {", ".join(get_args(Outside))}; got {outside!r}.')


def extend_knots(breaks: jax.Array, order: int) -> jax.Array:
  """Adds `order` knots beyond each end, at the mean spacing of the interior.

  Args:
    breaks: Strictly increasing interior knots, [..., grid + 1].
    order: Degree of the splines.

  Returns:
    Knots, [..., grid + 2 * order + 1].
  """
  check_order(order)
  low, high = breaks[..., :1], breaks[..., -1:]
  spacing = (high - low) / (breaks.shape[-1] - 1)
  steps = jnp.cumsum(jnp.repeat(spacing, order, axis=-1), axis=-1)
  return jnp.concatenate([low - steps[..., ::-1], breaks, high + steps], -1)


def uniform_knots(
    size: int, grid: int, order: int,
    grid_range: tuple[float, float] = (-1.0, 1.0),
    dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
  """Returns equally spaced knots, [size, grid + 2 * order + 1].

  Args:
    size: Number of inputs; all get the same knots.
    grid: Number of intervals on `grid_range`.
    order: Degree of the splines.
    grid_range: Ends of the grid, in the units of the input.
    dtype: Floating type of the knots.

  Raises:
    ValueError: If an argument is outside what its name allows.
  """
  check_grid(grid)
  check_range(grid_range)
  breaks = jnp.linspace(*grid_range, grid + 1, dtype=dtype)
  return jnp.tile(extend_knots(breaks, order), (size, 1))


def grid_and_order(knots: int, coefficients: int) -> tuple[int, int]:
  """Returns the number of intervals and the order of a spline.

  The order follows from sizes alone: there are order + 1 more knots than
  coefficients. Nothing is checked; impossible sizes give an impossible order.

  Args:
    knots: Number of its knots, grid + 2 * order + 1.
    coefficients: Number of its coefficients, grid + order.
  """
  order = knots - coefficients - 1
  return coefficients - order, order


def interior(knots: jax.Array, order: int) -> jax.Array:
  """Returns the knots from lo to hi, [..., grid + 1]: the grid itself."""
  return knots[..., order:knots.shape[-1] - order]


def basis(
    x: jax.Array, knots: jax.Array, order: int, *, derivative: int = 0,
    outside: Outside = 'zero') -> jax.Array:
  """Evaluates the B-splines of every input, or a derivative of them.

  Args:
    x: Inputs, [..., in].
    knots: Strictly increasing knots of each input, in the units of `x`,
      [in, grid + 2 * order + 1].
    order: Degree of the splines, 0 to 5. Static: the recursion is unrolled.
    derivative: Which derivative with respect to `x`; 0 is the value.
    outside: What a spline does beyond its grid [lo, hi]. 'zero' goes on as the
      B-splines do: it falls to zero within `order` more intervals, at once for
      order 0. 'clamp' keeps the value at the nearer end. 'linear' goes on
      along the tangent there, 'polynomial' with the piece of the nearer end:
      the closest to a smooth function up to about an interval further, and
      far out as large as a power of the distance.

  Returns:
    [..., in, grid + order]. Values sum to one on the closed range [lo, hi], and
    wherever `outside` is not 'zero'; they are >= 0 there but for 'linear' and
    'polynomial' beyond the grid. At a knot, a derivative that jumps is the one
    from the right; at `hi` it is the one from the left. Differentiable in `x`
    any number of times; `knots` count as constants.

  Raises:
    ValueError: If `knots` and `x` disagree on the number of inputs, or an
      argument is outside what is allowed.
  """
  check_order(order)
  check_outside(outside)
  if knots.shape[:-1] != x.shape[-1:]:
    raise ValueError(
        f'`knots` needs one row for each of the {x.shape[-1]} inputs in `x` '
        f'{x.shape}; got {knots.shape}. Was the grid made for another layer?')
  by_input = basis_by_input(
      x.reshape(-1, x.shape[-1]).T, knots, order, derivative=derivative,
      outside=outside)
  return jnp.moveaxis(by_input, -1, 0).reshape(*x.shape, by_input.shape[1])


# Compiled also where a caller is not: op by op it takes ten times as long.
@functools.partial(
    jax.jit, static_argnames=('order', 'derivative', 'outside'))
def basis_by_input(
    x: jax.Array, knots: jax.Array, order: int, *, derivative: int = 0,
    outside: Outside = 'zero', table: jax.Array | None = None) -> jax.Array:
  """Evaluates `basis` in the layout that layers work in: the batch comes last.

  The axis of the basis functions is short; with it last, a processor's vector
  units run mostly empty, and the recursion takes several times as long.

  Args:
    x: Inputs, [in, n].
    knots: [in, grid + 2 * order + 1].
    order: Degree of the splines.
    derivative: Which derivative with respect to `x`; 0 is the value.
    outside: What a spline does beyond its grid; see `basis`.
    table: `_polynomials.tabulate(knots, order)`, made here if it is not given.

  Returns:
    [in, grid + order, n].
  """
  if table is None:
    table = _polynomials.tabulate(knots, order)
  x = x.astype(jnp.promote_types(x.dtype, table.dtype))
  if outside == 'zero':
    return _polynomials.evaluate(x, table, order, derivative)
  low, high = knots[:, order, None], knots[:, -order - 1, None]
  nearest = jnp.where(x < low, low, jnp.where(x > high, high, x))
  if outside == 'polynomial':
    return _polynomials.evaluate(x, table, order, derivative, at=nearest)
  beyond = (x - nearest)[:, None]
  values = _polynomials.evaluate(nearest, table, order, derivative)
  if outside == 'linear' and derivative == 0:
    # Slopes at the two ends; far out, their roundings must cancel.
    ends = jax.lax.stop_gradient(cox_de_boor(
        jnp.concatenate([low, high], 1), knots, order, 1))
    return values + beyond * jnp.where(
        (x < low)[:, None], ends[..., :1], ends[..., 1:])
  if derivative == 0 or (outside == 'linear' and derivative == 1):
    return values
  return jnp.where(beyond == 0, values, 0)


def cox_de_boor(
    x: jax.Array, knots: jax.Array, order: int,
    derivative: int = 0) -> jax.Array:
  """The definition: the recursion, and its differences for a derivative.

  Slow, and here to be read and compared with: `basis_by_input` gives the same
  values from polynomials; see `_polynomials`.

  Args:
    x: Inputs, [in, n].
    knots: Strictly increasing knots, [in, grid + 2 * order + 1].
    order: Degree of the splines.
    derivative: Which derivative with respect to `x`; 0 is the value.

  Returns:
    [in, grid + order, n].
  """
  if derivative > order:
    return jnp.zeros_like(cox_de_boor(x, knots, order))
  x = x.astype(jnp.promote_types(x.dtype, knots.dtype))[:, None]
  knots = knots[..., None]
  values = _cells(x, knots, order)
  # Far from the knots every product below is 0 times something; keep that
  # something finite.
  x = jnp.clip(x, knots[:, :1], knots[:, -1:])
  for k in range(1, order + 1):
    span = 1 / (knots[:, k:] - knots[:, :-k])
    if k > order - derivative:
      slope = k * span * values
      values = slope[:, :-1] - slope[:, 1:]
    else:
      rise = (x - knots[:, :-k]) * span * values
      values = rise[:, :-1] + values[:, 1:] - rise[:, 1:]
  return values


def _cells(x: jax.Array, knots: jax.Array, order: int) -> jax.Array:
  """Order 0: which interval holds `x`; half-open, but `hi` ends the grid."""
  is_end = np.arange(knots.shape[1]) == knots.shape[1] - order - 1
  above = jnp.where(is_end[None, :, None], x > knots, x >= knots)
  return (above[:, :-1] & ~above[:, 1:]).astype(x.dtype)


def evaluate(
    x: jax.Array, knots: jax.Array, coef: jax.Array, order: int, *,
    derivative: int = 0, outside: Outside = 'zero') -> jax.Array:
  """Evaluates the spline on every edge, or a derivative of it.

  Args:
    x: Inputs, [..., in].
    knots: [in, grid + 2 * order + 1].
    coef: Coefficients of each edge, [in, grid + order, out].
    order: Degree of the splines.
    derivative: Which derivative with respect to `x`; 0 is the value.
    outside: What happens beyond the grid; see `basis`.

  Returns:
    [..., in, out], one value per edge: meant for a few edges or rows. A layer
    contracts the basis instead and never makes this array.
  """
  check_coef(knots, coef, order)
  values = basis(x, knots, order, derivative=derivative, outside=outside)
  return jnp.einsum('...ig,igo->...io', values, coef, precision='highest')


def check_coef(knots: jax.Array, coef: jax.Array, order: int) -> None:
  """Raises a ValueError unless `coef` has a row for each basis function."""
  expected = (knots.shape[0], knots.shape[-1] - order - 1)
  if coef.shape[:2] != expected:
    raise ValueError(
        f'`coef` needs the shape (in, grid + order, out) = {expected} + (out,) '
        f'for knots {knots.shape} of order {order}; got {coef.shape}.')


@functools.partial(jax.jit, static_argnames=('order', 'outside'))
def fit_coef(
    x: jax.Array, y: jax.Array, knots: jax.Array, order: int, *,
    outside: Outside = 'zero') -> jax.Array:
  """Fits a spline on every edge to samples by least squares.

  Args:
    x: Samples of each input, [n, in]. Any number of rows: what they leave open
      goes to the spline of least mean square on the grid.
    y: Wanted values on each edge, [n, in, out].
    knots: [in, grid + 2 * order + 1].
    order: Degree of the splines.
    outside: What the spline does beyond its grid; see `basis`.

  Returns:
    Coefficients, [in, grid + order, out].

  Raises:
    ValueError: If `x` has no rows or `y` does not have one value for each.
  """
  if x.ndim != 2 or not x.shape[0] or y.shape[:2] != x.shape:
    raise ValueError(
        '`x` needs samples as [n, in], n >= 1, and `y` values as [n, in, out]; '
        f'got {x.shape} and {y.shape}.')
  values = basis_by_input(x.T, knots, order, outside=outside)
  rhs = jnp.einsum('ign,nio->igo', values, y, precision='highest') / x.shape[0]
  points, weights = _least_squares.quadrature(interior(knots, order), order)
  prior = basis_by_input(points, knots, order)
  return _least_squares.damped_solve(
      _least_squares.gram_matrix(values, values) / x.shape[0], rhs,
      _least_squares.gram_matrix(prior * weights[:, None], prior),
      jnp.zeros_like(rhs),
      # The prior, zero, is no guess here: let little of it remain.
      weight=math.sqrt(float(jnp.finfo(values.dtype).eps)), steps=32)


def insert_knots(
    knots: jax.Array, coef: jax.Array, order: int, new_knots: jax.Array,
    parents: Sequence[int] | np.ndarray) -> jax.Array:
  """Returns the coefficients of the same splines on a finer grid.

  Exact knot insertion: a coefficient is the blossom of the polynomial piece
  under its B-spline, at the knots inside that B-spline's support (Ramshaw,
  Blossoms are polar forms, 1989); the arguments of de Boor's recursion change
  from level to level. Linear in `coef`.

  Args:
    knots: Old knots, [in, grid + 2 * order + 1].
    coef: Their coefficients, [in, grid + order, out].
    order: Degree of the splines.
    new_knots: New knots, [in, len(parents) + 2 * order + 1], with each break
      of the old grid among the breaks of the new one, and the same knots
      beyond the ends.
    parents: For each new interval, the old one that it is a part of.

  Returns:
    [in, len(parents) + order, out], of the same splines everywhere.
  """
  check_coef(knots, coef, order)
  index = np.arange(len(parents) + order)
  # Of the pieces under a B-spline, the middle one that is inside the grid.
  middle = np.clip(index - order + order // 2, 0, len(parents) - 1)
  first = np.asarray(parents)[middle]
  blossoms = [coef[:, first + i] for i in range(order + 1)]
  for level in range(1, order + 1):
    point = new_knots[:, index + level]
    for i in range(order, level - 1, -1):
      left = knots[:, first + i]
      right = knots[:, first + i + order + 1 - level]
      part = ((point - left) / (right - left))[..., None]
      blossoms[i] = (1 - part) * blossoms[i - 1] + part * blossoms[i]
  return blossoms[order]
