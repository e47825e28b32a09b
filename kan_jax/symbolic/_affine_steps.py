"""Steps that fit c * f(a * x + b) + d to samples, with c and d projected out.

For given a and b, the best c and d solve a linear least squares problem. What
is left is a nonlinear problem in two dimensions (variable projection, Golub and
Pereyra 1973; its gradient as by Kaufman 1975). All functions here take values
of f and its derivative, so each is compiled once for all f.

The damping follows the rule of `training.levenberg_marquardt`. Nothing else is
shared: here it scales a diagonal (Marquardt 1963), since a and b have units of
their own, and thousands of problems of size two are solved side by side.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kan_jax import compiling
from kan_jax.training import levenberg_marquardt

_TINY = 1e-300
_sums = functools.partial(jnp.einsum, precision='highest')
_jit = functools.partial(jax.jit, compiler_options=compiling.OLDER_CPU)


class State(NamedTuple):
  """Where the steps from each start have arrived.

  Attributes:
    point: a and b, [edges, starts, 2]; the first two axes of the others are the
      same.
    damping: Damping of Levenberg and Marquardt, [...].
    cost: Sum of squared errors over that of the best constant, [...].
    normal: The normal matrix of a step, [..., 2, 2].
    slope: Its right-hand side, [..., 2].
  """
  point: jax.Array
  damping: jax.Array
  cost: jax.Array
  normal: jax.Array
  slope: jax.Array


@_jit
def propose(state: State) -> jax.Array:
  """Returns the point that a damped Gauss-Newton step leads to."""
  (p, q), (_, r) = jnp.moveaxis(state.normal, (-2, -1), (0, 1))
  g, h = jnp.moveaxis(state.slope, -1, 0)
  floor = 1e-10 * (p + r) + _TINY  # For a direction that changes nothing.
  p, r = p + state.damping * (p + floor), r + state.damping * (r + floor)
  determinant = p * r - q * q
  sound = determinant > 0
  move = jnp.stack([r * g - q * h, p * h - q * g], -1)
  move /= jnp.where(sound, determinant, 1)[..., None]
  return state.point + jnp.where(sound[..., None], move, 0)


@_jit
def choose(old: State, new: State) -> State:
  """Takes the new state where it is better, elsewhere the old, damped more."""
  better = new.cost < old.cost
  damping = levenberg_marquardt.adapt(old.damping, better)
  new, old = (state._replace(damping=damping) for state in (new, old))

  def pick(a, b):
    return jnp.where(better.reshape(better.shape + (1,) * (a.ndim - 2)), a, b)

  return jax.tree.map(pick, new, old)


@_jit
def linearize(
    point: jax.Array, f: jax.Array, df: jax.Array, u: jax.Array,
    v: jax.Array) -> State:
  """Returns the cost at points and the normal equations of a step from there.

  Args:
    point: a and b, [edges, starts, 2].
    f: f(a * u + b), [edges, starts, n].
    df: Derivative of f there, of the same shape.
    u: Inputs, [edges, n].
    v: Outputs, [edges, n].
  """
  u, v = u[:, None], v[:, None]
  finite = jnp.isfinite(f).all(-1)
  f = jnp.where(finite[..., None], f, 0)
  c, error = project(f, v)
  # An infinite slope, as of sqrt at 0, says nothing about where to go.
  df = jnp.where(jnp.isfinite(df), c * df, 0)
  jacobian = jnp.stack([project(f, g)[1] for g in (df * u, df)], -2)
  total = jnp.maximum((v**2).sum(-1), _TINY)
  cost = jnp.where(finite, (error**2).sum(-1) / total, jnp.inf)
  return State(
      point, jnp.full_like(cost, levenberg_marquardt.START), cost,
      _sums('...in,...jn->...ij', jacobian, jacobian),
      _sums('...in,...n->...i', jacobian, error))


@jax.jit
def project(f: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Fits c * f + d over the last axis; returns c, [..., 1], and the errors."""
  centred = f - f.mean(-1, keepdims=True)
  size = (centred**2).sum(-1, keepdims=True)
  varies = size > 1e-28 * (f**2).sum(-1, keepdims=True)
  scale = jnp.where(varies, size, 1)
  c = jnp.zeros_like(size)
  error = target - target.mean(-1, keepdims=True)
  for _ in range(2):  # The second time mends the rounding of the first.
    more = (centred * error).sum(-1, keepdims=True) / scale
    more = jnp.where(varies, more, 0)
    c, error = c + more, error - more * centred
  return c, error


def correlation(f: jax.Array, v: jax.Array) -> jax.Array:
  """Returns the squared correlation; 0 where f is not finite or flat.

  Args:
    f: Values of a function, [..., n].
    v: Outputs with mean 0, [..., n].
  """
  centred = f - f.mean(-1, keepdims=True)
  size, total = (centred**2).sum(-1), (f**2).sum(-1)
  varies = jnp.isfinite(total) & (size > 1e-20 * total)
  scale = jnp.where(varies, size, 1) * jnp.maximum((v**2).sum(-1), _TINY)
  return jnp.where(varies, (centred * v).sum(-1)**2 / scale, 0)
