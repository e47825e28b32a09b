"""Models in which data, not structure, say which function an edge carries.

The function of an edge is a static attribute of its model, so each choice of
functions compiles a program of its own. To try many choices, open the model:
then every edge may carry any function of a library, and one program serves all
choices. Values and gradients stay the same up to rounding.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges

Path = tuple[str, ...]
_NAME = 'model'  # Of the model, in the variables of the opened one.


class Opened(nn.Module):
  """A model of which any edge may carry any function, besides its spline.

  Its variables are those of the model under the name `model`. In addition, each
  layer has `affine` in `params`, a row a, b, c, d for every edge, and `choice`
  in `grid`, [edges], int32: 0 for an edge that carries no function, or 1 plus
  the index of its function in `library`. Edges are ordered by input, then by
  output.

  Attributes:
    model: A KAN or a KANLayer without symbolic edges.
    library: Functions that an edge may carry.
  """
  model: nn.Module
  library: tuple[functions.Function, ...]

  def __call__(self, x: jax.Array) -> jax.Array:
    add = functools.partial(_add_curves, self.library)
    with nn.intercept_methods(add):
      return self.model(x)  # type: ignore[operator]


def open_edges(
    model: nn.Module, variables: Mapping[str, Any],
    library: Sequence[functions.Function]) -> tuple[Opened, dict[str, Any]]:
  """Opens a KAN or a KANLayer.

  Args:
    model: The model, with any symbolic edges.
    variables: Its variables.
    library: Functions that an edge may carry, besides those that edges carry.

  Returns:
    A model, the same for all choices of these functions, and its variables.
  """
  paths = list(structure.symbolic(model))
  carried = {path: {
      edge: (functions.find(name), row) for edge, (name, row)
      in edits.read(model, variables, path).items()} for path in paths}
  library = tuple(dict.fromkeys([*library, *(
      function for layer in carried.values()
      for function, _ in layer.values())]))
  params, grid = variables['params'], variables['grid']
  for path in paths:
    scale = structure.part(params, path)['scale_base']
    rows, choice = np.zeros((scale.size, 4)), np.zeros(scale.size, np.int32)
    for k, edge in enumerate(_all_edges(scale.shape)):
      if edge in carried[path]:
        function, rows[k] = carried[path][edge]
        choice[k] = 1 + library.index(function)
    params = _replace(
        params, (*path, 'affine'), jnp.asarray(rows, scale.dtype))
    grid = _replace(grid, (*path, 'choice'), jnp.asarray(choice))
    model = edits.with_groups(model, path, ())
  return Opened(model, library), {
      'params': {_NAME: params}, 'grid': {_NAME: grid}}


def close_edges(
    model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the variables of a model that was opened.

  Args:
    model: The model as it was before.
    variables: Variables of the opened model, with their present numbers.
  """
  params, grid = (variables[kind][_NAME] for kind in ('params', 'grid'))
  for path, groups in structure.symbolic(model).items():
    layer = structure.part(params, path)
    order = _all_edges(layer['scale_base'].shape)
    rows = [order.index(edge) for edge in symbolic_edges.pairs(groups)]
    affine = layer['affine'][np.array(rows)] if rows else None
    params = _replace(params, (*path, 'affine'), affine)
    grid = _replace(grid, (*path, 'choice'), None)
  return {'params': params, 'grid': grid}


def _add_curves(
    library: Sequence[functions.Function], layer_call: Callable[..., Any],
    args: tuple[Any, ...], kwargs: Mapping[str, Any],
    context: nn.module.InterceptorContext) -> Any:
  """Adds the values of all edges' functions to what a KAN layer computes."""
  y = layer_call(*args, **kwargs)
  layer = context.module
  if (not isinstance(layer, linen.KANLayer) or not library
      or context.method_name != '__call__'):
    return y
  [x] = args
  curves = _curves(layer, x.reshape(-1, x.shape[-1]), library)
  # Where the curves are added only the edges count, not their functions.
  edges = _all_edges((x.shape[-1], layer.features))
  everywhere: symbolic_edges.Groups = ((library[0], edges),)
  if layer.is_mutable_collection('edges'):
    stats: tuple[Any, ...] = layer.get_variable('edges', 'stats')
    last = symbolic_edges.add_to_statistics(stats[-1], curves, everywhere)
    layer.put_variable('edges', 'stats', (*stats[:-1], last))
  rows = y.reshape(-1, layer.features)
  return symbolic_edges.add_to_nodes(rows, curves, everywhere).reshape(y.shape)


def _curves(
    layer: linen.KANLayer, x: jax.Array,
    library: Sequence[functions.Function]) -> jax.Array:
  """Returns the values of all edges for inputs [n, in], [n, edges]."""
  choice: jax.Array = layer.get_variable('grid', 'choice')
  knots: jax.Array = layer.get_variable('grid', 'knots')
  affine: jax.Array = layer.get_variable('params', 'affine')
  x = x.astype(jnp.promote_types(x.dtype, knots.dtype))
  # The numbers of an edge without a function are 0, and training keeps them so.
  a, b, c, d = (affine.astype(x.dtype) * (choice > 0)[:, None]).T[:, None]
  arguments = a * jnp.repeat(x, layer.features, 1) + b
  # Only the function that is chosen is computed: others may be NaN there.
  branches = [jnp.zeros_like, *(function.fn for function in library)]
  values = jax.lax.map(
      lambda edge: jax.lax.switch(edge[0], branches, edge[1]),
      (choice, arguments.T)).T
  return c * values + d


def _all_edges(shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
  return tuple(itertools.product(range(shape[0]), range(shape[1])))


def _replace(tree: Any, path: Path, array: jax.Array | None) -> Any:
  """Returns a tree with another array in one place; None for no array."""
  flat = dict(traverse_util.flatten_dict(tree))
  flat.pop(path, None)
  if array is not None:
    flat[path] = array
  return traverse_util.unflatten_dict(flat)
