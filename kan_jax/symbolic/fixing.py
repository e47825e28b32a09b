"""Gives edges a function and takes it back: model and variables in and out.

Both change: which edge carries which function is a static attribute of the
model, and the numbers of the function are parameters. The spline of a fixed
edge stays where it is, with its mask at 0, and `unfix` brings it back.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar

from flax import linen as nn
import jax
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept
from kan_jax.symbolic import affine_fit

_Model = TypeVar('_Model', bound=nn.Module)


@accept.takes_nnx
def fix(
    model: _Model, variables: Mapping[str, Any], x: jax.Array | None,
    layer: structure.LayerName, i: int, o: int, name: str | functions.Function,
    *, params: Sequence[float] | None = None,
    library: Iterable[functions.Function] = functions.LIBRARY) -> tuple[
        _Model, dict[str, Any]]:
  """Lets an edge carry a function, c * f(a * x + b) + d.

      model, variables = fix(model, variables, x, 0, 1, 2, 'sin')
      model, variables = fix(
          model, variables, None, 0, 1, 2, 'sin', params=(3, 0, 1, 0))

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: Inputs of the model, [n, in]. The four numbers are fitted to the values
      of the edge on them; see `fit_affine`. None if `params` are given.
    layer: Index of the nodes that the edge leaves: 0 for the inputs, 1 for the
      nodes of the first layer, and so on. Or a path, a key of
      `layers.view_layers`; that of a KANLayer alone is ().
    i: Index of the node that the edge leaves.
    o: Index of the term that it leads to; where no node multiplies, terms are
      nodes.
    name: Name of a function in `library`, or the function itself.
    params: The four numbers a, b, c and d, instead of `x`.
    library: Functions among which the name is looked up.

  Returns:
    The model and the variables in which the edge carries the function instead
    of its spline. The four numbers are parameters like others.

  Raises:
    ValueError: If there is no such edge or name, if not exactly one of `x` and
      `params` is given, or if the function is not finite on the values of `x`.
  """
  function = functions.find(name, library)
  path = structure.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  if (x is None) == (params is None):
    raise ValueError(
        '`x` or `params` says which numbers the function takes: give one, and '
        f'None for the other; got {"neither" if x is None else "both"}.')
  if x is not None:
    params = _fit_params(model, variables, x, path, (i, o), function)
  if params is None or len(params) != 4:
    raise ValueError(f'`params` are a, b, c and d; got {params!r}.')
  return edits.assign(model, variables, path, {(i, o): (function, params)})


def _fit_params(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    path: tuple[str, ...], edge: tuple[int, int],
    function: functions.Function) -> list[float]:
  """Fits a, b, c and d of a function to what an edge computes."""
  view = traversal.view_layer(model, variables, x, path)
  fit = affine_fit.fit_affine(function, *traversal.edge_samples(view, [edge]))
  if not np.isfinite(fit.r2[0]):
    inputs = view.inputs[:, edge[0]]
    raise ValueError(
        f'`name` is {function.name}, which is not finite on all the values '
        f'of the edge {edge[0]} -> {edge[1]}; its inputs reach from '
        f'{inputs.min()} to {inputs.max()}.')
  return [float(field[0]) for field in fit[:4]]


@accept.takes_nnx
def unfix(
    model: _Model, variables: Mapping[str, Any], layer: structure.LayerName,
    i: int, o: int) -> tuple[_Model, dict[str, Any]]:
  """Gives an edge its spline back, the one it had before `fix`.

      model, variables = unfix(model, variables, 0, 1, 2)

  An edge that was removed comes back as a spline, too.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    layer: Index of the nodes that the edge leaves, or a path; as in `fix`.
    i: Index of the node that the edge leaves.
    o: Index of the term that it leads to.

  Returns:
    The model and the variables.
  """
  path = structure.layer_path(model, layer)
  _check_edge(variables, path, i, o)
  return edits.assign(model, variables, path, {(i, o): None}, mask=1)


@accept.takes_nnx
def remove(
    model: _Model, variables: Mapping[str, Any], layer: structure.LayerName,
    i: int, o: int) -> tuple[_Model, dict[str, Any]]:
  """Removes an edge, with or without a function: its value is exactly 0.

      model, variables = remove(model, variables, 0, 1, 2)

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    layer: Index of the nodes that the edge leaves, or a path; as in `fix`.
    i: Index of the node that the edge leaves.
    o: Index of the term that it leads to.

  Returns:
    The model and the variables.
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
        '`i` and `o` are an input and an output of the layer '
        f'{"/".join(path)}, which has {inputs} inputs and {outputs} outputs; '
        f'got the edge {i} -> {o}.')
