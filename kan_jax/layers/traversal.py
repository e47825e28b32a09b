"""Looking into models: every KAN layer of a model, on a batch.

The layers are found by intercepting their calls, whatever a Flax model puts
around them.
"""

import collections
from collections.abc import Callable
from collections.abc import Sequence
import functools
from typing import Any
from typing import NamedTuple

from flax import linen as nn
from flax import traverse_util
from flax.core import tracers
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.layers import symbolic_edges
from kan_jax.layers.nnx import accept
from kan_jax.splines import bases
from kan_jax.splines import bsplines
from kan_jax.splines import grids

# Most edge values that are computed at once: 64 MiB in float32.
_CHUNK = 2**24
_GRID_UPDATE = grids.GridUpdate()


class LayerView(NamedTuple):
  """One KAN layer as seen from outside, on one batch.

  Attributes:
    inputs: Inputs that the layer was applied to, [n, in].
    edges: Arrays of the layer.
    order: Degree of its splines.
    edge_outputs: Function that returns the values of all edges, [n, in, out],
      symbolic ones included, for inputs [n, in].
    symbolic: Symbolic edges of the layer.
  """
  inputs: jax.Array
  edges: edges.Edges
  order: int
  edge_outputs: Callable[[jax.Array], jax.Array]
  symbolic: symbolic_edges.Groups = ()

  def __repr__(self) -> str:
    inputs, outputs = self.edges.mask.shape
    return (f'LayerView of {inputs} inputs, {outputs} outputs, order '
            f'{self.order}, on {len(self.inputs)} rows')


@accept.takes_nnx
def view_layers(
    model: nn.Module, variables: Any, *args: Any,
    **kwargs: Any) -> dict[tuple[str, ...], LayerView]:
  """Returns every KAN layer that a model applies, by path, in that order.

  A layer that is applied twice is seen as it is applied last. Layers that
  `nn.scan` stacks are numbered at the end of their path, from '0'.

  Args:
    model: Any Flax module that holds KAN layers, however deep.
    variables: Its variables.
    *args: What the model is applied to.
    **kwargs: Further keyword arguments of `model.apply`, such as `rngs`.

  Raises:
    ValueError: If the model applies layers where they cannot be seen, as within
      `nn.vmap` or `nn.remat`.
  """
  checks.check_model(model)
  apply = functools.partial(model.apply, variables, *args, **kwargs)
  views, hidden = _visible_layers(variables, apply)
  if hidden:  # Loops over layers run as loops of Python; so they are seen.
    with jax.disable_jit():
      views, hidden = _visible_layers(variables, apply)
  if hidden:
    raise ValueError(
        f'`model` applies the KAN layer {"/".join(hidden[0])} within a '
        'transform such as nn.vmap or nn.remat, in which it cannot be looked '
        'at. Look at one member instead, with its part of the variables: '
        'jax.tree.map(lambda array: array[0], variables).')
  return views


def _visible_layers(variables: Any, apply: Callable[[], Any]) -> tuple[
    dict[tuple[str, ...], LayerView], list[tuple[str, ...]]]:
  """Returns views, and the paths of layers that only a transform sees."""
  views: dict[tuple[str, ...], LayerView] = {}
  hidden, seen = [], set()
  visits: collections.Counter[tuple[str, ...]] = collections.Counter()
  flat = traverse_util.flatten_dict(variables.get('grid', {}))
  trace = tracers.current_trace()

  def look(module, x):
    path = module.path
    if tracers.current_trace() != trace:
      hidden.append(path)
      return
    seen.add(path)
    stacked = np.shape(flat.get((*path, 'knots'), ()))[:-2]
    if stacked:
      path = *path, str(visits[path] % stacked[0])
      visits[module.path] += 1
    views[path] = _view(module, x)

  with nn.intercept_methods(_before_layers(look)):
    apply()
  return views, [path for path in hidden if path not in seen]


def _view(module: linen.KANLayer, x: jax.Array) -> LayerView:
  """Returns the view of a bound layer on inputs [..., in]."""
  get = module.get_variable
  arrays = edges.Edges(
      *(get('grid', name) for name in ('knots', 'mask')),
      *(get('params', name) for name in ('coef', 'scale_base', 'scale_spline')))
  edge_outputs = functools.partial(
      _edge_outputs, arrays=arrays, affine=get('params', 'affine'),
      order=module.order, base_fn=module.base_fn, outside=module.outside,
      basis=module.basis, symbolic=module.symbolic)
  return LayerView(
      x.reshape(-1, x.shape[-1]), arrays, module.order, edge_outputs,
      module.symbolic)


