"""Bases that live on a whole grid: Chebyshev polynomials, radial functions.

Of the knots, the ends of the grid alone count.
"""

from collections.abc import Callable
import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import _least_squares
from kan_jax.splines import bsplines

# Weight of the old function all over the new grid beside that on the samples,
# in a refit; with as many steps, the former counts where less than a few in a
# thousand of the samples say anything.
_PRIOR, _STEPS = 0.05, 16


class _Global:
  """Functions that all live on the whole grid, of which only the ends count."""
  name: str
  outsides: tuple[bsplines.Outside, ...] = ('zero', 'clamp', 'linear')
  refines = False

  def _inside(self, u: jax.Array, size: int) -> jax.Array:
    """Evaluates the functions, [in, size, n].

    Args:
      u: Inputs, [in, 1, n], -1 at the lower end of the grid and 1 at the upper.
      size: Number of functions.
    """
    raise NotImplementedError

  def _falling(
      self, u: jax.Array, nearest: jax.Array, size: int,
      reach: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Evaluates functions that fall to zero beyond their grid.

    Args:
      u: Inputs, [in, 1, n], as above, but also beyond the grid.
      nearest: The same, but at the nearer end where they are beyond it.
      size: Number of functions.
      reach: Size of `order` intervals beyond each end, [in, 1, 1].
    """
    raise NotImplementedError

  def places(self, knots: jax.Array, order: int) -> tuple[jax.Array, ...]:
    del order
    return (knots,)

  # Compiled also where a caller is not.
  @functools.partial(
      jax.jit, static_argnums=0,
      static_argnames=('order', 'derivative', 'outside'))
  def values(
      self, x: jax.Array, *places: jax.Array, order: int, derivative: int = 0,
      outside: bsplines.Outside = 'zero') -> jax.Array:
    knots, = jax.lax.stop_gradient(places)
    size = knots.shape[1] - order - 1
    low, high = knots[:, order, None, None], knots[:, -order - 1, None, None]
    middle, scale = low + (high - low) / 2, 2 / (high - low)
    reach = (scale * (low - knots[:, :1, None]),
             scale * (knots[:, -1:, None] - high))

    def evaluate(x):
      nearest = jnp.where(x < low, low, jnp.where(x > high, high, x))
      u, within = ((point - middle) * scale for point in (x, nearest))
      if outside == 'zero':
        return self._falling(u, within, size, reach)
      values = self._inside(within, size)
      if outside == 'clamp':
        return values
      ends = jnp.array([[[-1, 1]]], u.dtype)
      slopes = _derive(functools.partial(self._inside, size=size), ends, 1)
      return values + (u - within) * jnp.where(
          x < low, slopes[..., :1], slopes[..., 1:])

    x = x.astype(jnp.promote_types(x.dtype, knots.dtype))
    return _derive(evaluate, x[:, None], derivative)

  def points(self, knots: jax.Array, order: int) -> jax.Array:
    raise NotImplementedError

  def fit(
      self, x: jax.Array, y: jax.Array, knots: jax.Array,
      order: int) -> jax.Array:
    values, prior = (self.values(points, knots, order=order)
                     for points in (x.T, self.points(knots, order)))
    rhs = jnp.einsum('ign,nio->igo', values, y, precision='highest') / len(x)
    return _least_squares.damped_solve(
        _least_squares.gram_matrix(values, values) / len(x), rhs,
        _least_squares.gram_matrix(prior, prior) / prior.shape[-1],
        jnp.zeros_like(rhs),
        weight=math.sqrt(float(jnp.finfo(values.dtype).eps)), steps=_STEPS)

  def refit(
      self, x: jax.Array, knots: jax.Array, coef: jax.Array,
      new_knots: jax.Array, order: int, *,
      outside: bsplines.Outside = 'zero') -> jax.Array:
    """By least squares, on the samples and a little all over the new grid.

    For polynomials within the old grid that is exact. Beyond it, the exact one
    would be the polynomial itself, which grows there without bound.
    """
    def equations(points):
      old, new = (
          self.values(points, k, order=order, outside=outside)
          for k in (knots, new_knots))
      gram, change = (_least_squares.gram_matrix(new, values) / points.shape[1]
                      for values in (new, old - new))
      return gram, change

    # The matrix that all edges of an input have in common.
    transfer = _least_squares.damped_solve(
        *equations(x.T), *equations(self.points(new_knots, order)),
        weight=_PRIOR, steps=_STEPS)
    change = jnp.matmul(transfer, coef, precision='highest')
    moved = (knots != new_knots).any(-1)[:, None, None]
    return coef + jnp.where(moved, change, 0)

  def refine(
      self, knots: jax.Array, coef: jax.Array, order: int,
      new_knots: jax.Array, parents: np.ndarray) -> jax.Array:
    raise NotImplementedError


class Chebyshev(_Global):
  """Chebyshev polynomials T_0, T_1, ... on the grid, degree by degree.

  Beyond the grid, polynomials would grow without bound. With 'zero', the value
  at the nearer end fades to zero as far beyond as B-splines reach, within
  `order` intervals.
  """
  name: Literal['chebyshev'] = 'chebyshev'
  refines = True

  def _inside(self, u: jax.Array, size: int) -> jax.Array:
    return _chebyshev(u, size, 0)

  def _falling(
      self, u: jax.Array, nearest: jax.Array, size: int,
      reach: tuple[jax.Array, jax.Array]) -> jax.Array:
    whole = jnp.where(u < nearest, *reach)
    beyond = jnp.abs(u - nearest)
    part = jnp.minimum(beyond / jnp.where(whole > 0, whole, 1), 1)
    fade = jnp.where(whole > 0, 1 - part**2 * (3 - 2 * part), beyond == 0)
    return fade * self._inside(nearest, size)

  def points(self, knots: jax.Array, order: int) -> jax.Array:
    """The zeros of the next polynomial: there, polynomials are orthogonal."""
    size = knots.shape[1] - order - 1
    u = np.cos(np.pi * (np.arange(size)[::-1] + 0.5) / size)
    return _spread(knots, order, u)

  def refine(
      self, knots: jax.Array, coef: jax.Array, order: int,
      new_knots: jax.Array, parents: np.ndarray) -> jax.Array:
    more = len(parents) + order - coef.shape[1]
    return jnp.pad(coef, ((0, 0), (0, more), (0, 0)))  # Of higher degrees.


class Radial(_Global):
  """Gaussians at equal distances from end to end of the grid.

  The k-th is exp(-((x - c_k) / h)**2), with h the distance of the centres, as
  in FastKAN (Li, arXiv 2405.06721).
  """
  name: Literal['radial'] = 'radial'

  def _inside(self, u: jax.Array, size: int) -> jax.Array:
    centres, distance = _centres(size)
    z = (u - jnp.asarray(centres, u.dtype)[None, :, None]) / distance
    # Further out it is zero: nothing overflows there.
    return jnp.exp(-jnp.clip(z, -40, 40)**2)

  def _falling(
      self, u: jax.Array, nearest: jax.Array, size: int,
      reach: tuple[jax.Array, jax.Array]) -> jax.Array:
    return self._inside(u, size)

  def points(self, knots: jax.Array, order: int) -> jax.Array:
    return _spread(knots, order, _centres(knots.shape[1] - order - 1)[0])


def _spread(knots: jax.Array, order: int, u: np.ndarray) -> jax.Array:
  """Returns points of each grid, [in, p], for points from -1 to 1, [p]."""
  low, high = knots[:, order, None], knots[:, -order - 1, None]
  middle = low + (high - low) / 2
  return middle + (high - low) / 2 * jnp.asarray(u, knots.dtype)[None]


def _centres(size: int) -> tuple[np.ndarray, float]:
  """Returns centres, [size], and their distance; a single one is in the middle.
  """
  distance = 2 / max(size - 1, 1)
  return (np.arange(size) - (size - 1) / 2) * distance, distance


def _derive(
    fn: Callable[[jax.Array], jax.Array], x: jax.Array,
    derivative: int) -> jax.Array:
  """Evaluates a derivative of an elementwise function."""
  if not derivative:
    return fn(x)
  return _derive(
      lambda x: jax.jvp(fn, (x,), (jnp.ones_like(x),))[1], x, derivative - 1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(1, 2))
def _chebyshev(u: jax.Array, size: int, derivative: int) -> jax.Array:
  """Evaluates a derivative of T_0, T_1, ..., [in, size, n], at [in, 1, n].

  The k-th derivative of T_n is n 2^(k-1) (k-1)! C_(n-k), with the polynomials C
  of Gegenbauer of index k (DLMF, 18.9.1 and 18.9.19 to 18.9.21).
  """
  k = derivative
  before, value, rows = 0 * u, 0 * u + 1, []
  if not k:
    for n in range(size):
      rows.append(value)
      before, value = value, (1 if n == 0 else 2) * u * value - before
    return jnp.concatenate(rows, 1)
  rows = [before] * min(k, size)
  for n in range(k, size):
    rows.append(n * 2.0**(k - 1) * math.factorial(k - 1) * value)
    m = n - k + 1
    before, value = value, (
        2 * (m + k - 1) * u * value - (m + 2 * k - 2) * before) / m
  return jnp.concatenate(rows, 1)


@_chebyshev.defjvp
def _chebyshev_jvp(size, derivative, primals, tangents):
  """The next derivative."""
  u, = primals
  return (_chebyshev(u, size, derivative),
          _chebyshev(u, size, derivative + 1) * tangents[0])
