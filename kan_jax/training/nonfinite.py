"""Where a number that is not finite comes from: which layer, which array.

Training only notes that a step was not finite; afterwards, this says why.
"""

from collections.abc import Iterator
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from kan_jax.layers import traversal
from kan_jax.training import train_steps


def find_nonfinite(
    model: nn.Module, objective: train_steps.Objective,
    state: train_steps.TrainState, batch: tuple[jax.Array, jax.Array]) -> str:
  """Says what is not finite in a step, in the order in which it computes.

  Args:
    model: Model of the state.
    objective: Objective that the step minimizes; see `make_objective`. That of
      a model that draws needs its key: `functools.partial(objective, key=key)`.
    state: State before the step.
    batch: Inputs and targets of the step.

  Returns:
    A phrase like 'the gradient of layers_0/coef': the first that is not
    finite of inputs and targets, knots and parameters, what enters a KAN
    layer, the loss, and the gradient. 'nothing' if all is finite.
  """
  for name, value in _stages(model, objective, state, batch):
    if jnp.issubdtype(jnp.result_type(value), jnp.floating) and not (
        jnp.isfinite(value).all()):
      return name
  return 'nothing'


def _stages(
    model: nn.Module, objective: train_steps.Objective,
    state: train_steps.TrainState,
    batch: tuple[jax.Array, jax.Array]) -> Iterator[tuple[str, Any]]:
  """Yields names and values, each computed when it is asked for."""
  yield from zip(('the inputs', 'the targets'), batch, strict=True)
  yield from _leaves(state.variables)
  for path, view in traversal.view_layers(
      model, state.variables, batch[0]).items():
    yield f'the input of layer {"/".join(path) or "KANLayer"}', view.inputs
  yield 'the output', model.apply(state.variables, batch[0])
  (value, metrics), grads = jax.value_and_grad(objective, has_aux=True)(
      state.params, state.grid, *batch)
  yield 'the loss', metrics['loss']
  yield 'the penalty', value
  for name, grad in _leaves(grads):
    yield f'the gradient of {name}', grad


def _leaves(tree: Any) -> Iterator[tuple[str, jax.Array]]:
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    yield jax.tree_util.keystr(path, simple=True, separator='/'), leaf
