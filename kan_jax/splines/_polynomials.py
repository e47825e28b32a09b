"""B-splines as polynomials: a table of their pieces, and its evaluation.

The recursion of Cox-de Boor (`bsplines.cox_de_boor`) runs over every sample.
Here it runs over the knots, once: each B-spline of order k consists of k + 1
polynomials, and a sample selects one of them and takes Horner's rule. That is
one pass over the result, which a processor's vector units are busy with all the
time, for any spacing of the knots.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kan_jax.splines import _backends


class _Recursion(NamedTuple):
  """Where the recursion stands for B-splines of one order on all knots.

  Attributes:
    pieces: For each piece, the coefficients of its polynomial in the distance
      from its left knot, constant first; each [in, number of B-splines].
    knots: [in, number of knots].
  """
  pieces: list[list[jax.Array]]
  knots: jax.Array

  def raised(self) -> '_Recursion':
    """Returns the B-splines of the next order, de Boor's equation IX (14)."""
    order = len(self.pieces)
    size = self.knots.shape[1] - 1 - order
    knots = [_cut(self.knots, i, size) for i in range(order + 2)]
    rise = 1 / (knots[order] - knots[0])
    fall = 1 / (knots[order + 1] - knots[1])
    zero = jnp.zeros_like(rise)
    pieces = []
    for p in range(order + 1):
      total = [zero] * (order + 1)
      if p < order:
        _add_product(total, [_cut(c, 0, size) for c in self.pieces[p]],
                     (knots[p] - knots[0]) * rise, rise)
      if p > 0:
        _add_product(total, [_cut(c, 1, size) for c in self.pieces[p - 1]],
                     (knots[order + 1] - knots[p]) * fall, -fall)
      pieces.append(total)
    return _Recursion(pieces, self.knots)


def _cut(array: jax.Array, start: int, size: int) -> jax.Array:
  """Returns columns of an array [in, n]; indexing takes longer to trace."""
  return jax.lax.slice_in_dim(array, start, start + size, axis=1)


def _add_product(
    total: list[jax.Array], factor: list[jax.Array], constant: jax.Array,
    slope: jax.Array) -> None:
  """Adds the polynomial `factor` times (constant + slope * u) to `total`."""
  for power, c in enumerate(factor):
    total[power] += constant * c
    total[power + 1] += slope * c


# Programs tabulate the same knots, and knots of one shape, many times: traced
# once, and as if written out in each place.
@functools.partial(jax.jit, static_argnums=1, inline=True)
def tabulate(knots: jax.Array, order: int) -> jax.Array:
  """Returns all that `evaluate` needs to know of the B-splines on some knots.

  Args:
    knots: Strictly increasing knots, [in, grid + 2 * order + 1]. They count as
      constants: no gradient reaches them.
    order: Degree of the splines.

  Returns:
    [in, (order + 1)**2 + order + 2, grid + order]: for each B-spline the
    coefficients of its polynomials, piece by piece, then its knots.
  """
  knots = jax.lax.stop_gradient(knots)
  recursion = _Recursion([[jnp.ones_like(knots[:, 1:])]], knots)
  for _ in range(order):
    recursion = recursion.raised()
  size = knots.shape[1] - order - 1
  bounds = half_open(knots, order)
  rows = [c for piece in recursion.pieces for c in piece]
  rows += [_cut(knots, p, size) for p in range(order + 1)]
  rows += [_cut(bounds, p, size) for p in range(order + 2)]
  return jnp.stack(rows, 1)


def half_open(knots: jax.Array, order: int) -> jax.Array:
  """Knots to compare with by >=, so that `hi` still belongs to the grid."""
  last = knots.shape[1] - order - 1
  high = knots[:, last]
  above = jnp.nextafter(high, jnp.full_like(high, jnp.inf))
  # What is too small to be normal may be flushed to zero.
  tiny = jnp.finfo(knots.dtype).tiny
  above = jnp.where(jnp.abs(above) < tiny, tiny, above)
  return jnp.concatenate(
      [knots[:, :last], above[:, None], knots[:, last + 1:]], 1)


def evaluate(
    x: jax.Array, table: jax.Array, order: int, derivative: int, *,
    at: jax.Array | None = None) -> jax.Array:
  """Evaluates B-splines from the table of their pieces, or a derivative.

  Args:
    x: Inputs, [in, n], in the type of the table.
    table: Made by `tabulate` for this order.
    order: Degree of the splines.
    derivative: Which derivative with respect to `x`.
    at: Where to take the polynomials from, [in, n]; `x` itself by default.

  Returns:
    [in, grid + order, n]; zero where `at` is outside the knots, NaN where `x`
    is NaN. Differentiable in `x` any number of times; `at` counts as constant.
  """
  return _evaluate(x, x if at is None else at, table, order, derivative)


@functools.partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def _evaluate(x, at, table, order, derivative):
  """Arguments and what is returned as in `evaluate`."""
  if derivative > order:
    return jnp.zeros((*x.shape[:1], table.shape[2], *x.shape[1:]), x.dtype)
  rows = [table[:, j, :, None] for j in range(table.shape[1])]
  return select(x[:, None], at[:, None], rows, order, derivative)


def select(
    x: jax.Array, at: jax.Array, rows: Sequence[jax.Array], order: int,
    derivative: int) -> jax.Array:
  """Evaluates B-splines from the rows of their table, in any layout.

  Args:
    x: Inputs.
    at: Where to take the polynomials from.
    rows: Rows of the table that `tabulate` makes; `x`, `at` and each of them
      have as many axes and broadcast against each other.
    order: Degree of the splines.
    derivative: Which derivative with respect to `x`, at most `order`.
  """
  count = order + 1
  origins, bounds = rows[count**2:count**2 + count], rows[count**2 + count:]
  origin, coef = origins[0], rows[:count]
  for p in range(1, count):
    reached = at >= bounds[p]
    origin = jnp.where(reached, origins[p], origin)
    coef = [jnp.where(reached, c, before) for c, before in zip(
        rows[p * count:(p + 1) * count], coef, strict=True)]
  for _ in range(derivative):
    coef = [power * c for power, c in enumerate(coef)][1:]
  u = x - origin
  value = coef[-1] + 0 * u  # Also a constant is NaN where x is.
  for c in coef[-2::-1]:
    value = value * u + c
  return jnp.where((at < bounds[0]) | (at >= bounds[-1]), 0, value)


@_evaluate.defjvp
def _evaluate_jvp(order, derivative, primals, tangents):
  """The next derivative."""
  x, at, table = primals
  slope = _evaluate(x, at, table, order, derivative + 1)
  tangent = tangents[0][:, None]
  if _backends.choices().slopes_by_product:
    # Instead of a broadcast: its transpose is then a matrix product, too.
    tangent = jax.lax.dot_general(
        jnp.ones((*slope.shape[:2], 1), slope.dtype), tangent,
        (((2,), (1,)), ((0,), (0,))), precision='highest')
  return _evaluate(x, at, table, order, derivative), slope * tangent
