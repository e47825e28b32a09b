"""Giving edges a function and taking it back: model and variables in and out.

Which edge carries which function is a static attribute of the model, its
numbers are parameters; so both change. The spline of a fixed edge stays where
it is, with its mask at 0, and `unfix` brings it back.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import functions as library_lib
from kan_jax.layers import linen
from kan_jax.layers import samples
from kan_jax.layers import symbolic_edges
from kan_jax.symbolic import affine_fit

Edge = tuple[int, int]  # Input and output.
Carried = tuple[str | library_lib.Function, Any]  # Function and a, b, c, d.
Assigned = dict[Edge, Carried]


def fix(
    model: nn.Module, variables: Mapping[str, Any], layer: samples.Layer,
    i: int, o: int, name: str | library_lib.Function, *,
    x: jax.Array | None = None, params: Sequence[float] | None = None,
    library: Iterable[library_lib.Function] = library_lib.LIBRARY) -> tuple[
        nn.Module, dict[str, Any]]:
  """Lets an edge carry a function, c * f(a * x + b) + d.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    layer: Index of the layer in a KAN, or its path.
    i: Input that the edge comes from.
    o: Output that it leads to.
    name: Of the function in `library`, or a function.
    x: A batch of inputs of the model, to whose values of the edge the numbers
      are fitted; see `fitting.fit`.
    params: a, b, c and d themselves; these or `x`.
    library: Where to look for the name.

  Returns:
    A model and variables in which the edge carries the function instead of
    what it had. Its four numbers are parameters like others.

  Raises:
    ValueError: If there is no such edge or name, if not exactly one of `x` and
      `params` is given, or if the function is not finite on the values of `x`.
  """
  function = library_lib.find(name, library)
  path = samples.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  if (x is None) == (params is None):
    raise ValueError(
        '`x` or `params` says which numbers the function takes: give one; got '
        f'{"neither" if x is None else "both"}.')
  if x is not None:
    view = samples.view(model, variables, x, path)
    found = affine_fit.fit(function, *samples.of_edges(view, [(i, o)]))
    if not np.isfinite(found.r2[0]):
      raise ValueError(
          f'`name` is {function.name}, which is not finite on all the values '
          f'of the edge {i} -> {o}; its inputs reach from '
          f'{view.inputs[:, i].min()} to {view.inputs[:, i].max()}.')
    params = [float(field[0]) for field in found[:4]]
  if params is None or len(params) != 4:
    raise ValueError(f'`params` are a, b, c and d; got {params!r}.')
  return assign(model, variables, path, {(i, o): (function, params)})


def unfix(
    model: nn.Module, variables: Mapping[str, Any], layer: samples.Layer,
    i: int, o: int) -> tuple[nn.Module, dict[str, Any]]:
  """Gives an edge the spline back that it had before `fix`.

  Takes model, variables and edge as `fix` does, and returns model and
  variables. An edge that carried no function comes out as a live spline, too.
  """
  path = samples.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  return assign(model, variables, path, {(i, o): None}, mask=1)


def remove(
    model: nn.Module, variables: Mapping[str, Any], layer: samples.Layer,
    i: int, o: int) -> tuple[nn.Module, dict[str, Any]]:
  """Removes an edge, with or without a function: its value is exactly 0.

  Takes model, variables and edge as `fix` does, and returns model and
  variables.
  """
  path = samples.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  return assign(model, variables, path, {(i, o): None})


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
  layer = samples.part(variables['params'], path)
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
  grouped: dict[str | library_lib.Function, list[Edge]] = {}
  for edge, (function, _) in assigned.items():
    if isinstance(function, library_lib.Function):
      function = library_lib.shorten(function)
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


def _check_edge(
    variables: Mapping[str, Any], path: tuple[str, ...], i: int,
    o: int) -> None:
  """Raises a ValueError unless the layer has the edge."""
  inputs, outputs = samples.part(variables['grid'], path)['mask'].shape
  if not (0 <= i < inputs and 0 <= o < outputs):
    raise ValueError(
        f'the layer {"/".join(path)} has {inputs} inputs and {outputs} '
        f'outputs; got the edge {i} -> {o}.')
