"""Passes over any NNX model that holds KAN layers: grid updates, penalties.

A layer has an attribute that is called before it computes; a pass sets it,
calls the model and takes it away. Flax's transforms carry attributes along, and
what was compiled without one is not used with it.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
from typing import Any

from flax import nnx
from flax.core import tracers
import jax
import jax.numpy as jnp

from kan_jax import checks
from kan_jax.layers import _forward
from kan_jax.layers import regularization
from kan_jax.layers.nnx import modules
from kan_jax.splines import grids

_GRID_UPDATE = grids.GridUpdate()
_PENALTY = regularization.Penalty()
PenaltyFn = Callable[[Any, Any], jax.Array]  # Of params and edge statistics.


_STATISTICS = 'statistics'  # Attribute of layers during `penalty`.


class _Statistics(nnx.Variable):
  """The `EdgeStats` of a layer."""


def layers_of(model: nnx.Module) -> dict[tuple[Any, ...], modules.KANLayer]:
  """Returns every KAN layer in a model by its path, each layer once."""
  return {path: node for path, node in nnx.iter_graph(model)
          if isinstance(node, modules.KANLayer)}


@contextlib.contextmanager
def _visiting(visits: Mapping[Any, modules.Visit], layers: Mapping[
    Any, modules.KANLayer]) -> Iterator[None]:
  """Lets each layer call its visit before it computes."""
  for path, layer in layers.items():
    layer.before = visits[path]
  try:
    yield
  finally:
    for layer in layers.values():
      layer.before = None


@dataclasses.dataclass(frozen=True)
class _UpdateGrid:
  """Gives a layer the grid that suits its inputs.

  Attributes:
    grid_update: How the knots are placed.
    seen: Inputs so far, and the trace in which they were seen: a scan traces
      its body more than once.
  """
  grid_update: grids.GridUpdate
  seen: list[tuple[Any, jax.Array]] = dataclasses.field(
      default_factory=list, compare=False)

  def __call__(self, layer: modules.KANLayer, x: jax.Array) -> None:
    x, trace = x.reshape(-1, x.shape[-1]), tracers.current_trace()
    # A layer that is used again gets a grid for all its inputs so far.
    if self.seen and self.seen[-1][0] == trace:
      x = jnp.concatenate([self.seen[-1][1], x])
    self.seen.append((trace, x))
    layer.update_grid(x, grid_update=self.grid_update)


def update_grids(
    model: nnx.Module, *args: Any,
    grid_update: grids.GridUpdate = _GRID_UPDATE, **kwargs: Any) -> None:
  """Moves the grids of every KAN layer in a model to its inputs, in place.

  One forward pass: each layer takes its new knots and coefficients before it
  computes, so that the next one sees what it will be given. To compile it:

    nnx.jit(kan_jax.nnx.update_grids)(model, x)

  Args:
    model: Any NNX module that holds KAN layers, however deep.
    *args: What the model is called with.
    grid_update: How the knots are placed, and how far they move.
    **kwargs: Further keyword arguments of the call.

  Raises:
    ValueError: If the model holds no KAN layer, the batch is empty or, where it
      is not traced, has rows that are not finite. Traced, a column with such a
      row keeps its grid. Also if a layer is within a transform that does not
      let it change its variables.
  """
  checks.check_arguments(args)
  layers = layers_of(model)
  if not layers:
    raise ValueError(
        '`model` holds no KAN layer, so no grid to update; got a '
        f'{type(model).__name__}.')
  visits = {path: _UpdateGrid(grid_update) for path in layers}
  before = {path: layer.knots.get_raw_value()
            for path, layer in layers.items()}
  with _visiting(visits, layers):
    model(*args, **kwargs)  # type: ignore[operator]
  visited = {path for path, visit in visits.items() if visit.seen}
  for visit in visits.values():
    visit.seen.clear()  # What is compiled may keep the visit.
  for path, layer in layers.items():
    if path in visited and layer.knots.get_raw_value() is before[path]:
      raise ValueError(
          f'`model` applies the KAN layer {"/".join(map(str, path))} within a '
          'transform, such as nnx.scan over its inputs, that does not let it '
          'change its variables. Update the grids of that layer by itself on '
          'all its inputs.')


def _keep_statistics(layer: modules.KANLayer, x: jax.Array) -> None:
  if hasattr(layer, _STATISTICS):
    raise ValueError(
        'a KAN layer was applied more than once; its edges have no single '
        'score.')
  setattr(layer, _STATISTICS, _Statistics(
      _forward.statistics(x, layer.arrays, layer.options)))


def with_penalty(
    model: nnx.Module, *args: Any, penalty: PenaltyFn = _PENALTY,
    **kwargs: Any) -> tuple[Any, jax.Array]:
  """Returns what a model computes, and the penalty of all its KAN layers.

    y, cost = kan_jax.nnx.with_penalty(model, x)
    loss = jnp.mean((y - targets)**2) + 1e-4 * cost

  Args:
    model: Any NNX module that holds KAN layers, however deep.
    *args: What the model is called with.
    penalty: Penalty on the edges.
    **kwargs: Further keyword arguments of the call.

  Returns:
    The outputs and the penalty, a scalar.

  Raises:
    ValueError: If a layer was not applied, or more than once.
  """
  layers = layers_of(model)
  try:
    with _visiting(dict.fromkeys(layers, _keep_statistics), layers):
      outputs = model(*args, **kwargs)  # type: ignore[operator]
    missing = [path for path, layer in layers.items()
               if not hasattr(layer, _STATISTICS)]
    if missing:
      raise ValueError(
          f'`model` has the KAN layer {"/".join(map(str, missing[0]))}, which '
          'it did not apply; its edges have no score.')
    stats = {path: getattr(layer, _STATISTICS).get_value()
             for path, layer in layers.items()}
  finally:
    for layer in layers.values():
      if hasattr(layer, _STATISTICS):
        delattr(layer, _STATISTICS)
  names = {path: '/'.join(map(str, path)) for path in layers}
  return outputs, penalty(
      {names[path]: modules.to_linen(layer)[1]['params']
       for path, layer in layers.items()},
      {names[path]: {'stats': (stats[path],)} for path in layers})


def penalty(
    model: nnx.Module, *args: Any, penalty: PenaltyFn = _PENALTY,
    **kwargs: Any) -> jax.Array:
  """Returns the penalty of all KAN layers in a model on a batch, for a loss.

  The model stays as it is, also what it draws or counts when it is called.
  With its outputs in the same loss, `with_penalty` has less to compute.

  Args:
    model: Any NNX module that holds KAN layers, however deep.
    *args: What the model is called with.
    penalty: Penalty on the edges.
    **kwargs: Further keyword arguments of the call.

  Raises:
    ValueError: If a layer was not applied, or more than once.
  """
  return with_penalty(nnx.clone(model), *args, penalty=penalty, **kwargs)[1]
