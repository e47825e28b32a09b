"""Changes to a network: model and variables in, new ones out.

Nodes are cut out, edges get functions or lose them, grids get more intervals.
Nothing is decided here: the callers say what changes.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any
from typing import TypeVar

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import convolution
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges
from kan_jax.layers.nnx import accept
from kan_jax.splines import bases
from kan_jax.splines import bsplines
from kan_jax.splines import grids

_Model = TypeVar('_Model', bound=nn.Module)

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
  name = ('params', *path, 'node_bias')
  if name in flat:
    bias = np.asarray(flat[name], np.float64) + shift
    flat[name] = jnp.asarray(bias, flat[name].dtype)
  return traverse_util.unflatten_dict(flat)


@accept.takes_nnx
def add_biases(
    model: nn.Module, variables: Mapping[str, Any]) -> tuple[
        Any, dict[str, Any]]:
  """Gives a model with `bias=False` biases, all 0 for now.

  Args:
    model: A KAN, a KANLayer or a KANConv.
    variables: Its variables.

  Returns:
    The same function, as a model with `bias=True` and its variables.
  """
  flat = _flatten(variables)
  paths = [(name,) for name in model.layer_names] if isinstance(
      model, convolution.KANConv) else structure.paths(model)
  for path in paths:
    scale = flat['params', *path, 'scale_base']
    flat.setdefault(
        ('params', *path, 'node_bias'),
        jnp.zeros(scale.shape[-1:], scale.dtype))
  return model.clone(bias=True), traverse_util.unflatten_dict(flat)


def cut(
    model: _Model, variables: Mapping[str, Any], net: structure.Structure,
    kept: Sequence[np.ndarray]) -> tuple[
        _Model, dict[str, Any], structure.Structure]:
  """Takes nodes out, with all the terms of those that multiply.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    net: Its structure.
    kept: For the inputs and every layer, which nodes stay: [size], bool, at
      least one of each. Those of the outputs of a KANLayer are all of them.

  Returns:
    The model that has the other nodes only, its variables and its structure.
  """
  new = structure.cut(net, kept)
  flat = _flatten(variables)
  for k, path in enumerate(net.paths):
    inputs, terms = kept[k], net.kept_terms(k, kept)
    rows = [inputs[i] and terms[o]
            for i, o in symbolic_edges.pairs(net.symbolic[k])]
    for name in flat:
      if name[0] in ('params', 'grid') and name[1:-1] == path:
        flat[name] = _cut_array(name[-1], flat[name], inputs, terms, rows)
    if not new.symbolic[k]:
      flat.pop(('params', *path, 'affine'), None)
  return _resize(model, new), traverse_util.unflatten_dict(flat), new


def _flatten(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
  return dict(traverse_util.flatten_dict(variables, keep_empty_nodes=True))


def _cut_array(
    name: str, array: jax.Array, inputs: np.ndarray, terms: np.ndarray,
    rows: list[bool]) -> jax.Array:
  """Cuts one of a layer's variables; see `KANLayer` for their shapes."""
  # In numpy, as JAX compiles once for every shape that is left.
  values = np.asarray(array)
  if name == 'affine':
    values = values[np.array(rows, bool)]
  elif name == 'node_bias':
    values = values[terms]
  elif name == 'knots':
    values = values[inputs]
  else:
    values = values[inputs][..., terms]
  return jnp.asarray(values)


def _resize(model: _Model, net: structure.Structure) -> _Model:
  """Returns the model with the nodes and symbolic edges of a structure."""
  if isinstance(model, linen.KANLayer):
    return model.clone(symbolic=net.symbolic[0])
  arity = model.arity
  if isinstance(arity, Sequence):
    arity = tuple(layer.arities for layer in net.nodes)
  return model.clone(
      features=net.features, arity=arity,
      symbolic=net.symbolic if any(net.symbolic) else ())


def assign(
    model: _Model, variables: Mapping[str, Any], path: tuple[str, ...],
    changes: Mapping[Edge, Carried | None],
    mask: float = 0) -> tuple[_Model, dict[str, Any]]:
  """Changes the functions of some edges of one layer.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    path: Path of the layer.
    changes: Of edges (input, output), a function and its a, b, c, d, or None
      for no function.
    mask: What the mask of the changed edges becomes.
  """
  flat = _flatten(variables)
  assigned = {**read(model, variables, path), **changes}
  layer_groups, rows = group(
      {edge: carried for edge, carried in assigned.items() if carried})
  affine, masks = ('params', *path, 'affine'), ('grid', *path, 'mask')
  flat.pop(affine, None)
  if rows:
    dtype = flat['params', *path, 'scale_base'].dtype
    flat[affine] = jnp.stack([jnp.asarray(row, dtype) for row in rows])
  i, o = np.array(list(changes)).T
  flat[masks] = jnp.asarray(flat[masks]).at[i, o].set(mask)
  return with_groups(model, path, layer_groups), (
      traverse_util.unflatten_dict(flat))


