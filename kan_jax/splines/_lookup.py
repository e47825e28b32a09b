"""Splines by local support, for many intervals: the cost ignores their number.

In each interval order + 1 B-splines are not zero (de Boor, A Practical Guide to
Splines, 1978, ch. X). Where a grid has hundreds of intervals, looking up their
coefficients beats a product with all of them.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

from kan_jax.splines import bsplines


def find(
    x: jax.Array, knots: jax.Array, order: int,
    outside: bsplines.Outside = 'zero') -> jax.Array:
  """Finds the interval between two knots that holds each input.

  Half-open, but the upper end of the grid belongs to the grid.

  Args:
    x: Inputs, [in, n].
    knots: Strictly increasing knots, [in, grid + 2 * order + 1].
    order: Degree of the splines.
    outside: What a spline does beyond its grid; see `splines.basis`. Inputs
      beyond it count to the nearest interval that their value is taken from.

  Returns:
    Numbers in [0, grid + 2 * order), [in, n].
  """
  x, knots = jax.lax.stop_gradient((_inside(x, knots, order, outside), knots))
  above = jax.vmap(lambda row, x: jnp.searchsorted(row, x, side='right'))(
      knots, x)
  end = knots.shape[1] - order - 1
  above = jnp.where(x == knots[:, end, None], end, above)
  return (above - 1).clip(0, knots.shape[1] - 2)


def _inside(
    x: jax.Array, knots: jax.Array, order: int,
    outside: bsplines.Outside) -> jax.Array:
  """The nearest point where a spline is evaluated by its B-splines."""
  if outside == 'zero':
    return jnp.clip(x, knots[:, :1], knots[:, -1:])  # So nothing overflows.
  low, high = knots[:, order, None], knots[:, -order - 1, None]
  return jnp.where(x < low, low, jnp.where(x > high, high, x))


def values(
    x: jax.Array, cell: jax.Array, knots: jax.Array, order: int,
    outside: bsplines.Outside = 'zero') -> tuple[jax.Array, jax.Array]:
  """Evaluates the B-splines that are not zero.

  Args:
    x: Inputs, [in, n].
    cell: Where `find` found them, [in, n].
    knots: Strictly increasing knots, [in, grid + 2 * order + 1].
    order: Degree of the splines.
    outside: What a spline does beyond its grid; see `splines.basis`.

  Returns:
    The number of the first of order + 1 neighbouring B-splines, [in, n], and
    the values of these, [in, order + 1, n]; all others are zero. Differentiable
    in `x` any number of times; `knots` count as constants.
  """
  knots = jax.lax.stop_gradient(knots)
  x = x.astype(jnp.promote_types(x.dtype, knots.dtype))
  nearest = _inside(x, knots, order, outside)
  # Intervals beyond the outermost knots, for B-splines that do not exist.
  step = knots[:, 1:2] - knots[:, :1], knots[:, -1:] - knots[:, -2:-1]
  far = jnp.arange(1, order + 1, dtype=knots.dtype)[None]
  padded = jnp.concatenate([
      knots[:, :1] - far[:, ::-1] * step[0], knots,
      knots[:, -1:] + far * step[1]], 1)
  around = [jnp.take_along_axis(padded, cell + i, 1)
            for i in range(1, 2 * order + 1)]

  def of(x):
    return jnp.stack(_recursion(x, around, order), 1)

  if outside == 'linear':
    splines, slope = jax.jvp(of, (nearest,), (jnp.ones_like(nearest),))
    splines += (x - nearest)[:, None] * slope
  else:
    splines = of(x if outside == 'polynomial' else nearest)
  if outside == 'zero':
    splines = jnp.where(
        ((x < knots[:, :1]) | (x > knots[:, -1:]))[:, None], 0, splines)
  # Near the outermost knots, those that do not exist make room for zeros.
  first = (cell - order).clip(0, knots.shape[1] - 2 * order - 2)
  shift = first - (cell - order)
  return first, jnp.stack([
      sum(jnp.where(shift == s - r, splines[:, s], 0) for s in range(order + 1))
      for r in range(order + 1)], 1)


def _recursion(
    x: jax.Array, around: list[jax.Array], order: int) -> list[jax.Array]:
  """De Boor's triangle; `around` has the 2 * order knots next to `x`."""
  triangle = [jnp.ones_like(x)]
  for k in range(1, order + 1):
    saved = jnp.zeros_like(x)
    raised = []
    for r in range(k):
      left, right = around[order + r - k], around[order + r]
      part = triangle[r] / (right - left)
      raised.append(saved + (right - x) * part)
      saved = (x - left) * part
    triangle = [*raised, saved]
  return triangle


