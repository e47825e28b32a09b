"""What a KAN or a KANLayer is made of: layers, nodes and live edges."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import numpy as np

from kan_jax.layers import convolution
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import symbolic_edges

Path = tuple[str, ...]
Features = tuple[nodes.Size, ...]

# Index of a layer in a KAN, or its path in any model.
LayerName = int | Sequence[str]


class Structure(NamedTuple):
  """What a network is made of, read once and passed to all who need it.

  Attributes:
    paths: Path of each layer, in order.
    nodes: The inputs and the nodes of each layer, one entry more than layers.
    symbolic: Symbolic edges of each layer.
    live_edges: Whether each edge is there, an array [in, terms], bool, for each
      layer. An edge that carries a function is, though its mask is 0.
  """
  paths: tuple[Path, ...]
  nodes: tuple[nodes.Nodes, ...]
  symbolic: tuple[symbolic_edges.Groups, ...]
  live_edges: tuple[np.ndarray, ...]

  @property
  def features(self) -> Features:
    """The nodes as `KAN.features` counts them."""
    return tuple(layer.feature for layer in self.nodes)

  @property
  def edge_count(self) -> int:
    """Number of live edges."""
    return sum(int(layer.sum()) for layer in self.live_edges)

  def kept_terms(
      self, layer: int, kept: Sequence[np.ndarray]) -> np.ndarray:
    """Returns which terms of a layer belong to nodes that stay, [terms], bool.

    Args:
      layer: Index of the layer.
      kept: Which nodes stay; see `cut`.
    """
    return kept[layer + 1][self.nodes[layer + 1].node_of_term]


def read(model: nn.Module, variables: Mapping[str, Any]) -> Structure:
  """Returns the structure of a network.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables, whose masks are read: not for the inside of a
      jitted function.

  Raises:
    ValueError: If the model is no KAN and no KANLayer.
  """
  groups = symbolic(model)
  live_edges = tuple(
      _live_edges(part(variables['grid'], path)['mask'], groups[path])
      for path in groups)
  if isinstance(model, linen.KAN):
    all_nodes = model.nodes
  else:
    all_nodes = tuple(nodes.Nodes(size) for size in live_edges[0].shape)
  return Structure(
      tuple(groups), all_nodes, tuple(groups.values()), live_edges)


def _live_edges(mask: Any, groups: symbolic_edges.Groups) -> np.ndarray:
  live = np.array(mask, np.float32) != 0
  for edge in symbolic_edges.pairs(groups):
    live[edge] = True
  live.setflags(write=False)
  return live


def cut(net: Structure, kept: Sequence[np.ndarray]) -> Structure:
  """Takes nodes out, with all the terms of those that multiply.

  Args:
    net: The structure.
    kept: For the inputs and every layer, which nodes stay: [size], bool, at
      least one of each.
  """
  groups, live_edges = [], []
  for k, live in enumerate(net.live_edges):
    terms = net.kept_terms(k, kept)
    groups.append(_renumber(net.symbolic[k], kept[k], terms))
    live_edges.append(live[kept[k]][:, terms])
  return net._replace(
      nodes=tuple(map(_cut_nodes, net.nodes, kept)), symbolic=tuple(groups),
      live_edges=tuple(live_edges))


def remove_edges(net: Structure, gone: Sequence[np.ndarray]) -> Structure:
  """Takes edges out, splines as well as symbolic ones.

  Args:
    net: The structure.
    gone: For every layer, which edges go, [in, terms], bool.
  """
  groups = tuple(
      _without_empty(
          (name, tuple(edge for edge in group if not layer[edge]))
          for name, group in old)
      for old, layer in zip(net.symbolic, gone, strict=True))
  return net._replace(symbolic=groups, live_edges=tuple(
      live & ~layer for live, layer in zip(net.live_edges, gone, strict=True)))


def _renumber(
    groups: symbolic_edges.Groups, inputs: np.ndarray,
    terms: np.ndarray) -> symbolic_edges.Groups:
  """Returns the symbolic edges between inputs and terms that stay, bool."""
  new_input, new_term = np.cumsum(inputs) - 1, np.cumsum(terms) - 1
  return _without_empty(
      (name, tuple((int(new_input[i]), int(new_term[o])) for i, o in group
                   if inputs[i] and terms[o]))
      for name, group in groups)


def _without_empty(groups: Any) -> symbolic_edges.Groups:
  return tuple((name, group) for name, group in groups if group)


def _cut_nodes(layer: nodes.Nodes, kept: np.ndarray) -> nodes.Nodes:
  """Returns the nodes of a layer without those that go."""
  return nodes.Nodes(
      int(kept[:layer.sums].sum()),
      tuple(n for n, stays in zip(
          layer.arities, kept[layer.sums:], strict=True) if stays))


def paths(model: nn.Module) -> tuple[Path, ...]:
  """Returns the paths of the layers, in order.

  Raises:
    ValueError: If the model is no KAN and no KANLayer: how the layers of other
      models hang together is not known.
  """
  if isinstance(model, linen.KAN):
    return tuple((f'layers_{k}',) for k in range(len(model.features) - 1))
  if isinstance(model, linen.KANLayer):
    return ((),)
  way = ('kan_jax.layers.convolution.split_groups(model, variables, x) returns '
         'its layers and their rows, the patches.') if isinstance(
             model, convolution.KANConv) else (
                 'Take the KAN out of it, with its part of the variables and '
                 'what reaches it as `x`.')
  raise ValueError(
      '`model` needs to be a KAN or a KANLayer; got '
      f'{type(model).__name__}. {way}')


def symbolic(model: nn.Module) -> dict[Path, symbolic_edges.Groups]:
  """Returns the symbolic edges of every layer, by its path.

  Raises:
    ValueError: If the model is no KAN and no KANLayer.
  """
  layers = paths(model)
  if isinstance(model, linen.KANLayer):
    return {layers[0]: model.symbolic}
  assert isinstance(model, linen.KAN)
  return dict(zip(
      layers, model.symbolic or ((),) * len(layers), strict=True))


def layer_path(model: nn.Module, layer: LayerName) -> Path:
  """Returns the path of a layer as in the keys of `layers.view_layers`.

  Raises:
    ValueError: If a KAN has no such layer, or `layer` is an index in a model
      that is no KAN.
  """
  if isinstance(model, linen.KAN):
    known = paths(model)
    if layer in range(len(known)):
      return known[int(layer)]  # type: ignore[arg-type]
    if not isinstance(layer, Sequence) or tuple(layer) not in known:
      raise ValueError(
          f'`layer` is 0 to {len(known) - 1} or a path like {known[0]}; got '
          f'{layer!r}.')
  if not isinstance(layer, Sequence) or isinstance(layer, str):
    raise ValueError(
        '`layer` is a path of names, a key of `layers.view_layers`, in a '
        f'{type(model).__name__}; got {layer!r}.')
  return tuple(layer)


def part(tree: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
  """Returns what a collection of variables holds for a layer."""
  for name in path:
    tree = tree[name]
  return tree
