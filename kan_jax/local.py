"""Splines by local support, for many intervals: the cost ignores their number.

In each interval order + 1 B-splines are not zero (de Boor, A Practical Guide to
Splines, 1978, ch. X). Where a grid has hundreds of intervals, looking up their
coefficients beats a product with all of them.
"""

import jax
import jax.numpy as jnp

from kan_jax import splines


def values(
    x: jax.Array, knots: jax.Array, order: int,
    outside: splines.Outside = 'zero') -> tuple[jax.Array, jax.Array]:
  """Evaluates the B-splines that are not zero.

  Args:
    x: Inputs, [in, n].
    knots: Strictly increasing knots, [in, grid + 2 * order + 1].
    order: Degree of the splines.
    outside: What a spline does beyond its grid; see `splines.basis`.

  Returns:
    Which B-splines, and their values, both [order + 1, in, n]. Where a value is
    zero for want of a B-spline, its number is any that exists. Differentiable
    in `x` any number of times; `knots` count as constants.
  """
  knots = jax.lax.stop_gradient(knots)
  x = x.astype(jnp.promote_types(x.dtype, knots.dtype))
  low, high = knots[:, order, None], knots[:, -order - 1, None]
  if outside == 'zero':
    first, last = knots[:, :1], knots[:, -1:]
    nearest = jnp.clip(x, first, last)  # Far away nothing may overflow.
  else:
    first, last = low, high
    nearest = jnp.where(x < low, low, jnp.where(x > high, high, x))
  cell = _cells(jax.lax.stop_gradient(nearest), knots, order)
  # Intervals beyond the outermost knots, for B-splines that do not exist.
  step = knots[:, 1:2] - knots[:, :1], knots[:, -1:] - knots[:, -2:-1]
  far = jnp.arange(1, order + 1, dtype=knots.dtype)[None]
  padded = jnp.concatenate([
      knots[:, :1] - far[:, ::-1] * step[0], knots,
      knots[:, -1:] + far * step[1]], 1)
  around = [jnp.take_along_axis(padded, cell + i, 1)
            for i in range(1, 2 * order + 1)]

  def of(x):
    return jnp.stack(_recursion(x, around, order))

  if outside == 'linear':
    found, slope = jax.jvp(of, (nearest,), (jnp.ones_like(nearest),))
    found += (x - nearest)[None] * slope
  else:
    found = of(nearest)
  number = (cell - order)[None] + jnp.arange(order + 1)[:, None, None]
  size = knots.shape[1] - order - 1
  exists = (number >= 0) & (number < size)
  if outside == 'zero':
    exists &= ~((x < first) | (x > last))[None]
  return number.clip(0, size - 1), jnp.where(exists, found, 0)


def _cells(x: jax.Array, knots: jax.Array, order: int) -> jax.Array:
  """Which interval holds `x`; half-open, but `hi` ends the grid, [in, n]."""
  last = knots.shape[1] - 2
  cell = jax.vmap(lambda row, x: jnp.searchsorted(row, x, side='right'))(
      knots, x) - 1
  end = knots.shape[1] - order - 1
  cell = jnp.where(x == knots[:, end, None], end - 1, cell)
  return cell.clip(0, last)


def _recursion(
    x: jax.Array, around: list[jax.Array], order: int) -> list[jax.Array]:
  """De Boor's triangle; `around` has the 2 * order knots next to `x`."""
  found = [jnp.ones_like(x)]
  for k in range(1, order + 1):
    saved = jnp.zeros_like(x)
    raised = []
    for r in range(k):
      left, right = around[order + r - k], around[order + r]
      part = found[r] / (right - left)
      raised.append(saved + (right - x) * part)
      saved = (x - left) * part
    found = [*raised, saved]
  return found


def sums(number: jax.Array, value: jax.Array, weight: jax.Array) -> jax.Array:
  """Sums over inputs the few B-splines that are not zero.

  Args:
    number: Which they are, [order + 1, in, n].
    value: Their values, [order + 1, in, n].
    weight: Of all B-splines, [in, grid + order, out].

  Returns:
    [n, out].
  """
  # One B-spline at a time: XLA gathers and scatters rows several times as fast
  # as groups of them.
  def of_input(number, value, weight):
    total = jnp.zeros((value.shape[1], weight.shape[1]), weight.dtype)
    for which, factor in zip(number, value, strict=True):
      total += factor[:, None] * weight.at[which].get(mode='promise_in_bounds')
    return total

  of_input = jax.checkpoint(of_input, prevent_cse=False)
  start = jnp.zeros((value.shape[2], weight.shape[2]), weight.dtype)
  return jax.lax.scan(
      lambda total, one: (total + of_input(*one), None), start,
      (number.swapaxes(0, 1), value.swapaxes(0, 1).astype(weight.dtype),
       weight))[0]
