"""Finer grids for a whole model, its optimizer included."""

from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from kan_jax.layers import edits
from kan_jax.splines import bases
from kan_jax.splines import bsplines
from kan_jax.training import train_steps

# Names under which optax keeps moments of the gradient, and their degrees.
_DEGREES = {'mu': 1, 'nu': 2, 'nu_max': 2, 'v': 2}


class CarryOverError(ValueError):
  """What an optimizer keeps has no counterpart on a finer grid."""


def refine_state(
    model: nn.Module, state: train_steps.TrainState, grid: int,
    tx: optax.GradientTransformation) -> tuple[
        Any, train_steps.TrainState]:
  """Refines a model in the middle of its training.

  The next step moves the functions as it would have on the old grid: what the
  optimizer keeps for each coefficient is spread over the coefficients that
  follow it. Adam's moments also shrink, since B-splines that cover less have
  smaller gradients.

    model, state = kan_jax.training.refine_state(model, state, 20, tx)

  Args:
    model: A KAN, a KANLayer, or another module whose attribute `grid` is the
      number of intervals of all its layers.
    state: State of its training.
    grid: New number of intervals in each layer.
    tx: Optimizer of the state. What it keeps must have the shapes of the
      parameters, as in Adam. One with a longer memory, such as L-BFGS, has to
      forget it: use `refine` and `tx.init`.

  Returns:
    The model with more intervals, and its state.

  Raises:
    ValueError: If the model has no such attribute (see `refine_state_arrays`)
      or a layer has more intervals already.
    CarryOverError: If an array of the optimizer has another shape, or the
      model is not made of B-splines.
  """
  basis = edits.basis_of(model)
  bases.check_refine(basis)
  if basis != 'bspline':
    raise CarryOverError(
        f'`model` has the `basis` {basis!r}: what an optimizer keeps is '
        'carried over for B-splines alone; use `refine` and `tx.init`.')
  finer, variables = edits.refine(model, state.variables, grid)
  return finer, _carry_over(state, variables, tx)


def refine_state_arrays(
    state: train_steps.TrainState, grid: int,
    tx: optax.GradientTransformation) -> train_steps.TrainState:
  """Does what `refine_state` does, for a model that the caller changes.

  Args:
    state: State of the training of any model that holds KAN layers, of
      B-splines.
    grid: New number of intervals in each layer.
    tx: Optimizer of the state.
  """
  return _carry_over(
      state, edits.refine_variables(state.variables, grid), tx)


class _Coef(NamedTuple):
  """Coefficients of a layer before and after, and the knots before."""
  old: jax.Array
  new: jax.Array
  knots: jax.Array


def _carry_over(
    state: train_steps.TrainState, variables: Any,
    tx: optax.GradientTransformation) -> train_steps.TrainState:
  """Returns the state with finer variables and an optimizer that suits them."""
  coefs = _coefs(state, variables)
  wanted: Any = jax.eval_shape(tx.init, variables['params'])
  structures: list[Any] = [
      jax.tree.structure(tree) for tree in (wanted, state.opt_state)]
  if structures[0] != structures[1]:
    raise CarryOverError(
        '`tx` keeps other arrays for the finer grid than the state has, which '
        'cannot be carried over; use `refine` and `tx.init`.')

  def carry(path, leaf, new):
    if leaf.shape == new.shape:
      return leaf
    coef = next((coefs[path[k:]] for k in range(len(path))
                 if path[k:] in coefs), None)
    if coef is None or (leaf.shape, new.shape) != (
        coef.old.shape, coef.new.shape):
      raise CarryOverError(
          f'`tx` keeps an array {leaf.shape} that would be {new.shape} for the '
          'finer grid, which cannot be carried over; use `refine` and '
          '`tx.init`.')
    return _spread(leaf, coef, _degree(path))

  return state.replace(
      params=variables['params'], grid=variables['grid'],
      opt_state=jax.tree.map_with_path(carry, state.opt_state, wanted))


def _coefs(
    state: train_steps.TrainState, variables: Any) -> dict[tuple, _Coef]:
  """Returns the coefficients of all layers by their paths in `params`."""
  knots = {path[:-1]: leaf for path, leaf in (
      jax.tree_util.tree_leaves_with_path(state.grid))
           if path[-1].key == 'knots'}
  leaves = zip(*map(jax.tree_util.tree_leaves_with_path, (
      state.params, variables['params'])), strict=True)
  return {path: _Coef(old, new, knots[path[:-1]])
          for (path, old), (_, new) in leaves
          if path[-1].key == 'coef' and path[:-1] in knots}


def _spread(leaf: jax.Array, coef: _Coef, degree: int) -> jax.Array:
  """Refines what an optimizer keeps for the coefficients of a layer."""
  intervals, order = bsplines.grid_and_order(
      coef.knots.shape[-1], coef.old.shape[-2])
  grid = coef.new.shape[1] - order
  spread = edits.refine_layer(coef.knots, leaf, grid)[1]
  spread *= (intervals / grid)**degree
  # Rounding must not make squares negative.
  return jnp.maximum(spread, 0) if degree == 2 else spread


def _degree(path: tuple[Any, ...]) -> int:
  """Degree in the gradient of what an optimizer keeps under a path; or 0."""
  names = [key.name for key in path
           if isinstance(key, jax.tree_util.GetAttrKey)]
  return _DEGREES.get(names[-1], 0) if names else 0
