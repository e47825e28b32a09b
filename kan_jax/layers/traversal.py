"""Looking into models: every KAN layer of one, on a batch.

Whatever a Flax model puts around them, the layers are found by intercepting
their calls.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.layers import symbolic_edges
from kan_jax.splines import bsplines
from kan_jax.splines import grids

# Most edge values that are computed at a time: 64 MiB in float32.
_CHUNK = 2**24
_GRID_UPDATE = grids.GridUpdate()


class LayerView(NamedTuple):
  """One KAN layer as seen from outside, on one batch.

  Attributes:
    inputs: What the layer was applied to, [n, in].
    edges: Its arrays.
    order: Degree of its splines.
    edge_outputs: Of inputs [n, in], the value of every edge, [n, in, out],
      symbolic ones included.
    symbolic: Its symbolic edges.
  """
  inputs: jax.Array
  edges: edges.Edges
  order: int
  edge_outputs: Callable[[jax.Array], jax.Array]
  symbolic: symbolic_edges.Groups = ()


def view_layers(
    model: nn.Module, variables: Any, *args: Any,
    **kwargs: Any) -> dict[tuple[str, ...], LayerView]:
  """Returns every KAN layer that a model applies, by path, in that order.

  Args:
    model: Any Flax module that holds KAN layers, however deep.
    variables: Its variables.
    *args: What the model is applied to.
    **kwargs: Further keyword arguments of `model.apply`, such as `rngs`.
  """
  views = {}

  def look(module, x):
    get = module.get_variable
    arrays = edges.Edges(
        *(get('grid', name) for name in ('knots', 'mask')),
        *(get('params', name)
          for name in ('coef', 'scale_base', 'scale_spline')))
    edge_outputs = functools.partial(
        _edge_outputs, arrays=arrays, affine=get('params', 'affine'),
        order=module.order, base_fn=module.base_fn, outside=module.outside,
        symbolic=module.symbolic)
    views[module.path] = LayerView(
        x.reshape(-1, x.shape[-1]), arrays, module.order, edge_outputs,
        module.symbolic)

  with nn.intercept_methods(_before_layers(look)):
    model.apply(variables, *args, **kwargs)
  return views


# Compiled also where nothing else is: op by op, it would be dozens of programs.
@functools.partial(jax.jit, static_argnames=(
    'order', 'base_fn', 'outside', 'symbolic'), inline=True)
def _edge_outputs(
    points: jax.Array, *, arrays: edges.Edges, affine: jax.Array | None,
    order: int, base_fn: edges.BaseFn, outside: bsplines.Outside,
    symbolic: symbolic_edges.Groups) -> jax.Array:
  """Returns the values of all edges of a layer, [n, in, out]."""
  values = edges.outputs(
      edges.features(points, arrays.knots, order, base_fn, outside),
      edges.weights(arrays))
  if affine is None or not symbolic:
    return values
  return symbolic_edges.add_to_edges(
      values, symbolic_edges.values(points, symbolic, affine), symbolic)


def _before_layers(visit: Callable[[linen.KANLayer, jax.Array], None]):
  """An interceptor that visits each KAN layer before it computes."""
  def intercept(next_fun, args, kwargs, context):
    if (isinstance(context.module, linen.KANLayer)
        and context.method_name == '__call__'):
      # A layer may be given lists and DataFrames, as any array.
      visit(context.module, jnp.asarray(args[0] if args else kwargs['x']))
    return next_fun(*args, **kwargs)

  return intercept


def update_grids(
    model: nn.Module, variables: Any, *args: Any,
    grid_update: grids.GridUpdate = _GRID_UPDATE, **kwargs: Any) -> Any:
  """Moves the grids of every KAN layer in a model to the inputs it sees.

  One forward pass: each layer takes its new knots and coefficients before it
  computes, so that the next one sees what it will be given. Pure; to jit it,
  make `model` and `grid_update` static:

    update = jax.jit(
        kan_jax.update_grids, static_argnums=0, static_argnames='grid_update')
    variables = update(model, variables, x)

  Args:
    model: Any Flax module that holds KAN layers, however deep.
    variables: Its variables, with `params` and `grid`.
    *args: What the model is applied to.
    grid_update: How the knots are placed, and how far they move.
    **kwargs: Further keyword arguments of `model.apply`, such as `rngs`.

  Returns:
    The variables with new knots and spline coefficients; nothing else differs.
    The function of a layer stays as it was on its samples as far as the new
    splines can represent it; see `splines.refit`.

  Raises:
    ValueError: If the batch is empty or, where it is not traced, has rows that
      are not finite. Traced, a column with such a row keeps its grid.
  """
  checks.check_arguments(args)
  seen: dict[tuple[str, ...], jax.Array] = {}

  def update(module, x):
    x = x.reshape(-1, x.shape[-1])
    # A layer that is used again gets a grid for all its inputs so far.
    if module.path in seen:
      x = jnp.concatenate([seen[module.path], x])
    seen[module.path] = x
    module.update_grid(x, grid_update=grid_update)

  with nn.intercept_methods(_before_layers(update)):
    _, new = model.apply(
        variables, *args, mutable=['params', 'grid'], **kwargs)
  return {**variables, **new}


def view_layer(
    model: nn.Module, variables: Any, x: jax.Array,
    path: tuple[str, ...]) -> LayerView:
  """Returns the view of one layer on a batch of inputs of the model."""
  views = view_layers(model, variables, x)
  if path not in views:
    raise ValueError(f'`layer` is one of {list(views)}; got {path}.')
  return views[path]


def spline_edges(layer: LayerView) -> list[tuple[int, int]]:
  """Returns the edges (input, output) that are splines and not removed."""
  carrying = symbolic_edges.pairs(layer.symbolic)
  return [(i, o) for i, o in np.argwhere(layer.edges.mask).tolist()
          if (i, o) not in carrying]


def edge_samples(
    layer: LayerView,
    edges: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns inputs and values of some edges on the batch of a view.

  Args:
    layer: The view of their layer, of a batch of n rows.
    edges: Which ones, as (input, output).

  Returns:
    x and y, each [n, edges], in the layer's dtype.
  """
  i, o = np.array(edges, int).reshape(-1, 2).T
  rows = max(1, _CHUNK // layer.edges.mask.size)
  parts = [layer.edge_outputs(layer.inputs[k:k + rows])[:, i, o]
           for k in range(0, len(layer.inputs), rows)]
  return np.asarray(layer.inputs[:, i]), np.concatenate(parts)
