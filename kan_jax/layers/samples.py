"""What edges do on a batch: the samples that functions are fitted to."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from kan_jax.layers import linen
from kan_jax.layers import symbolic_edges

Layer = int | Sequence[str]  # Index of a layer in a KAN, or path in any model.

# Most edge values that are computed at a time: 64 MiB in float32.
_CHUNK = 2**24


def layer_path(model: nn.Module, layer: Layer) -> tuple[str, ...]:
  """Returns the path of a layer as in the keys of `layers.view_layers`.

  Raises:
    ValueError: If a KAN has no such layer, or `layer` is an index in a model
      that is no KAN.
  """
  if isinstance(model, linen.KAN):
    count = len(model.features) - 1
    paths = [(f'layers_{k}',) for k in range(count)]
    if layer in range(count):
      return paths[int(layer)]  # type: ignore[arg-type]
    if not isinstance(layer, Sequence) or tuple(layer) not in paths:
      raise ValueError(
          f'`layer` is 0 to {count - 1} or a path like {paths[0]}; got '
          f'{layer!r}.')
  if not isinstance(layer, Sequence) or isinstance(layer, str):
    raise ValueError(
        '`layer` is a path of names, a key of `layers.view_layers`, in a '
        f'{type(model).__name__}; got {layer!r}.')
  return tuple(layer)


def part(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
  """Returns what a collection of variables holds for a layer."""
  for name in path:
    tree = tree[name]
  return tree


def view(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    path: tuple[str, ...]) -> linen.LayerView:
  """Returns the view of one layer on a batch of inputs of the model."""
  views = linen.view_layers(model, variables, x)
  if path not in views:
    raise ValueError(f'`layer` is one of {list(views)}; got {path}.')
  return views[path]


def live_edges(layer: linen.LayerView) -> list[tuple[int, int]]:
  """Returns the edges (input, output) that are splines and not removed."""
  carrying = symbolic_edges.pairs(layer.symbolic)
  return [(i, o) for i, o in np.argwhere(layer.edges.mask).tolist()
          if (i, o) not in carrying]


def of_edges(
    layer: linen.LayerView,
    edges: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns inputs and values of some edges on the batch of a view.

  Args:
    layer: The view of their layer, of a batch of n rows.
    edges: Which ones, as (input, output).

  Returns:
    x and y, each [n, edges], in the layer's dtype.
  """
  i, o = np.array(edges, int).reshape(-1, 2).T
  rows = max(1, _CHUNK // layer.edges.mask.size)
  parts = [layer.edge_outputs(layer.inputs[k:k + rows])[:, i, o]
           for k in range(0, len(layer.inputs), rows)]
  return np.asarray(layer.inputs[:, i]), np.concatenate(parts)
