"""Finer grids for a whole model, its optimizer included."""

import functools
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax.layers import edits
from kan_jax.training import train_steps

_NONE = np.zeros(0)  # Stands for the knots of parameters that have none.


def refine_state(
    state: train_steps.TrainState, grid: int,
    tx: optax.GradientTransformation) -> train_steps.TrainState:
  """Refines a model in the middle of its training.

  The next step moves the functions as it would have on the old grid: what the
  optimizer keeps for each coefficient is spread over the coefficients that
  follow it. Adam's moments also shrink, as do the gradients of B-splines that
  cover less.

  Args:
    state: The state.
    grid: New number of intervals in each layer.
    tx: The optimizer of the state; what it keeps must have the shapes of the
      parameters, as in Adam. One with a longer memory, such as L-BFGS, has to
      forget it: use `refine` and `tx.init`.

  Raises:
    ValueError: If an array of the optimizer has another shape; see `refine`.
  """
  variables = edits.refine_variables(state.variables, grid)
  held = traverse_util.flatten_dict(state.grid)
  knots = traverse_util.path_aware_map(
      lambda path, _: held.get((*path[:-1], 'knots'), _NONE)
      if path[-1] == 'coef' else _NONE, state.params)
  try:
    opt_state = optax.tree.map_params(
        tx, functools.partial(_spread, grid=grid), state.opt_state,
        state.params, knots)
  except IndexError as error:  # optax asks it for the state of no parameters.
    raise ValueError(
        '`tx` keeps what depends on more than the shapes of the parameters, '
        'which cannot be carried over; use `refine` and `tx.init`.') from error
  ratios = jax.tree.map(
      lambda coef, knots: (
          edits.spline_size(knots, coef)[0] / grid if knots.size else 1.0),
      state.params, knots)
  return state.replace(
      params=variables['params'], grid=variables['grid'],
      opt_state=jax.tree.map(
          functools.partial(_shrink, ratios=ratios), opt_state,
          is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState)))


def _spread(
    leaf: jax.Array, param: jax.Array, knots: jax.Array,
    grid: int) -> jax.Array:
  """Refines what an optimizer keeps for a parameter, if that has a grid."""
  if not knots.size:
    return leaf
  if leaf.shape != param.shape:
    raise ValueError(
        f'`tx` keeps an array {leaf.shape} for coefficients {param.shape}, '
        'which cannot be carried over; use `refine` and `tx.init`.')
  return edits.refine_layer(knots, leaf, grid)[1]


def _shrink(node: Any, ratios: Any) -> Any:
  """Scales Adam's moments, of first and second degree in the gradient."""
  if not isinstance(node, optax.ScaleByAdamState):
    return node
  return node._replace(
      mu=jax.tree.map(jnp.multiply, node.mu, ratios),
      nu=jax.tree.map(  # Rounding must not make them negative.
          lambda nu, ratio: jnp.maximum(nu * ratio**2, 0), node.nu, ratios))