# Compiled also where nothing else is: op by op, it would be dozens of programs.
@functools.partial(jax.jit, static_argnames=(
    'order', 'base_fn', 'outside', 'basis', 'symbolic'), inline=True)
def _edge_outputs(
    points: jax.Array, *, arrays: edges.Edges, affine: jax.Array | None,
    order: int, base_fn: edges.BaseFn, outside: bsplines.Outside,
    basis: bases.Name, symbolic: symbolic_edges.Groups) -> jax.Array:
  """Returns the values of all edges of a layer, [n, in, out]."""
  values = edges.outputs(
      edges.features(points, arrays.knots, order, base_fn, outside, basis),
      edges.weights(arrays))
  if affine is None or not symbolic:
    return values
  return symbolic_edges.add_to_edges(
      values, symbolic_edges.values(points, symbolic, affine), symbolic)


def around_layers(
    compute: Callable[[linen.KANLayer, jax.Array, Callable[[], Any]], Any]
    ) -> Callable[..., Any]:
  """Returns an interceptor that is called in place of each KAN layer.

  Args:
    compute: Function of a bound layer, its inputs, and a function without
      arguments that computes what the layer does. It returns the outputs.
  """
  def intercept(next_fun, args, kwargs, context):
    proceed = functools.partial(next_fun, *args, **kwargs)
    if (not isinstance(context.module, linen.KANLayer)
        or context.method_name != '__call__'):
      return proceed()
    # A layer may be given lists and DataFrames, as any array.
    x = jnp.asarray(args[0] if args else kwargs['x'])
    return compute(context.module, x, proceed)

  return intercept


def _before_layers(
    visit: Callable[[linen.KANLayer, jax.Array], None]) -> Callable[..., Any]:
  """An interceptor that visits each KAN layer before it computes."""
  def compute(module, x, proceed):
    visit(module, x)
    return proceed()

  return around_layers(compute)


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
      are not finite. Traced, a column with such a row keeps its grid. Also if
      a layer is within a transform that shares its variables, as `nn.RNN`.
  """
  checks.check_model(model)
  checks.check_arguments(args)
  # Inputs of each layer so far, and the trace in which they were seen: a scan
  # traces its body twice, and the first time leaves nothing behind.
  seen: dict[tuple[str, ...], tuple[Any, jax.Array]] = {}
  outer = tracers.current_trace()

  def update(module, x):
    x, trace = x.reshape(-1, x.shape[-1]), tracers.current_trace()
    # A layer that is used again gets a grid for all its inputs so far.
    if module.path in seen and seen[module.path][0] == trace:
      x = jnp.concatenate([seen[module.path][1], x])
    seen[module.path] = trace, x
    module.update_grid(x, grid_update=grid_update)

  try:
    with nn.intercept_methods(_before_layers(update)):
      _, new = model.apply(
          variables, *args, mutable=['params', 'grid'], **kwargs)
  except ValueError as error:
    lifted = [path for path, (trace, _) in seen.items() if trace != outer]
    if not lifted:
      raise
    raise ValueError(
        f'`model` applies the KAN layer {"/".join(lifted[-1])} within a '
        'transform, such as nn.scan, nn.RNN or nn.vmap, that does not let it '
        f'change its variables ({error}). Stack them with '
        "variable_axes={'params': 0, 'grid': 0}, or, where one layer is used "
        'again and again, update the grids of that layer by itself on all its '
        'inputs.') from error
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
    edges: The edges, as (input, output).

  Returns:
    x and y, each [n, edges], in the layer's dtype.
  """
  i, o = np.array(edges, int).reshape(-1, 2).T
  rows = max(1, _CHUNK // layer.edges.mask.size)
  parts = [layer.edge_outputs(layer.inputs[k:k + rows])[:, i, o]
           for k in range(0, len(layer.inputs), rows)]
  return np.asarray(layer.inputs[:, i]), np.concatenate(parts)
