"""Models whose edges all carry functions, as numbers that formulas show."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import nodes
from kan_jax.layers import structure

# Changes of a node, relative to its interquartile range, that are rounding or
# left by training; in float64, and in narrower types.
_IDLE, _IDLE_NARROW = 1e-10, 1e-6
_GROWTH = 10  # What layers may make of such a change at the outputs.
_ROWS = 256


class Edge(NamedTuple):
  """An edge from input i to term o that carries c * f(a * x + b) + d."""
  i: int
  o: int
  function: functions.Function
  a: float
  b: float
  c: float
  d: float


class Layer(NamedTuple):
  """One layer of a closed model.

  Attributes:
    edges: Edges that were not removed.
    bias: Constant of each term, [terms], float64.
    nodes: Nodes that the terms make.
  """
  edges: tuple[Edge, ...]
  bias: np.ndarray
  nodes: nodes.Nodes


def read(model: nn.Module, variables: Mapping[str, Any]) -> list[Layer]:
  """Returns the layers of a KAN or a KANLayer.

  Raises:
    ValueError: If edges are still splines; it lists them.
  """
  net = structure.read(model, variables)
  _check_closed(variables, net.paths)
  layers = []
  for path, layer in zip(net.paths, net.nodes[1:], strict=True):
    bias = structure.part(variables['params'], path).get('node_bias')
    edges = tuple(
        Edge(i, o, functions.find(name), *(float(value) for value in row))
        for (i, o), (name, row) in edits.read(model, variables, path).items())
    layers.append(Layer(
        edges, np.zeros(layer.terms) if bias is None
        else np.asarray(bias, np.float64), layer))
  return layers


def _check_closed(
    variables: Mapping[str, Any], paths: Sequence[tuple[str, ...]]) -> None:
  """Raises a ValueError that lists the edges that are still splines."""
  still = [
      f'{"/".join(path)} {i} -> {o}'.strip() for path in paths
      for i, o in np.argwhere(np.asarray(
          structure.part(variables['grid'], path)['mask']))]
  if still:
    raise ValueError(
        f'`model` still has splines on {len(still)} edges, which no formula '
        f'tells: {", ".join(still)}. Fix them, remove them or run '
        'auto_symbolic.')


def grid_rows(model: nn.Module, variables: Mapping[str, Any]) -> np.ndarray:
  """Returns rows of inputs all over the grids of the first layer, [n, in]."""
  order: int = model.order  # type: ignore[attr-defined]
  layer = structure.part(variables['grid'], structure.paths(model)[0])
  knots = np.asarray(layer['knots'], np.float64)
  low, high = knots[:, order], knots[:, -order - 1]
  rows = np.random.default_rng(0).uniform(low, high, (_ROWS, len(low)))
  ends = [low, high, (low + high) / 2, np.clip(0, low, high)]
  return np.concatenate([ends, rows])


def zero_small(layers: Sequence[Layer], least: float) -> list[Layer]:
  """Sets every number that is smaller than `least` to 0."""
  def clear(value):
    return value if abs(value) >= least else 0.0

  return [layer._replace(
      bias=np.where(np.abs(layer.bias) >= least, layer.bias, 0.0),
      edges=tuple(Edge(*edge[:3], *(clear(value) for value in edge[3:]))
                  for edge in layer.edges)) for layer in layers]


def drop_idle(
    layers: Sequence[Layer], x: np.ndarray, wide: bool) -> list[Layer]:
  """Drops the numbers that change no value.

  Layer by layer: shifts of arguments, constants, and edges that change what a
  term computes by no more than a tiny part of its interquartile range. A layer
  keeps its numbers if the outputs of the model see a difference, as the
  logarithm of a tiny constant does.

  Args:
    layers: As `read` returns them.
    x: Inputs of the model to compare on, [n, in], float64.
    wide: Whether the numbers were float64, and so tiny means 1e-10, not 1e-6.
  """
  tolerance = _IDLE if wide else _IDLE_NARROW
  layers, inputs = list(layers), x
  wanted = _outputs(layers, x)
  for k, layer in enumerate(layers):
    lighter = list(layers)
    lighter[k] = _drop(layer, inputs, tolerance)
    if _alike(_outputs(lighter, x), wanted, _GROWTH * tolerance):
      layers = lighter
    inputs = _apply(layers[k], inputs)
  return layers


def _outputs(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
  for layer in layers:
    x = _apply(layer, x)
  return x


def _apply(layer: Layer, x: np.ndarray) -> np.ndarray:
  """Returns the nodes of a layer, [n, nodes]."""
  terms = np.tile(layer.bias, (len(x), 1))
  for edge in layer.edges:
    terms[:, edge.o] += _curve(edge, x) + edge.d
  return np.stack(
      [terms[:, list(group)].prod(1) for group in layer.nodes.groups], 1)


def _curve(edge: Edge, x: np.ndarray) -> np.ndarray:
  """Returns c * f(a * x + b), [n]; not finite outside the domain of f."""
  with jax.enable_x64(True), jax.debug_nans(False), jax.debug_infs(False):
    return edge.c * np.asarray(
        edge.function.fn(jnp.asarray(edge.a * x[:, edge.i] + edge.b)))


def _spread(values: np.ndarray) -> float:
  """Returns the interquartile range of the finite ones of some values.

  The whole range would be that of a pole, beside which nothing matters.
  """
  values = values[np.isfinite(values)]
  if not values.size:
    return 0.0
  low, high = np.percentile(values, (25, 75))
  return float(high - low)


def _alike(
    values: np.ndarray, wanted: np.ndarray, tolerance: float) -> bool:
  """Whether outputs [n, out] differ by at most a part of their spread."""
  for value, column in zip(values.T, wanted.T, strict=True):
    finite = np.isfinite(column)
    change = np.abs(value - column)[finite]
    if not (change <= tolerance * _spread(column)).all():
      return False
  return True


def _drop(layer: Layer, x: np.ndarray, tolerance: float) -> Layer:
  """Drops what changes no term of one layer, given its inputs [n, in]."""
  curves = [_curve(edge, x) for edge in layer.edges]
  bias, kept = layer.bias.copy(), []
  for o in range(len(bias)):
    mine = [(edge, curve) for edge, curve
            in zip(layer.edges, curves, strict=True) if edge.o == o]
    limit = tolerance * _spread(sum(curve for _, curve in mine) + 0 * x[:, 0])
    edges = []
    for edge, curve in mine:
      values = curve[np.isfinite(curve)]
      if values.size and np.ptp(values) <= limit:
        bias[o] += edge.d + values.mean()
      else:
        edges.append(_drop_shift(edge, curve, x, limit))
    if abs(bias[o] + sum(edge.d for edge in edges)) <= limit:
      bias[o], edges = 0.0, [edge._replace(d=0.0) for edge in edges]
    kept += edges
  return Layer(tuple(kept), bias, layer.nodes)


def _drop_shift(
    edge: Edge, curve: np.ndarray, x: np.ndarray, limit: float) -> Edge:
  """Drops the shift b of an edge if that changes its curve by no more."""
  plain = edge._replace(b=0.0)
  change = np.abs(_curve(plain, x) - curve)[np.isfinite(curve)]
  return plain if change.size and (change <= limit).all() else edge
