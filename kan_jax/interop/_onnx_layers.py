"""KANs as graphs of ONNX: the B-splines by the recursion, then products.

The recursion of Cox-de Boor takes a handful of elementwise operators for each
order, so that any runtime has them. See `bsplines.cox_de_boor`.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.interop import _onnx_functions
from kan_jax.layers import convolution
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.splines import _polynomials
from kan_jax.splines import bsplines

Graph = _onnx_functions.Graph


def export(
    model: linen.KAN | linen.KANLayer | convolution.KANConv,
    variables: Mapping[str, Any], dtype: jax.typing.DTypeLike,
    shape: Sequence[int] | None) -> Any:
  """Returns an `onnx.ModelProto`; see `export.to_onnx`."""
  if isinstance(model, convolution.KANConv):
    return _export_convolution(model, variables, dtype, shape)
  if shape is not None:
    raise ValueError(
        '`shape` is that of the inputs of a KANConv; a '
        f'{type(model).__name__} takes none, got {shape!r}.')
  graph = Graph(dtype)
  net = structure.read(model, variables)
  x = 'x'
  for k, path in enumerate(net.paths):
    layer = model.make_layer(k, parent=None) if isinstance(
        model, linen.KAN) else model
    x = _combine(graph, _add_layer(
        graph, x, _arrays(variables, path), layer), net.nodes[k + 1])
  return graph.model(x, [net.nodes[0].size], [net.nodes[-1].size])


def _export_convolution(
    model: convolution.KANConv, variables: Mapping[str, Any],
    dtype: jax.typing.DTypeLike, shape: Sequence[int] | None) -> Any:
  """Returns the graph of a convolution on inputs of one shape."""
  graph = Graph(dtype)
  arrays = [_arrays(variables, (name,)) for name in model.layer_names]
  channels = model.count_channels(len(arrays[0]['mask']))
  shape = _check_shape(model, shape, channels)
  # The patches of the numbers of all entries say what to gather; 0, the number
  # of padded ones, has a zero of its own.
  numbers = 1 + np.arange(math.prod(shape)).reshape(1, *shape)
  groups = [np.asarray(group, np.int64)[0] for group in model.patches(numbers)]
  flat = graph.add('Reshape', 'x', np.array([-1, numbers.size]))
  flat = graph.add('Pad', flat, np.array([0, 1, 0, 0]))
  layer = model.make_layer(parent=None)
  outputs = []
  for index, layer_arrays in zip(groups, arrays, strict=True):
    rows = graph.add('Reshape', graph.add(
        'Gather', flat, index.reshape(-1, index.shape[-1]), axis=1),
        np.array([-1, index.shape[-1]]))
    outputs.append(_add_layer(graph, rows, layer_arrays, layer))
  y = graph.add('Concat', *outputs, axis=1)
  out = (*groups[0].shape[:-1], model.features)
  return graph.model(
      graph.add('Reshape', y, np.array([-1, *out])), shape, out)


def _check_shape(
    model: convolution.KANConv, shape: Sequence[int] | None,
    channels: int) -> tuple[int, ...]:
  """Returns the shape of one input; raises a ValueError if it does not fit."""
  axes = len(model.reach)
  if shape is None or len(shape) != axes + 1 or shape[-1] != channels:
    raise ValueError(
        f'`shape` of one input is needed for a KANConv, {axes} axes of space '
        f'and {channels} channels; got {shape!r}.')
  return tuple(map(operator.index, shape))


def _arrays(
    variables: Mapping[str, Any],
    path: structure.Path) -> dict[str, np.ndarray]:
  """Returns the arrays of a layer by name."""
  return {
      name: np.asarray(array) for kind in ('params', 'grid')
      for name, array in structure.part(variables[kind], path).items()}


def _add_layer(
    graph: Graph, x: str, arrays: Mapping[str, np.ndarray],
    layer: linen.KANLayer) -> str:
  """Adds a layer; returns the name of its outputs, [batch, terms]."""
  if layer.basis != 'bspline':
    raise ValueError(
        f"`model` has the `basis` {layer.basis!r}; a graph of ONNX has only "
        "that of 'bspline'. `export.serialize` takes any.")
  arrays = {name: np.asarray(array, np.float64)
            for name, array in arrays.items()}
  mask, coef = arrays['mask'], arrays['coef']
  values = _add_splines(graph, x, arrays['knots'], layer.order, layer.outside)
  flat = graph.add(
      'Reshape', values, np.array([-1, coef.shape[0] * coef.shape[1]]))
  weight = (mask * arrays['scale_spline'])[:, None] * coef
  y = graph.add('MatMul', flat, weight.reshape(-1, weight.shape[-1]))
  base = _onnx_functions.apply(graph, layer.base_fn, x, 'the base function')
  y = graph.add('Add', y, graph.add(
      'MatMul', base, mask * arrays['scale_base']))
  if layer.symbolic:
    y = _add_symbolic(graph, x, y, arrays['affine'], layer)
  if layer.bias:
    y = graph.add('Add', y, arrays['node_bias'])
  return y


def _add_splines(
    graph: Graph, x: str, knots: np.ndarray, order: int,
    outside: bsplines.Outside) -> str:
  """Adds the B-splines of all inputs, [batch, in, grid + order]."""
  add = graph.add
  low, high = knots[:, order], knots[:, -order - 1]
  nearest = add('Min', add('Max', x, low), high)
  where, at = {
      'zero': (x, add('Min', add('Max', x, knots[:, 0]), knots[:, -1])),
      'polynomial': (nearest, x)}.get(outside, (nearest, nearest))
  # Order 0: whether the input is in each interval.
  bounds = np.asarray(_polynomials.half_open(
      jnp.asarray(knots, graph.dtype), order))
  above = add('Cast', add(
      'GreaterOrEqual', _unsqueeze(graph, where), bounds),
      to=_onnx_functions.helper.np_dtype_to_tensor_dtype(graph.dtype))
  values = add('Sub', _slice(graph, above, 0, -1),
               _slice(graph, above, 1, None))
  point = _unsqueeze(graph, at)
  for k in range(1, order + 1):
    span = 1 / (knots[:, k:] - knots[:, :-k])
    rise = add('Mul', add('Mul', add('Sub', point, knots[:, :-k]), span),
               values)
    fall = add('Sub', values, rise)
    values = add('Add', _slice(graph, rise, 0, -1),
                 _slice(graph, fall, 1, None))
  if outside != 'linear':
    return values
  ends = jnp.asarray(np.stack([low, high], 1), graph.dtype)
  slopes = np.asarray(bsplines.cox_de_boor(
      ends, jnp.asarray(knots, graph.dtype), order, 1))
  beyond = add('Mul', _unsqueeze(graph, add('Sub', x, nearest)), add(
      'Where', add('Less', _unsqueeze(graph, x), low[:, None]),
      slopes[..., 0], slopes[..., 1]))
  return add('Add', values, beyond)


def _add_symbolic(
    graph: Graph, x: str, y: str, affine: np.ndarray,
    layer: linen.KANLayer) -> str:
  """Adds the edges that carry functions to the outputs they lead to."""
  add, start = graph.add, 0
  y = add('Transpose', y, perm=[1, 0])
  for function, group in layer.symbolic:
    a, b, c, d = affine[start:start + len(group)].T
    start += len(group)
    inputs, outputs = np.array(group, np.int64).T
    argument = add('Add', add('Mul', add('Gather', x, inputs, axis=1), a), b)
    found = functions.find(function)
    curves = add('Add', add('Mul', _onnx_functions.apply(
        graph, found.fn, argument, f'the function {found.name!r}'), c), d)
    # One output after the other: what is not finite stays with its own.
    y = add('ScatterND', y, outputs[:, None],
            add('Transpose', curves, perm=[1, 0]), reduction='add')
  return add('Transpose', y, perm=[1, 0])


def _combine(graph: Graph, terms: str, layer: nodes.Nodes) -> str:
  """Multiplies terms into nodes; see `nodes.combine`."""
  if not layer.arities:
    return terms
  parts = [graph.add('ReduceProd', graph.add(
      'Gather', terms, np.array(group, np.int64), axis=1),
      np.array([1]), keepdims=1) for group in layer.groups[layer.sums:]]
  if layer.sums:
    sums = np.arange(layer.sums, dtype=np.int64)
    parts.insert(0, graph.add('Gather', terms, sums, axis=1))
  return graph.add('Concat', *parts, axis=1)


def _unsqueeze(graph: Graph, x: str) -> str:
  """Adds a last axis."""
  return graph.add('Unsqueeze', x, np.array([2]))


def _slice(graph: Graph, x: str, start: int, stop: int | None) -> str:
  """Takes a part of the last axis of three."""
  end = np.iinfo(np.int64).max if stop is None else stop
  return graph.add(
      'Slice', x, np.array([start]), np.array([end]), np.array([2]))