def read(
    model: nn.Module, variables: Mapping[str, Any],
    path: tuple[str, ...]) -> Assigned:
  """Returns the functions of one layer and their numbers, by edge."""
  layer_groups = structure.symbolic(model)[path]
  edges = symbolic_edges.pairs(layer_groups)
  names = [name for name, group in layer_groups for _ in group]
  layer = structure.part(variables['params'], path)
  rows = layer['affine'] if edges else []
  return {edge: (name, row)
          for edge, name, row in zip(edges, names, rows, strict=True)}


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
    model: _Model, path: tuple[str, ...],
    layer_groups: symbolic_edges.Groups) -> _Model:
  """Returns the model with other symbolic edges in one layer."""
  if isinstance(model, linen.KANLayer):
    return model.clone(symbolic=layer_groups)
  groups = tuple((structure.symbolic(model) | {path: layer_groups}).values())
  return model.clone(symbolic=groups if any(groups) else ())


@accept.takes_nnx
def refine(
    model: _Model, variables: Mapping[str, Any],
    grid: int) -> tuple[_Model, dict[str, Any]]:
  """Splits the intervals of every KAN layer; the functions stay as they are.

  Args:
    model: A KAN, a KANLayer, or another module whose attribute `grid` is the
      number of intervals of all its layers. An attribute `basis` names their
      basis, if they are no B-splines.
    variables: Its variables.
    grid: New number of intervals in each layer, at least the old one.

  Returns:
    The model with more intervals, and its variables.

  Raises:
    ValueError: If the model has no such attribute: then `refine_variables`
      does for the variables what the caller does for the model. Also if there
      is no KAN layer, one has more intervals already, or the basis cannot be
      refined, as radial functions.
  """
  if not isinstance(getattr(model, 'grid', None), int):
    raise ValueError(
        '`model` needs an attribute `grid`, the number of intervals of all its '
        f'layers; got a {type(model).__name__}. For a model without, use '
        '`kan_jax.layers.refine_variables` and change the model by hand.')
  return model.clone(grid=grid), refine_variables(
      variables, grid, basis_of(model))


def basis_of(model: nn.Module) -> bases.Name:
  """Returns the basis of a model; without such an attribute, B-splines."""
  basis: bases.Name = getattr(model, 'basis', 'bspline')
  return basis


def refine_variables(
    variables: Any, grid: int,
    basis: bases.Name = 'bspline') -> dict[str, Any]:
  """Splits the intervals of every KAN layer; the functions stay as they are.

  Args:
    variables: Variables of any Flax model that holds KAN layers.
    grid: New number of intervals in each layer, at least the old one.
    basis: What all layers are made of. Arrays do not tell.

  Returns:
    The variables of the same model with more intervals.

  Raises:
    ValueError: If there is no KAN layer, one has more intervals already, or
      the basis cannot be refined.
  """
  params, knots = (
      dict(traverse_util.flatten_dict(variables[kind]))
      for kind in ('params', 'grid'))
  layers = [path[:-1] for path in knots if path[-1] == 'knots']
  if not layers:
    raise ValueError('`variables` hold no KAN layer, so no grid to refine.')
  for path in layers:
    grid_name, coef_name = (*path, 'knots'), (*path, 'coef')
    knots[grid_name], params[coef_name] = refine_layer(
        knots[grid_name], params[coef_name], grid, basis)
  return {**variables, 'params': traverse_util.unflatten_dict(params),
          'grid': traverse_util.unflatten_dict(knots)}


def refine_layer(
    knots: jax.Array, coef: jax.Array, grid: int,
    basis: bases.Name = 'bspline') -> tuple[jax.Array, jax.Array]:
  """Refines one layer, or each of those that are stacked.

  Args:
    knots: [..., in, old + 2 * order + 1].
    coef: [..., in, old + order, out].
    grid: New number of intervals.
    basis: What the layer is made of.

  Returns:
    Knots and coefficients; see `grids.refine_grid`.

  Raises:
    ValueError: If the shapes do not fit each other.
  """
  old, order = bsplines.grid_and_order(knots.shape[-1], coef.shape[-2])
  if old < 1 or order < 0 or knots.shape[:-1] != coef.shape[:-2]:
    raise ValueError(
        f'`variables` has a layer with knots {knots.shape} and coefficients '
        f'{coef.shape}, which do not fit. Layers that nn.scan or nn.vmap stack '
        "need their axis first: variable_axes={'params': 0, 'grid': 0}.")
  refine_one = functools.partial(
      grids.refine_grid, order=order, grid=grid, basis=basis)
  for _ in knots.shape[:-2]:
    refine_one = jax.vmap(refine_one)
  return refine_one(knots, coef)


def intervals(knots: jax.Array, coef: jax.Array) -> int:
  """Returns the number of intervals of a layer."""
  return bsplines.grid_and_order(knots.shape[-1], coef.shape[-2])[0]
