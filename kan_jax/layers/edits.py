"""Changes to a network: model and variables in, new ones out.

Nodes are cut out, edges get functions or lose them, grids get more intervals.
Nothing is decided here: the callers say what changes.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges
from kan_jax.splines import grids

Edge = tuple[int, int]  # Input and output.
Carried = tuple[str | functions.Function, Any]  # Function and a, b, c, d.
Assigned = dict[Edge, Carried]


def add_to_biases(
    variables: Mapping[str, Any], path: tuple[str, ...],
    shift: np.ndarray) -> dict[str, Any]:
  """Returns the variables with a layer's biases moved by `shift`, [terms].

  A layer without biases stays as it is.
  """
  flat = _flatten(variables)
  at = ('params', *path, 'node_bias')
  if at in flat:
    bias = np.asarray(flat[at], np.float64) + shift
    flat[at] = jnp.asarray(bias, flat[at].dtype)
  return traverse_util.unflatten_dict(flat)


def cut(
    model: nn.Module, variables: Mapping[str, Any],
    kept: Sequence[np.ndarray]) -> tuple[nn.Module, dict[str, Any]]:
  """Takes nodes out, with all the terms of those that multiply.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    kept: For the inputs and every layer, which nodes stay: [size], bool, at
      least one of each. Those of the outputs of a KANLayer are all of them.

  Returns:
    The model that has the other nodes only, and its variables.
  """
  layout = structure.layout(model, variables)
  flat, symbolic = _flatten(variables), []
  for k, path in enumerate(structure.paths(model)):
    inputs = np.flatnonzero(kept[k])
    terms = np.flatnonzero(kept[k + 1][layout[k + 1].node_of_term])
    edges, rows = _renumber(structure.symbolic(model)[k], inputs, terms)
    symbolic.append(edges)
    for at in flat:
      if at[0] in ('params', 'grid') and at[1:-1] == path:
        flat[at] = _cut_array(at[-1], flat[at], inputs, terms, rows)
    if not edges:
      flat.pop(('params', *path, 'affine'), None)
  sizes = [_cut_nodes(*pair) for pair in zip(layout, kept, strict=True)]
  return _resize(model, sizes, symbolic), traverse_util.unflatten_dict(flat)


def _flatten(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
  return dict(traverse_util.flatten_dict(variables, keep_empty_nodes=True))


def _cut_array(
    name: str, array: jax.Array, inputs: np.ndarray, terms: np.ndarray,
    rows: list[int]) -> jax.Array:
  """Cuts one of a layer's variables; see `KANLayer` for their shapes."""
  # In numpy, as JAX compiles once for every shape that is left.
  held = np.asarray(array)
  if name == 'affine':
    held = held[rows]
  elif name == 'node_bias':
    held = held[terms]
  elif name == 'knots':
    held = held[inputs]
  else:
    held = held[inputs][..., terms]
  return jnp.asarray(held)


def _renumber(
    edges: symbolic_edges.Groups, inputs: np.ndarray,
    terms: np.ndarray) -> tuple[symbolic_edges.Groups, list[int]]:
  """Returns the symbolic edges that are left, and their old rows."""
  new_input = {old: new for new, old in enumerate(inputs.tolist())}
  new_term = {old: new for new, old in enumerate(terms.tolist())}
  rows = [row for row, (i, o) in enumerate(symbolic_edges.pairs(edges))
          if i in new_input and o in new_term]
  left = tuple(
      (name, tuple((new_input[i], new_term[o]) for i, o in group
                   if i in new_input and o in new_term))
      for name, group in edges)
  return tuple((name, group) for name, group in left if group), rows


def _cut_nodes(layer: nodes.Nodes, kept: np.ndarray) -> nodes.Nodes:
  """Returns the nodes of a layer without those that go."""
  products = kept[layer.sums:]
  return nodes.Nodes(
      int(kept[:layer.sums].sum()),
      tuple(n for n, stays in zip(layer.arities, products, strict=True)
            if stays))


def _resize(
    model: nn.Module, sizes: Sequence[nodes.Nodes],
    symbolic: Sequence[symbolic_edges.Groups]) -> nn.Module:
  """Returns the model with other nodes."""
  if isinstance(model, linen.KANLayer):
    return model.clone(symbolic=symbolic[0])
  arity = model.arity
  if isinstance(arity, Sequence):
    arity = tuple(layer.arities for layer in sizes)
  return model.clone(
      features=tuple(layer.feature for layer in sizes),
      arity=arity, symbolic=tuple(symbolic) if any(symbolic) else ())


def assign(
    model: nn.Module, variables: Mapping[str, Any], path: tuple[str, ...],
    changes: Mapping[Edge, Carried | None],
    mask: float = 0) -> tuple[nn.Module, dict[str, Any]]:
  """Changes the functions of some edges of one layer.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    path: Path of the layer.
    changes: Of edges (input, output), a function and its a, b, c, d, or None
      for no function.
    mask: What the mask of the changed edges becomes.
  """
  flat = dict(traverse_util.flatten_dict(variables, keep_empty_nodes=True))
  assigned = {**read(model, variables, path), **changes}
  layer_groups, rows = group(
      {edge: carried for edge, carried in assigned.items() if carried})
  at = ('params', *path, 'affine')
  flat.pop(at, None)
  if rows:
    dtype = flat['params', *path, 'scale_base'].dtype
    flat[at] = jnp.stack([jnp.asarray(row, dtype) for row in rows])
  at = ('grid', *path, 'mask')
  i, o = np.array(list(changes)).T
  flat[at] = jnp.asarray(flat[at]).at[i, o].set(mask)
  return with_groups(model, path, layer_groups), (
      traverse_util.unflatten_dict(flat))


