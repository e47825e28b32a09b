"""Models in which it is data, not structure, which function an edge carries.

The function of an edge is a static attribute of its model, so that each choice
compiles a program of its own. Who tries many choices opens the model: then all
edges may carry any function of a library, and one program serves all of them.
Values and gradients stay the same up to rounding.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions as library_lib
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges

Path = tuple[str, ...]
_NAME = 'opened'  # Of the model, in the variables.


class Opened(nn.Module):
  """A model of which any edge may carry any function, besides its spline.

  Its variables are those of the model under the name `opened`, with a row of
  `affine` for every edge. The collection `grid` also has an entry for each
  layer, [edges], int32: 0 for an edge that carries no function, or 1 and the
  place of its function in `functions`.

  Attributes:
    model: A KAN or a KANLayer without symbolic edges.
    shapes: Paths of its layers, each with its inputs and outputs.
    functions: What an edge may carry.
  """
  model: nn.Module
  shapes: tuple[tuple[Path, tuple[int, int]], ...]
  functions: tuple[library_lib.Function, ...]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    model: Any = self.model
    places: dict[Path, Any] = {
        path: self.get_variable('grid', _places(path))
        for path, _ in self.shapes}
    for path, shape in self.shapes:
      function = library_lib.Function('any', self._switch(places[path]), str)
      model = edits.with_groups(model, path, ((function, _edges(shape)),))

    def hold(variables):  # What carries no function is 0, and stays so.
      params = variables['params']
      for path, place in places.items():
        affine = structure.part(params, path)['affine']
        params = _with_affine(params, path, affine * (place > 0)[:, None])
      return {'params': params}

    inside = nn.map_variables(
        lambda model, x: model(x), 'params', trans_in_fn=hold)
    return inside(model.clone(name=_NAME, parent=self), x)

  def _switch(self, places: jax.Array):
    """The functions in these places, of arguments [n, edges]."""
    branches = [jnp.zeros_like, *(one.fn for one in self.functions)]
    return lambda z: jax.lax.map(
        lambda edge: jax.lax.switch(edge[0], branches, edge[1]),
        (places, z.T)).T


def open_edges(
    model: nn.Module, variables: Mapping[str, Any],
    functions: Sequence[library_lib.Function]) -> tuple[Opened, dict[str, Any]]:
  """Opens a KAN or a KANLayer.

  Args:
    model: The model, with any symbolic edges.
    variables: Its variables.
    functions: What an edge may carry, besides what edges carry already.

  Returns:
    A model, the same for all choices of these functions, and its variables.
  """
  paths = structure.paths(model)
  carried = {path: {
      edge: (library_lib.find(name), row) for edge, (name, row)
      in edits.read(model, variables, path).items()} for path in paths}
  functions = tuple(dict.fromkeys([*functions, *(
      function for layer in carried.values()
      for function, _ in layer.values())]))
  params, shapes = variables['params'], []
  grid: dict[str, Any] = {_NAME: variables['grid']}
  for path in paths:
    scale = structure.part(params, path)['scale_base']
    shapes.append((path, scale.shape))
    rows, places = np.zeros((scale.size, 4)), np.zeros(scale.size, np.int32)
    for k, edge in enumerate(_edges(scale.shape)):
      if edge in carried[path]:
        function, rows[k] = carried[path][edge]
        places[k] = 1 + functions.index(function)
    params = _with_affine(params, path, jnp.asarray(rows, scale.dtype))
    grid[_places(path)] = jnp.asarray(places)
    model = edits.with_groups(model, path, ())
  return Opened(model, tuple(shapes), functions), {
      'params': {_NAME: params}, 'grid': grid}


def close_edges(
    model: nn.Module, variables: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the variables of a model that was opened.

  Args:
    model: The model as it was before.
    variables: Of what `open_edges` made of it, its numbers as they are now.
  """
  params = variables['params'][_NAME]
  for path, groups in structure.symbolic(model).items():
    layer = structure.part(params, path)
    order = _edges(layer['scale_base'].shape)
    rows = [order.index(edge) for edge in symbolic_edges.pairs(groups)]
    params = _with_affine(
        params, path, layer['affine'][np.array(rows)] if rows else None)
  return {'params': params, 'grid': variables['grid'][_NAME]}


def _places(path: Path) -> str:
  return '/'.join(('places', *path))


def _edges(shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
  return tuple(itertools.product(range(shape[0]), range(shape[1])))


def _with_affine(params: Any, path: Path, rows: jax.Array | None) -> Any:
  """Replaces `affine` of a layer; None for none."""
  flat = dict(traverse_util.flatten_dict(params))
  flat.pop((*path, 'affine'), None)
  if rows is not None:
    flat[*path, 'affine'] = rows
  return traverse_util.unflatten_dict(flat)
