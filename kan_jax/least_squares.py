"""Levenberg-Marquardt steps for networks small enough for a full Jacobian.

For sums of squares of up to about a thousand parameters, in float64, where
these steps reach what the splines can represent and first-order ones do not
(Levenberg 1944). The damping adds a multiple of the identity: scaled by the
diagonal of the normal matrix (Marquardt 1963), 3 of 8 random starts of
KAN([2, 1, 1]) ended in a bad optimum, and none without.

A step is bent by geodesic acceleration (Transtrum and Sethna, arXiv 1201.5885):
the valleys of a KAN are curved, since what an edge gains the next layer can
take back, and straight steps along them stay tiny. On xy with KAN([2, 2, 1])
50 straight steps stop at a root mean square of 1e-5, bent ones below 1e-7.

Where samples are few, at the ends of a hidden node's range above all, single
coefficients could take any value. So rough changes are damped more than smooth
ones, damping falls only while that pays, and a small weight on roughness itself
lets what the samples leave open go on as a polynomial (P-splines; Eilers and
Marx, Statistical Science 11, 1996).

Each step is one of `training`'s, so that grid updates, refinement and
validation can come between two of them, and keeps its damping meanwhile; the
solvers of optimistix run to their end.
"""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
from jax import flatten_util
import jax.numpy as jnp

from kan_jax import training

# Of params, grid, x and y, what the rows leave.
Residuals = Callable[..., jax.Array]

_START = 1e-3  # Damping of the first step, for the normal matrix of the mean.
_DECREASE, _INCREASE = 1 / 5, 4.0
_LIMITS = 1e-18, 1e12
_PAYS = 0.01  # Damping falls after a step that lowers the loss by this part.
_ATTEMPTS = 12
_BEND = 0.75  # Largest part of a step that may come from its acceleration.
_CHUNK = 2**23  # Entries of the Jacobian at a time: 64 MiB in float64.


def init(dtype: jax.typing.DTypeLike) -> jax.Array:
  """Returns the damping of the first step, what a state keeps of the others."""
  return jnp.asarray(_START, dtype)


def model_residuals(model: nn.Module) -> Residuals:
  """Returns residuals of a model: its outputs minus the targets.

  Args:
    model: A model whose rows do not depend on each other. Its outputs have the
      shape of the targets, rows first.
  """
  def residuals(params, grid, x, y):
    outputs = model.apply({'params': params, 'grid': grid}, x)
    if outputs.shape != y.shape:
      raise ValueError(
          f'the targets have the shape {y.shape} and the outputs '
          f'{outputs.shape}; least squares need them equal.')
    return outputs - y

  return residuals


def make_step(
    residuals: Residuals, *, smooth: float = 0.0) -> training.Step:
  """Returns `step(state, (x, y)) -> (state, metrics)` for the mean square.

  Args:
    residuals: Of params, grid, x [n, ...] and y [n, ...], what each row leaves,
      [n, ...], whatever the other rows are; see `model_residuals`.
    smooth: Weight of `roughness` beside the mean square, >= 0.

  Returns:
    A pure function, not jitted. A step damps as much as it takes for the loss
    to fall; where nothing helps, parameters stay as they are. The metrics are
    those of `training.make_train_step`, at the parameters before the step.
  """
  def step(state, batch):
    flat, unravel = flatten_util.ravel_pytree(state.params)

    def of_rows(flat, x, y):
      return residuals(unravel(flat), state.grid, x, y)

    size = jax.eval_shape(of_rows, flat, *batch).size
    equations = _normal_equations(of_rows, flat, *batch, size)
    flat, damping = _descend(
        lambda flat: of_rows(flat, *batch),
        lambda flat: roughness(unravel(flat), state.grid), smooth,
        flat, state.opt_state, *equations)
    loss = equations[0]
    skipped = 1 - jnp.isfinite(loss).astype(loss.dtype)
    metrics = {
        'loss': loss, 'penalty': jnp.zeros_like(loss), 'skipped': skipped}
    return state.replace(step=state.step + 1, params=unravel(flat),
                         opt_state=damping), metrics

  return step


