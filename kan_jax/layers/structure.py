"""What a KAN or a KANLayer is made of: layers, nodes and live edges."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import numpy as np

from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import symbolic_edges

# Index of a layer in a KAN, or its path in any model.
LayerName = int | Sequence[str]


def paths(model: nn.Module) -> list[tuple[str, ...]]:
  """Returns the paths of the layers, in order.

  Raises:
    ValueError: If the model is no KAN and no KANLayer: how the layers of other
      models hang together is not known.
  """
  if isinstance(model, linen.KAN):
    return [(f'layers_{k}',) for k in range(len(model.features) - 1)]
  if isinstance(model, linen.KANLayer):
    return [()]
  raise ValueError(
      '`model` needs to be a KAN or a KANLayer; got '
      f'{type(model).__name__}. Take the KAN out of it, with its part of the '
      'variables and what reaches it as `x`.')


def layout(
    model: nn.Module, variables: Mapping[str, Any]) -> tuple[nodes.Nodes, ...]:
  """Returns the inputs and the nodes of every layer."""
  if isinstance(model, linen.KAN):
    return model.nodes
  [path] = paths(model)
  shape = part(variables['grid'], path)['mask'].shape
  return tuple(nodes.Nodes(size) for size in shape)


def symbolic(model: nn.Module) -> list[symbolic_edges.Groups]:
  """Returns the symbolic edges of every layer."""
  if isinstance(model, linen.KANLayer):
    return [model.symbolic]
  return list(model.symbolic) or [()] * len(paths(model))


def live_edges(
    model: nn.Module, variables: Mapping[str, Any]) -> list[np.ndarray]:
  """Returns for every layer which edges are there, [in, terms], bool.

  An edge that carries a function is, though its mask is 0.
  """
  found = []
  for path, edges in zip(paths(model), symbolic(model), strict=True):
    mask = part(variables['grid'], path)['mask']
    live = np.array(mask, np.float32) != 0
    for edge in symbolic_edges.pairs(edges):
      live[edge] = True
    found.append(live)
  return found


def layer_path(model: nn.Module, layer: LayerName) -> tuple[str, ...]:
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