def read(
    model: nn.Module, variables: Mapping[str, Any],
    path: tuple[str, ...]) -> Assigned:
  """Returns the functions of one layer and their numbers, by edge."""
  layer_groups = layer_symbolic(model, path)
  edges = symbolic_edges.pairs(layer_groups)
  names = [name for name, group in layer_groups for _ in group]
  layer = structure.part(variables['params'], path)
  rows = layer['affine'] if edges else []
  return {edge: (name, row)
          for edge, name, row in zip(edges, names, rows, strict=True)}


def layer_symbolic(
    model: nn.Module, path: tuple[str, ...]) -> symbolic_edges.Groups:
  """Returns the symbolic edges of one layer of a KAN, or of a KANLayer."""
  if isinstance(model, linen.KANLayer) and not path:
    return model.symbolic
  if isinstance(model, linen.KAN):
    return model.symbolic[_index(path)] if model.symbolic else ()
  raise ValueError(
      '`model` needs to be a KAN or a KANLayer, whose attribute `symbolic` '
      f'says which edges carry functions; got {type(model).__name__}. Take the '
      'KAN out of it, with its part of the variables.')


def group(assigned: Assigned) -> tuple[symbolic_edges.Groups, list[Any]]:
  """Groups edges by function; returns groups and rows of numbers in order."""
  grouped: dict[str | functions.Function, list[Edge]] = {}
  for edge, (function, _) in assigned.items():
    if isinstance(function, functions.Function):
      function = functions.shorten(function)
    grouped.setdefault(function, []).append(edge)
  layer_groups = symbolic_edges.normalize(
      (function, sorted(edges)) for function, edges in grouped.items())
  return layer_groups, [
      assigned[e][1] for e in symbolic_edges.pairs(layer_groups)]


def with_groups(
    model: nn.Module, path: tuple[str, ...],
    layer_groups: symbolic_edges.Groups) -> nn.Module:
  """Returns the model with other symbolic edges in one layer."""
  if isinstance(model, linen.KANLayer):
    return model.clone(symbolic=layer_groups)
  symbolic = list(model.symbolic or [()] * (len(model.features) - 1))
  symbolic[_index(path)] = layer_groups
  return model.clone(symbolic=tuple(symbolic) if any(symbolic) else ())


def _index(path: tuple[str, ...]) -> int:
  return int(path[-1].removeprefix('layers_'))


def refine(
    model: nn.Module, variables: Mapping[str, Any],
    grid: int) -> tuple[Any, dict[str, Any]]:
  """Splits the intervals of every KAN layer; the functions stay as they are.

  Args:
    model: A KAN, a KANLayer, or another module whose attribute `grid` is the
      number of intervals of all its layers.
    variables: Its variables.
    grid: New number of intervals in each layer, at least the old one.

  Returns:
    The model with more intervals, and its variables.

  Raises:
    ValueError: If the model has no such attribute: then `refine_variables`
      does for the variables what the caller does for the model. Also if there
      is no KAN layer, or one has more intervals already.
  """
  if not isinstance(getattr(model, 'grid', None), int):
    raise ValueError(
        '`model` needs an attribute `grid`, the number of intervals of all its '
        f'layers; got a {type(model).__name__}. For a model without, use '
        '`kan_jax.layers.refine_variables` and change the model by hand.')
  return model.clone(grid=grid), refine_variables(variables, grid)


def refine_variables(variables: Any, grid: int) -> dict[str, Any]:
  """Splits the intervals of every KAN layer; the functions stay as they are.

  Args:
    variables: Variables of any Flax model that holds KAN layers.
    grid: New number of intervals in each layer, at least the old one.

  Returns:
    The variables of the same model with more intervals.

  Raises:
    ValueError: If there is no KAN layer, or one has more intervals already.
  """
  params = dict(traverse_util.flatten_dict(variables['params']))
  held = dict(traverse_util.flatten_dict(variables['grid']))
  layers = [path[:-1] for path in held if path[-1] == 'knots']
  if not layers:
    raise ValueError('`variables` hold no KAN layer, so no grid to refine.')
  for path in layers:
    knots, coef = (*path, 'knots'), (*path, 'coef')
    held[knots], params[coef] = refine_layer(held[knots], params[coef], grid)
  return {**variables, 'params': traverse_util.unflatten_dict(params),
          'grid': traverse_util.unflatten_dict(held)}


def refine_layer(
    knots: jax.Array, coef: jax.Array, grid: int) -> tuple[
        jax.Array, jax.Array]:
  """Refines one layer; see `grids.refine`."""
  return grids.refine_grid(knots, coef, spline_size(knots, coef)[1], grid)


def spline_size(knots: jax.Array, coef: jax.Array) -> tuple[int, int]:
  """Returns the number of intervals and the order of a layer."""
  order = knots.shape[-1] - coef.shape[1] - 1
  return coef.shape[1] - order, order
