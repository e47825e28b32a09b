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
import jax
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions as library_lib
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.symbolic import affine_fit


def fix(
    model: nn.Module, variables: Mapping[str, Any], layer: structure.LayerName,
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
  path = structure.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  if (x is None) == (params is None):
    raise ValueError(
        '`x` or `params` says which numbers the function takes: give one; got '
        f'{"neither" if x is None else "both"}.')
  if x is not None:
    view = traversal.view_layer(model, variables, x, path)
    found = affine_fit.fit_affine(
        function, *traversal.edge_samples(view, [(i, o)]))
    if not np.isfinite(found.r2[0]):
      raise ValueError(
          f'`name` is {function.name}, which is not finite on all the values '
          f'of the edge {i} -> {o}; its inputs reach from '
          f'{view.inputs[:, i].min()} to {view.inputs[:, i].max()}.')
    params = [float(field[0]) for field in found[:4]]
  if params is None or len(params) != 4:
    raise ValueError(f'`params` are a, b, c and d; got {params!r}.')
  return edits.assign(model, variables, path, {(i, o): (function, params)})


def unfix(
    model: nn.Module, variables: Mapping[str, Any], layer: structure.LayerName,
    i: int, o: int) -> tuple[nn.Module, dict[str, Any]]:
  """Gives an edge the spline back that it had before `fix`.

  Takes model, variables and edge as `fix` does, and returns model and
  variables. An edge that carried no function comes out as a live spline, too.
  """
  path = structure.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  return edits.assign(model, variables, path, {(i, o): None}, mask=1)


def remove(
    model: nn.Module, variables: Mapping[str, Any], layer: structure.LayerName,
    i: int, o: int) -> tuple[nn.Module, dict[str, Any]]:
  """Removes an edge, with or without a function: its value is exactly 0.

  Takes model, variables and edge as `fix` does, and returns model and
  variables.
  """
  path = structure.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  return edits.assign(model, variables, path, {(i, o): None})


def _check_edge(
    variables: Mapping[str, Any], path: tuple[str, ...], i: int,
    o: int) -> None:
  """Raises a ValueError unless the layer has the edge."""
  inputs, outputs = structure.part(variables['grid'], path)['mask'].shape
  if not (0 <= i < inputs and 0 <= o < outputs):
    raise ValueError(
        f'the layer {"/".join(path)} has {inputs} inputs and {outputs} '
        f'outputs; got the edge {i} -> {o}.')
