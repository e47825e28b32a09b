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

Where samples are few, above all at the ends of a hidden node's range, some
coefficients could take any value. A small weight on their roughness (see
`splines._roughness`) makes the curve go on smoothly there; rough changes are
then damped more than smooth ones, too. Steps are taken in the coordinates of
that module, where both are diagonal, however large the weight.

Each step is one of `train_steps`, so that grid updates, refinement and
validation can come between two of them; the damping is kept meanwhile. The
solvers of optimistix run to their end.
"""

from collections.abc import Callable
import functools
import itertools
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import flatten_util
import jax.numpy as jnp

from kan_jax.splines import _backends
from kan_jax.splines import _roughness
from kan_jax.training import train_steps

# From params, the collection `grid`, x and y to what the rows leave.
Residuals = Callable[..., jax.Array]

START = 1e-3  # Damping of the first step, for the normal matrix of the mean.
_DECREASE, _INCREASE = 1 / 5, 4.0
_LIMITS = 1e-18, 1e12
_ATTEMPTS = 12  # Dampings that a step tries, at most.
_BEND = 0.75  # Largest part of a step that may come from its acceleration.
_SPLIT = 1024  # From so many columns on, products with itself come in parts.
_product = functools.partial(jnp.matmul, precision='highest')


def init(dtype: jax.typing.DTypeLike) -> jax.Array:
  """Returns the damping of the first step: the state of this optimizer."""
  return jnp.asarray(START, dtype)


def restart(damping: jax.Array) -> jax.Array:
  """Returns the damping for other grids.

  At an optimum nothing lowers the loss and the damping rises; other grids have
  another optimum.
  """
  return jnp.minimum(damping, START)


def adapt(damping: jax.Array, fell: jax.Array) -> jax.Array:
  """Returns the next damping: less where the loss fell, else more."""
  return jnp.clip(
      damping * jnp.where(fell, _DECREASE, _INCREASE), *_LIMITS)


# The step.


def model_residuals(model: nn.Module) -> Residuals:
  """Returns residuals of a model: its outputs minus the targets.

  Args:
    model: Model whose rows do not depend on each other. Its outputs have the
      shape of the targets, rows first.
  """
  def residuals(params, collection, x, y):
    outputs = model.apply({'params': params, 'grid': collection}, x)
    if outputs.shape != y.shape:
      raise ValueError(
          f'the targets have the shape {y.shape} and the outputs '
          f'{outputs.shape}; least squares need them equal.')
    return outputs - y

  return residuals


def make_step(
    residuals: Residuals, *, smooth: float = 0.0) -> train_steps.Step:
  """Returns `step(state, (x, y)) -> (state, metrics)` for the mean square.

  Args:
    residuals: Function of params, the collection `grid`, x [n, ...] and y
      [n, ...] that returns what each row leaves, [n, ...]. A row does not
      depend on the others. See `model_residuals`.
    smooth: Weight of the roughness beside the mean square, >= 0.

  Returns:
    A pure function, not jitted. A step raises the damping until the loss falls;
    where no damping helps, parameters stay as they are. The metrics are those
    of `training.make_train_step`, at the parameters before the step.
  """
  def step(state, batch):
    # One vector of parameters, in which the roughness is diagonal.
    flat, unravel = flatten_util.ravel_pytree(
        _roughness.to_modes(state.params, state.grid))
    plain, weighted = (flatten_util.ravel_pytree(tree)[0] for tree in (
        _roughness.squares(state.params, state.grid)))

    def params_at(flat):
      return _roughness.from_modes(unravel(flat), state.grid)

    def residuals_at(flat, x, y):
      return residuals(params_at(flat), state.grid, x, y)

    # The quadratic model of the loss, and the damped step to its minimum.
    loss, slope, make_solve = _equations(residuals_at, flat, *batch)
    new, damping, fell = _descend(
        lambda flat: residuals_at(flat, *batch),
        _Problem(loss, slope, make_solve, 1 + plain * (smooth > 0),
                 smooth * weighted), flat, state.opt_state)

    skipped = 1 - jnp.isfinite(loss).astype(loss.dtype)
    metrics = {
        'loss': loss, 'penalty': jnp.zeros_like(loss), 'skipped': skipped}
    return state.replace(
        step=state.step + 1, opt_state=damping, params=jax.tree.map(
            lambda old, new: jnp.where(fell, new, old),
            state.params, params_at(new))), metrics

  return step


# The normal equations, and who solves them.


class _Problem(NamedTuple):
  """The quadratic model of the loss around some parameters."""
  loss: jax.Array  # Mean square, [].
  slope: jax.Array  # Half its gradient, J'r over their number, [p].
  make_solve: Callable  # From a diagonal to add, [p], to a solver.
  metric: jax.Array  # What a unit of damping adds to the diagonal, [p].
  ridge: jax.Array  # What is always on it, and counts in the loss, [p].


def _equations(residuals, flat, x, y):
  """Mean square [], J'r [p] over the number of residuals, and a solver.

  The solver solves the normal equations J'J, or, with fewer residuals than
  parameters, as many equations as there are residuals. A large network spends
  nearly all of its time in this product of matrices.
  """
  size = jax.eval_shape(residuals, flat, x, y).size
  rows = len(x)
  chunk = max(
      1, _backends.choices().jacobian * rows // (flat.size * size))
  if size < flat.size:
    r, jac = _jacobian(residuals, flat, x, y)
    root = size**-0.5
    return (jnp.square(r).mean(), _product(jac.T, r) / size,
            functools.partial(_solve_wide, jac * root))
  loss, slope, normal = _normal_equations(
      residuals, flat, x, y, min(rows, chunk))
  return loss / size, slope / size, functools.partial(
      _solve_square, normal / size)


def _jacobian(residuals, flat, x, y):
  """Residuals [m] and their Jacobian [m, p], row by row of the data."""
  def of_row(x, y):
    def residual(flat):
      return residuals(flat, x[None], y[None]).reshape(-1)

    return residual(flat), jax.jacrev(residual)(flat)

  r, jac = jax.vmap(of_row)(x, y)
  return r.reshape(-1), jac.reshape(-1, flat.size)


def _normal_equations(residuals, flat, x, y, chunk):
  """Returns r'r [], J'r [p] and J'J (see `_gram`), summed over chunks of rows.

  So the Jacobian of all rows is never stored.
  """
  rows = len(x)
  count = -(-rows // chunk)
  weight = jnp.arange(count * chunk) < rows  # The last chunk is filled up.
  parts = jax.tree.map(
      lambda a: jnp.pad(
          a, [(0, len(weight) - rows)] + [(0, 0)] * (a.ndim - 1), 'edge'
      ).reshape(count, chunk, *a.shape[1:]), (x, y))

  def add(totals, part):
    weight, (x, y) = part
    r, jac = _jacobian(residuals, flat, x, y)
    weight = jnp.repeat(weight, len(r) // chunk)
    r = jnp.where(weight, r, 0)
    jac = jnp.where(weight[:, None], jac, 0)
    new = _product(r, r), _product(jac.T, r), _gram(jac)
    return jax.tree.map(jnp.add, totals, new), None

  zeros = (jnp.zeros((), flat.dtype), jnp.zeros_like(flat),
           jnp.zeros((flat.size, flat.size), flat.dtype))
  return jax.lax.scan(add, zeros, (weight.reshape(count, chunk), parts))[0]


def _gram(a):
  """Lower triangle of a'a [p, p]; what is above may be anything.

  It is computed in four parts: for 2,500 and for 3,000 columns they took about
  two thirds of the time of the whole product on one core, as eight parts did.
  """
  size = a.shape[1]
  if size < _SPLIT:
    return _product(a.T, a)
  ends = [size * i // 4 for i in range(5)]
  return jnp.concatenate([
      jnp.pad(_product(a[:, low:high].T, a[:, :high]),
              ((0, 0), (0, size - high)))
      for low, high in itertools.pairwise(ends)])


def _solve_square(normal, weights):
  """Solver of (normal + diag(weights)) s = b, from the lower triangle [p, p].
  """
  scale = jax.lax.rsqrt(weights)
  factor = _factor(jnp.outer(scale, scale) * normal)
  return lambda b: scale * jax.scipy.linalg.cho_solve(factor, scale * b)


def _solve_wide(jac, weights):
  """Solver of (jac' jac + diag(weights)) s = b, from `jac` [m, p], m < p.

  By the formula of Woodbury, so that only a matrix [m, m] is factored.
  """
  scale = jax.lax.rsqrt(weights)
  jac = jac * scale[None]
  factor = _factor(_gram(jac.T))

  def solve(b):
    b = scale * b
    return scale * (b - _product(
        jax.scipy.linalg.cho_solve(factor, _product(jac, b)), jac))

  return solve


def _factor(matrix):
  """Cholesky factor of the identity plus a matrix's lower triangle."""
  # Without the barrier, XLA computes this large constant while it compiles.
  eye = jax.lax.optimization_barrier(jnp.eye(len(matrix), dtype=matrix.dtype))
  return jax.scipy.linalg.cho_factor(matrix + eye, lower=True)


# From the equations to a step.


def _descend(residuals, problem, flat, damping):
  """Raises the damping until the loss falls.

  Returns parameters, the next damping and whether the loss fell.
  """
  def penalty(flat):
    return jnp.sum(problem.ridge * jnp.square(flat))

  slope = problem.slope + problem.ridge * flat
  loss = problem.loss + penalty(flat)

  def attempt(carry):
    attempts, _, damping, _ = carry
    solve = problem.make_solve(damping * problem.metric + problem.ridge)
    straight = -solve(slope)
    bend = solve(_curvature(residuals, flat, straight)) / -2
    new = flat + straight + bend
    new_loss = jnp.square(residuals(new)).mean() + penalty(new)
    # Both are False for what is not finite.
    fell = (new_loss < loss) & (
        2 * jnp.linalg.norm(bend) <= _BEND * jnp.linalg.norm(straight))
    return attempts + 1, new, adapt(damping, fell), fell

  _, new, damping, fell = jax.lax.while_loop(
      lambda carry: ~carry[3] & (carry[0] < _ATTEMPTS), attempt,
      (0, flat, damping, jnp.asarray(False)))
  return new, damping, fell


def _curvature(residuals, flat, direction):
  """J'r'' [p] over the number of residuals, r'' their second derivative."""
  def slope(flat):
    return jax.jvp(residuals, (flat,), (direction,))[1]

  second = jax.jvp(slope, (flat,), (direction,))[1]
  return jax.vjp(residuals, flat)[1](second)[0] / second.size