def sums(
    x: jax.Array, knots: jax.Array, scale: jax.Array, coef: jax.Array,
    order: int, outside: bsplines.Outside = 'zero') -> jax.Array:
  """Sums the splines of all edges over their inputs.

  Args:
    x: Inputs, [in, n].
    knots: Strictly increasing knots, [in, grid + 2 * order + 1]. They count as
      constants.
    scale: Factor of each spline, [in, out].
    coef: Coefficients, [in, grid + order, out].
    order: Degree of the splines.
    outside: What a spline does beyond its grid; see `splines.basis`.

  Returns:
    [n, out] in the type of `coef`.
  """
  return _sums(x, find(x, knots, order, outside), knots, scale, coef, order,
               outside)


@functools.partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def _sums(x, cell, knots, scale, coef, order, outside):
  first, value = values(x, cell, knots, order, outside)
  return over_inputs(
      lambda first, value, scale, coef: scale[None] * _combine(
          first, value, coef), first, value, scale, coef)


@_sums.defjvp
def _sums_jvp(order, outside, primals, tangents):
  """By slopes: what comes back to an input is one sum over the outputs."""
  x, cell, knots, scale, coef = primals
  x_tangent, _, _, scale_tangent, coef_tangent = tangents

  def of_inputs(x):
    first, value = values(x, cell, knots, order, outside)
    return value, first

  value, slope, first = jax.jvp(
      of_inputs, (x,), (jnp.ones_like(x),), has_aux=True)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def along_x(first, slope, scale, coef, x_tangent):
    # Broadcast by a product, as in `_polynomials`: transposed, it is one, too.
    moved = jax.lax.dot_general(
        x_tangent[:, None].astype(coef.dtype),
        jnp.ones((1, coef.shape[1]), coef.dtype),
        (((1,), (0,)), ((), ())), precision='highest')
    return scale[None] * _combine(first, slope, coef) * moved

  def along_weight(first, value, scale, coef, scale_tangent, coef_tangent):
    # In groups of rows: transposed, that is one scatter, not a sum of several.
    rows = jax.lax.gather(
        scale_tangent[None] * coef + scale[None] * coef_tangent,
        first[:, None], jax.lax.GatherDimensionNumbers((1, 2), (), (0,)),
        (order + 1, coef.shape[1]), mode='promise_in_bounds')
    return (value.T.astype(rows.dtype)[..., None] * rows).sum(1)

  return _sums(*primals, order, outside), (
      over_inputs(along_x, first, slope, scale, coef, x_tangent)
      + over_inputs(along_weight, first, value, scale, coef, scale_tangent,
                    coef_tangent))


def _combine(
    first: jax.Array, value: jax.Array, coef: jax.Array) -> jax.Array:
  """Splines of one input: [n], [order + 1, n], [.., out] -> [n, out]."""
  # One B-spline at a time: XLA gathers and scatters rows several times as fast
  # as groups of them.
  return sum(
      factor[:, None].astype(coef.dtype)
      * coef.at[first + r].get(mode='promise_in_bounds')
      for r, factor in enumerate(value))


def over_inputs(
    fn: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
  """Adds up `fn` of one input after the other; the first axis counts them."""
  start = jnp.zeros_like(fn(*(a[0] for a in arrays)))
  return jax.lax.scan(
      lambda total, one: (total + fn(*one), None), start, arrays)[0]