def _normal_equations(residuals, flat, x, y, size):
  """Mean square [], J'r [p] and J'J [p, p] over `size`, that of the residuals.

  Row by row, since a row's residuals depend on no other row, and some rows at
  a time, so that the Jacobian of all is never stored.
  """
  rows = len(x)
  chunk = min(rows, max(1, _CHUNK * rows // (flat.size * size)))
  count = -(-rows // chunk)
  weight = jnp.arange(count * chunk) < rows  # The last chunk is filled up.
  parts = jax.tree.map(
      lambda a: jnp.pad(
          a, [(0, len(weight) - rows)] + [(0, 0)] * (a.ndim - 1), 'edge'
      ).reshape(count, chunk, *a.shape[1:]), (x, y))

  def of_row(x, y):
    def residual(flat):
      return residuals(flat, x[None], y[None]).reshape(-1)

    return residual(flat), jax.jacrev(residual)(flat)

  def add(totals, part):
    weight, (x, y) = part
    r, jac = jax.vmap(of_row)(x, y)
    r = jnp.where(weight[:, None], r, 0).reshape(-1)
    jac = jnp.where(weight[:, None, None], jac, 0).reshape(-1, flat.size)
    new = r @ r, jac.T @ r, jac.T @ jac
    return jax.tree.map(jnp.add, totals, new), None

  zeros = (jnp.zeros((), flat.dtype), jnp.zeros_like(flat),
           jnp.zeros((flat.size, flat.size), flat.dtype))
  totals, _ = jax.lax.scan(
      add, zeros, (weight.reshape(count, chunk), parts))
  return jax.tree.map(lambda total: total / size, totals)


def roughness(params: Any, grid: Any) -> jax.Array:
  """Returns the sum of squared differences of neighbouring coefficients, [].

  Of one order more than the degree of the splines: on a uniform grid, 0 for a
  polynomial of that degree, and tiny for what is smooth at the grid's scale.

  Args:
    params: Parameters of any model that holds KAN layers.
    grid: Their knots, in the collection of that name.
  """
  held = traverse_util.flatten_dict(grid)
  total = jnp.zeros(())
  for path, coef in traverse_util.flatten_dict(params).items():
    knots = held.get((*path[:-1], 'knots'))
    if path[-1] == 'coef' and knots is not None:
      degree = knots.shape[-1] - coef.shape[1] - 1
      total += jnp.square(jnp.diff(coef, degree + 1, axis=1)).sum()
  return total


def _descend(
    residuals, rough, smooth, flat, damping, loss, slope, normal):
  """Damps more until the loss falls; returns parameters and next damping."""
  # Without the barrier, XLA computes this large constant while it compiles.
  eye = jax.lax.optimization_barrier(jnp.eye(flat.size, dtype=flat.dtype))
  rough_slope = jax.grad(lambda flat: rough(flat).astype(flat.dtype) / 2)
  rough_normal = jax.vmap(
      lambda row: jax.jvp(rough_slope, (flat,), (row,))[1])(eye)
  slope = slope + smooth * rough_slope(flat)
  normal = normal + smooth * rough_normal
  loss = loss + smooth * rough(flat)

  def attempt(carry):
    attempts, _, damping, _ = carry
    factor = jax.scipy.linalg.cho_factor(
        normal + damping * (eye + rough_normal))
    straight = -jax.scipy.linalg.cho_solve(factor, slope)
    bend = jax.scipy.linalg.cho_solve(
        factor, _curvature(residuals, flat, straight)) / -2
    new = flat + straight + bend
    new_loss = jnp.square(residuals(new)).mean() + smooth * rough(new)
    # Both are False for what is not finite.
    fell = (new_loss < loss) & (
        2 * jnp.linalg.norm(bend) <= _BEND * jnp.linalg.norm(straight))
    pays = new_loss < (1 - _PAYS) * loss
    damping = damping * jnp.where(
        fell, jnp.where(pays, _DECREASE, 1), _INCREASE)
    return (attempts + 1, jnp.where(fell, new, flat),
            jnp.clip(damping, *_LIMITS), fell)

  _, flat, damping, _ = jax.lax.while_loop(
      lambda carry: ~carry[3] & (carry[0] < _ATTEMPTS), attempt,
      (0, flat, damping, jnp.asarray(False)))
  return flat, damping


def _curvature(residuals, flat, direction):
  """J'r'' [p] over the number of residuals, r'' their second derivative."""
  def slope(flat):
    return jax.jvp(residuals, (flat,), (direction,))[1]

  second = jax.jvp(slope, (flat,), (direction,))[1]
  return jax.vjp(residuals, flat)[1](second)[0] / second.size
