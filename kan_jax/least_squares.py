"""Levenberg-Marquardt steps for networks small enough for a full Jacobian.

For sums of squares of up to about a thousand parameters, in float64, where
these steps reach what the splines can represent and first-order ones do not
(Levenberg 1944). The damping adds a multiple of the identity: scaled by the
diagonal of the normal matrix (Marquardt 1963), 3 of 8 random starts of
KAN([2, 1, 1]) ended in a bad optimum, and none without.

Each step is one of `training`'s, so that grid updates, refinement and
validation can come between two of them, and keeps its damping meanwhile; the
solvers of optimistix run to their end.
"""

from flax import linen as nn
import jax
from jax import flatten_util
import jax.numpy as jnp

from kan_jax import training

_START = 1e-3  # Damping of the first step, for the normal matrix of the mean.
_DECREASE, _INCREASE = 1 / 5, 4.0
_LIMITS = 1e-18, 1e12
_ATTEMPTS = 12
_CHUNK = 2**23  # Entries of the Jacobian at a time: 64 MiB in float64.


def init(dtype: jax.typing.DTypeLike) -> jax.Array:
  """Returns the damping of the first step, what a state keeps of the others."""
  return jnp.asarray(_START, dtype)


def make_step(model: nn.Module) -> training.Step:
  """Returns `step(state, (x, y)) -> (state, metrics)` for the mean square.

  Args:
    model: A model whose rows do not depend on each other. Its outputs have the
      shape of the targets, rows first.

  Returns:
    A pure function, not jitted. A step damps as much as it takes for the loss
    to fall; where nothing helps, parameters stay as they are. The metrics are
    those of `training.make_train_step`, at the parameters before the step.
  """
  def step(state, batch):
    flat, unravel = flatten_util.ravel_pytree(state.params)

    def residuals(flat, x, y):
      outputs = model.apply(
          {'params': unravel(flat), 'grid': state.grid}, x)
      if outputs.shape != y.shape:
        raise ValueError(
            f'the targets have the shape {y.shape} and the outputs '
            f'{outputs.shape}; least squares need them equal.')
      return outputs - y

    jax.eval_shape(residuals, flat, *batch)  # Names the shapes of all rows.
    loss, slope, normal = _normal_equations(residuals, flat, *batch)
    flat, damping = _descend(
        lambda flat: jnp.square(residuals(flat, *batch)).mean(),
        flat, state.opt_state, loss, slope, normal)
    skipped = 1 - jnp.isfinite(loss).astype(loss.dtype)
    metrics = {
        'loss': loss, 'penalty': jnp.zeros_like(loss), 'skipped': skipped}
    return state.replace(step=state.step + 1, params=unravel(flat),
                         opt_state=damping), metrics

  return step


def _normal_equations(residuals, flat, x, y):
  """Mean square [], J'r [p] and J'J [p, p] over the number of residuals.

  Row by row, since a row's residuals depend on no other row, and some rows at
  a time, so that the Jacobian of all is never stored.
  """
  rows = len(x)
  chunk = min(rows, max(1, _CHUNK // (flat.size * max(y[0].size, 1))))
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
  return jax.tree.map(lambda total: total / y.size, totals)


def _descend(loss_fn, flat, damping, loss, slope, normal):
  """Damps more until the loss falls; returns parameters and next damping."""
  eye = jnp.eye(flat.size, dtype=flat.dtype)

  def attempt(carry):
    attempts, _, damping, _ = carry
    factor = jax.scipy.linalg.cho_factor(normal + damping * eye)
    new = flat - jax.scipy.linalg.cho_solve(factor, slope)
    fell = loss_fn(new) < loss  # False for what is not finite.
    damping = damping * jnp.where(fell, _DECREASE, _INCREASE)
    return (attempts + 1, jnp.where(fell, new, flat),
            jnp.clip(damping, *_LIMITS), fell)

  _, flat, damping, _ = jax.lax.while_loop(
      lambda carry: ~carry[3] & (carry[0] < _ATTEMPTS), attempt,
      (0, flat, damping, jnp.asarray(False)))
  return flat, damping
