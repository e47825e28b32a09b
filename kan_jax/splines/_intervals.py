"""Splines interval by interval, where the coefficients never change.

The splines of all edges of an input are polynomials in each of its intervals
(de Boor, A Practical Guide to Splines, 1978, ch. VII, the pp-form). A sample
looks up those of its interval and takes Horner's rule: the cost ignores how
many intervals there are. What splines do beyond the grid is two intervals more.
"""

import math
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _lookup
from kan_jax.splines import bsplines

# How far from equal spacing knots may be, in intervals, for a sample's interval
# to be reckoned. So near to a knot, a sample may take the polynomial of the
# other side: from order 2 on, that is an error of a square of this or less.
_EVEN = 1e-4


class Table(NamedTuple):
  """The splines of one layer.

  Attributes:
    starts: What a sample's distance is taken from, [in, intervals].
    scale: What the distance is multiplied by, [in].
    bounds: Where intervals end, [in, intervals - 1]; if they are even, where
      the second begins and 1 / size, [in, 2].
    polynomials: [in, intervals * (order + 1), out]: for each interval its
      coefficients, constant first.
  """
  starts: jax.Array
  scale: jax.Array
  bounds: jax.Array
  polynomials: jax.Array


def are_even(
    knots: np.ndarray, order: int, outside: bsplines.Outside) -> bool:
  """Whether intervals are of equal size; arguments as in `tabulate`."""
  inner = _inner(knots.astype(np.float64), order, outside)
  spacing = np.diff(inner).mean(1, keepdims=True)
  off = (inner - inner[:, :1]) / spacing - np.arange(inner.shape[1])
  return order > 1 and bool(np.abs(off).max() < _EVEN)


def _inner(
    knots: np.ndarray, order: int, outside: bsplines.Outside) -> np.ndarray:
  """Returns the knots between which splines are sums of B-splines."""
  return knots if outside == 'zero' else knots[:, order:-order or None]


def tabulate(
    knots: np.ndarray, coef: np.ndarray, order: int,
    outside: bsplines.Outside, even: bool) -> Table:
  """Makes the table of splines, on the host, in NumPy arrays.

  Polynomials are in float32 at least: where coefficients have few digits, sums
  of them need more.

  Args:
    knots: Strictly increasing knots, [in, grid + 2 * order + 1].
    coef: Coefficients, [in, grid + order, out].
    order: Degree of the splines.
    outside: What the splines do beyond their grid; see `splines.basis`.
    even: Whether a sample's interval is to be reckoned; see `are_even`.
  """
  knots, dtype = knots.astype(np.float64), knots.dtype
  inner = _inner(knots, order, outside)
  spacing = np.diff(inner).mean(1)
  polynomials = np.stack([
      _pieces(*one, order, outside)
      for one in zip(knots, inner, coef.astype(np.float64), strict=True)])
  polynomials *= spacing[:, None, None, None]**np.arange(order + 1)[:, None]
  last = inner[:, -2 if outside == 'polynomial' else -1]
  starts = np.column_stack([inner[:, 0], inner[:, :-1], last])
  # What is half-open has its upper end, too.
  high = np.nextafter(inner[:, -1].astype(dtype), np.inf, dtype=dtype)
  bounds = (inner[:, 0], 1 / spacing) if even else (inner[:, :-1], high)
  places: Any = [array.astype(dtype) for array in (
      starts, 1 / spacing, np.column_stack(bounds))]
  flat: Any = polynomials.reshape(len(knots), -1, coef.shape[2]).astype(
      jnp.promote_types(coef.dtype, jnp.float32))
  return Table._make([*places, flat])


def _pieces(
    knots: np.ndarray, inner: np.ndarray, coef: np.ndarray, order: int,
    outside: bsplines.Outside) -> np.ndarray:
  """Returns the polynomials of one input, [intervals, order + 1, out]."""
  from scipy import interpolate  # It takes a while to import.

  # Beyond the knots, B-splines without weight: SciPy's are complete within.
  step = knots[1] - knots[0], knots[-1] - knots[-2]
  far = np.arange(1, order + 1)
  spline = interpolate.BSpline(
      np.concatenate([knots[0] - step[0] * far[::-1], knots,
                      knots[-1] + step[1] * far]),
      np.pad(coef, ((order, order), (0, 0))), order)
  within = np.stack([
      spline(inner[:-1], k) / math.factorial(k) for k in range(order + 1)], 1)
  low, high = np.zeros((2, *within.shape[1:]))
  if outside == 'polynomial':
    low, high = within[0], within[-1]
  if outside in ('clamp', 'linear'):
    width = (inner[-1] - inner[-2])**np.arange(order + 1)
    low[0], high[0] = within[0, 0], width @ within[-1]
  if outside == 'linear' and order:
    low[1] = within[0, 1]
    high[1] = (np.arange(1, order + 1) * width[:-1]) @ within[-1, 1:]
  return np.concatenate([low[None], within, high[None]])


def sums(
    x: jax.Array, table: Table, order: int, even: bool) -> jax.Array:
  """Sums the splines of all edges over their inputs.

  Args:
    x: Inputs, [in, n].
    table: Made by `tabulate`.
    order: Degree of the splines.
    even: As in `tabulate`.

  Returns:
    [n, out], in float32 at least.
  """
  last = table.starts.shape[1] - 1
  if even:
    first, inverse = table.bounds[:, :1], table.bounds[:, 1:]
    number = jnp.floor((x - first) * inverse).clip(-1, last - 1) + 1
    number = number.astype(jnp.int32)
  else:
    number = jax.vmap(
        lambda bounds, x: jnp.searchsorted(bounds, x, side='right'))(
            table.bounds, x)
  starts = jnp.take_along_axis(table.starts, number, 1, mode='clip')
  # Finite, as beyond the knots it is multiplied by zeros.
  most = jnp.finfo(x.dtype).max
  distance = ((x - starts) * table.scale[:, None]).clip(-most, most)

  def of_input(number, distance, polynomials):
    def row(power):
      return polynomials.at[number * (order + 1) + power].get(mode='clip')

    total = row(order)
    factor = distance[:, None].astype(total.dtype)
    for power in reversed(range(order)):
      total = total * factor + row(power)
    return total

  return _lookup.over_inputs(of_input, number, distance, table.polynomials)
