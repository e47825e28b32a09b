"""The refit of a grid update: coefficients that keep functions on new knots.

Bare least squares does not do. Samples see only the tails of the outermost
B-splines, whose coefficients would grow from update to update without bound. So
the old function, on the new grid and beyond its ends, is a prior, and two rules
say how much it counts: nothing where the new splines can repeat the old ones,
else as much as the error on the samples allows.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from kan_jax.splines import _least_squares
from kan_jax.splines import _polynomials
from kan_jax.splines import bsplines

# A refit counts as the same function if its error on the samples is at most
# this part of the function's size ...
_SAME = 1e-3
# ... and the coefficients grow by at most this factor, ...
_GROWTH = 1.1
# ... or, where the outermost pieces go on, to this multiple of their values on
# the samples. With fewer samples than coefficients, they may grow by more.
_REACH = 3.0

# Else a function may change by this part of its range, ...
_SMALL = 5e-5
# ... or by so many times what least squares leaves. Both are less than what
# `grids.refit` promises, since they are measured on some of the samples and
# against a solution that is itself a little above least squares.
_TIMES = 1.7
# For that, coefficients may grow to this multiple of the largest value on the
# samples. A multiple of the coefficients would add up from update to update; so
# would 3 here, where samples move outward: to 22 times in twelve updates.
_ROOM = 1.5

# Weights of the priors. Rounding hides what lower ones would gain.
_WEIGHTS = {jnp.dtype('float32'): (1.0, 0.05, 2e-3),
            jnp.dtype('float64'): (1.0, 0.05, 2e-3, 9e-8)}


class Move(NamedTuple):
  """The splines of a layer, and the knots that they move to.

  Attributes:
    knots: Old knots, [in, grid + 2 * order + 1].
    coef: Old coefficients, [in, grid + order, out].
    new_knots: New knots, of the shape of the old ones.
    order: Degree of the splines.
    outside: What the splines do beyond their grid.
    table: Table of the old B-splines; see `_polynomials.tabulate`.
    new_table: Table of the new ones.
  """
  knots: jax.Array
  coef: jax.Array
  new_knots: jax.Array
  order: int
  outside: bsplines.Outside
  table: jax.Array
  new_table: jax.Array

  def old_basis(
      self, points: jax.Array,
      outside: bsplines.Outside | None = None) -> jax.Array:
    """The old B-splines at points [in, n]: [in, grid + order, n]."""
    return bsplines.basis_by_input(
        points, self.knots, self.order, outside=outside or self.outside,
        table=self.table)

  def new_basis(
      self, points: jax.Array,
      outside: bsplines.Outside | None = None) -> jax.Array:
    """The new B-splines at points [in, n]: [in, grid + order, n]."""
    return bsplines.basis_by_input(
        points, self.new_knots, self.order, outside=outside or self.outside,
        table=self.new_table)


def refit(
    x: jax.Array, knots: jax.Array, coef: jax.Array, new_knots: jax.Array,
    order: int, outside: bsplines.Outside) -> jax.Array:
  """Returns what `grids.refit` does for B-splines; arguments as there."""
  move = make_move(knots, coef, new_knots, order, outside)
  changes = solve(x.T, move)
  change = jnp.where(
      keeps(x.T, move, changes[-1]), changes[-1],
      approach(x.T, move, changes))
  # Two equal bases may be rounded differently, each where it is used.
  moved = (knots != new_knots).any(-1)[:, None, None]
  return coef + jnp.where(moved, change, 0)


def make_move(
    knots: jax.Array, coef: jax.Array, new_knots: jax.Array, order: int,
    outside: bsplines.Outside) -> Move:
  """Returns the move of a layer; arguments as the attributes of `Move`."""
  # Both tables as one: that halves the kernels to compile.
  table, new_table = jnp.split(
      _polynomials.tabulate(jnp.concatenate([knots, new_knots]), order), 2)
  return Move(knots, coef, new_knots, order, outside, table, new_table)


def solve(x: jax.Array, move: Move) -> jax.Array:
  """Solves for changes of the coefficients with priors that weigh less.

  The right-hand side comes from the change of the basis. No array of
  n x in x out is made.

  Args:
    x: Samples, [in, n].
    move: Splines and their new knots.

  Returns:
    [3 or 4, in, grid + order, out]: damped most first; the last is as near to
    least squares as the type allows.
  """
  coef, order = move.coef, move.order
  # The change is linear in the old coefficients. If outputs are many, solve for
  # the matrix that they have in common.
  shared = coef.shape[2] > coef.shape[1]

  def equations(points, weights, outside, basis_outside):
    basis = move.new_basis(points, basis_outside)
    weighted = basis * weights[:, None]
    drive = _least_squares.gram_matrix(
        weighted,
        move.old_basis(points, outside) - move.new_basis(points, outside))
    return (_least_squares.gram_matrix(weighted, basis),
            drive if shared else jnp.matmul(drive, coef, precision='highest'))

  def prior(breaks):
    # B-splines that fall to zero beyond the ends, whatever `outside` is, and a
    # target that stays bounded there.
    return equations(*_least_squares.quadrature(breaks, order),
                     'zero' if move.outside == 'zero' else 'clamp', 'zero')

  samples = equations(
      x, jnp.full_like(x, 1 / x.shape[1]), move.outside, move.outside)
  wide = prior(move.new_knots)
  narrow = prior(bsplines.interior(move.new_knots, order))
  # The less the prior weighs, the less it looks beyond the ends of the grid.
  middle = tuple((a + b) / 2 for a, b in zip(wide, narrow, strict=True))
  weights = _WEIGHTS[coef.dtype]
  priors = [wide, middle, *[narrow] * (len(weights) - 2)]
  # All at once: on a CPU with few cores, LAPACK calls that run side by side can
  # wait for each other without end (jaxlib 0.10).
  changes = _least_squares.damped_solve(
      *(jnp.concatenate([part] * len(weights)) for part in samples),
      *(jnp.concatenate(parts) for parts in zip(*priors, strict=True)),
      weight=jnp.repeat(jnp.asarray(weights, coef.dtype), len(coef))[
          :, None, None], steps=16)
  changes = changes.reshape(len(weights), len(coef), *changes.shape[1:])
  return jnp.matmul(changes, coef, precision='highest') if shared else changes


def keeps(x: jax.Array, move: Move, change: jax.Array) -> jax.Array:
  """Whether changed coefficients give the same function, [in, 1, out].

  Args:
    x: Samples, [in, n].
    move: Splines and their new knots.
    change: Change of the coefficients, of their shape.
  """
  coef = move.coef
  size, after = (
      jnp.abs(c).max(1, keepdims=True) for c in (coef, coef + change))
  most = _GROWTH * size
  if move.outside in ('linear', 'polynomial'):  # Elsewhere no value exceeds it.
    least = _least_at_ends(x, move)
    size, most = jnp.maximum(size, least), jnp.maximum(most, _REACH * least)
  same = _distance(x, move, change) <= _SAME * size
  return same & (after <= most) if x.shape[1] >= coef.shape[1] else same


def _least_at_ends(x: jax.Array, move: Move) -> jax.Array:
  """Lesser value of each edge at its two outermost samples, [in, 1, out].

  Far from the old grid, coefficients must grow as the values there. The lesser
  one, as a single sample far away is no reason.
  """
  values = _sum(move.old_basis(jnp.stack([x.min(1), x.max(1)], 1)), move.coef)
  return jnp.abs(values).min(1, keepdims=True)


def _distance(x: jax.Array, move: Move, change: jax.Array) -> jax.Array:
  """Root mean square of the change of each edge on samples, [in, 1, out]."""
  both = jnp.concatenate([move.old_basis(x), move.new_basis(x)], 1)
  gram = _least_squares.gram_matrix(both, both) / x.shape[1]
  weight = jnp.concatenate([move.coef, -move.coef - change], 1)
  square = jnp.einsum(
      'ipo,ipq,iqo->io', weight, gram, weight, precision='highest')
  return jnp.sqrt(jnp.maximum(square, 0))[:, None]


def approach(x: jax.Array, move: Move, changes: jax.Array) -> jax.Array:
  """Goes from the first change towards the last, as far as the samples ask.

  The discrepancy principle (Morozov 1966; Engl, Hanke and Neubauer,
  Regularization of Inverse Problems, 1996, section 4.3): as much of the prior
  as the error allows. Between two solutions the error is a parabola, so that
  the way is known without another solution.

  Args:
    x: Samples, [in, n].
    move: Splines and their new knots.
    changes: Made by `solve`.

  Returns:
    Change of the coefficients, [in, grid + order, out].
  """
  # Twice as many points as coefficients: on all samples the choice would be no
  # better, and take several times as long. Sums of products of the bases would
  # do without points, but in float32 not tell a change of 1e-4 from none.
  points = _spread(x, 2 * move.coef.shape[1])
  old, new = move.old_basis(points), move.new_basis(points)
  values, moved = _sum(old, move.coef), _sum(old - new, move.coef)
  limit = jnp.maximum(
      jnp.maximum(_SMALL * jnp.ptp(values, 1),
                  _rounding(move.coef)),
      _TIMES * _rms(moved - _sum(new, changes[-1])))
  # Fewer samples than coefficients may cost more.
  bounded = x.shape[1] >= move.coef.shape[1]
  most = _largest_allowed(move, values, changes[0])
  change, error = changes[0], moved - _sum(new, changes[0])
  for following in changes[1:]:
    way = following - change
    step = -_sum(new, way)
    part = _part_to_limit(error, step, limit)
    if bounded:
      part = jnp.minimum(part, _part_to_size(move.coef + change, way, most))
    change, error = (
        start + part[:, None] * length
        for start, length in ((change, way), (error, step)))
  return change


def _spread(x: jax.Array, count: int) -> jax.Array:
  """Returns samples [in, count] that lie all over the range of samples [in, n].

  The extremes come first and last. Found by comparing alone, so that rows may
  be on many devices.
  """
  low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
  places = low + (high - low) * jnp.linspace(0, 1, count, dtype=x.dtype)[None]
  above = jnp.where(
      x[:, None] >= places[..., None], x[:, None], jnp.inf).min(-1)
  return jnp.minimum(above, high)


def _rounding(coef: jax.Array) -> jax.Array:
  """Error that counts as none where a function is constant, [in, out]."""
  return float(jnp.finfo(coef.dtype).eps)**(2 / 3) * jnp.abs(coef).max(1)


def _largest_allowed(
    move: Move, values: jax.Array, change: jax.Array) -> jax.Array:
  """Size that coefficients may have after the change, [in, 1, out]."""
  before, after, seen = (jnp.abs(a).max(1, keepdims=True) for a in (
      move.coef, move.coef + change, values))
  if move.outside in ('linear', 'polynomial'):  # Elsewhere no value exceeds it.
    # As in `keeps`: a single sample far away is no reason.
    ends = jnp.abs(values[:, :1]), jnp.abs(values[:, -1:])
    seen = jnp.minimum(seen, jnp.maximum(before, jnp.minimum(*ends)))
  return jnp.maximum(jnp.maximum(before, after), _ROOM * seen)


def _part_to_limit(
    error: jax.Array, step: jax.Array, limit: jax.Array) -> jax.Array:
  """Least part of a step after which errors have the root mean square `limit`.

  Args:
    error: Errors at the start, [in, points, out].
    step: How the whole step changes them, of the same shape.
    limit: [in, out].

  Returns:
    [in, out], from 0 to 1; 1 where the step does not reach it.
  """
  excess = jnp.square(error).mean(1) - limit**2
  slope, curve = -(error * step).mean(1), jnp.square(step).mean(1)
  # The smaller root of excess - 2 * slope * part + curve * part**2.
  divisor = slope + jnp.sqrt(jnp.maximum(slope**2 - curve * excess, 0))
  part = jnp.where(
      divisor > 0, excess / jnp.where(divisor > 0, divisor, 1), 1)
  return jnp.where(excess > 0, jnp.minimum(part, 1), 0)


def _part_to_size(
    coef: jax.Array, way: jax.Array, most: jax.Array) -> jax.Array:
  """Largest part of a way on which no coefficient exceeds `most`, [in, out]."""
  room = most - jnp.sign(way) * coef
  length = jnp.abs(way)
  # The first solution itself may be at `most`, and rounding put it beyond.
  return jnp.where(
      length > 0, jnp.maximum(room, 0) / jnp.where(length > 0, length, 1),
      1).min(1)


def _rms(values: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.square(values).mean(1))


def _sum(basis: jax.Array, coef: jax.Array) -> jax.Array:
  """Values of all edges, [in, n, out], of B-splines [in, grid + order, n]."""
  return jnp.einsum('ign,igo->ino', basis, coef, precision='highest')
