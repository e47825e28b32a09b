"""How much edges, nodes and inputs matter on a batch.

Two definitions. Activity is local: how much an edge varies. Attribution goes
back from the outputs: an edge matters as much as the node that it leads to,
times its part in what that varies (arXiv 2408.10205, section 4.1). The numbers
go to the host: this is not for the inside of a jitted function.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import numpy as np

from kan_jax import checks
from kan_jax.layers import edge_moments
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept

Scores = edge_moments.Scores


@accept.takes_nnx
def edge_activity(
    model: nn.Module, variables: Mapping[str, Any], *args: Any,
    **kwargs: Any) -> dict[tuple[str, ...], np.ndarray]:
  """Returns how much every edge varies, its standard deviation on a batch.

  Args:
    model: Any Flax module that holds KAN layers.
    variables: Its variables.
    *args: What the model is applied to. A layer that is applied twice is
      scored on what it is applied to last.
    **kwargs: Further keyword arguments of `model.apply`, such as `rngs`.

  Returns:
    The scores of each layer, [in, out], by its path in the model.
  """
  checks.check_arguments(args)
  views = traversal.view_layers(model, variables, *args, **kwargs)
  return {path: _finite_moments(view, path).std for path, view in views.items()}


@accept.takes_nnx
def activity(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> Scores:
  """Returns how active edges and nodes are, in the units of the nodes.

  An edge scores its standard deviation. A node is as active as its most active
  edge, of those that lead to it or of those that leave it, whichever is less:
  it is above a threshold where both sides are (the rule of pykan, May 2024).

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs, [..., in].

  Raises:
    ValueError: As `attribution`.
  """
  net = structure.read(model, variables)
  edges = tuple(layer.std for layer in moments(model, variables, x, net))
  into = [np.array([layer[:, group].max() for group in size.groups])
          for layer, size in zip(edges, net.nodes[1:], strict=True)]
  out = [layer.max(1) for layer in edges]
  hidden = [np.minimum(*sides)
            for sides in zip(into[:-1], out[1:], strict=True)]
  return Scores(edges, (out[0], *hidden, into[-1]))


@accept.takes_nnx
def attribution(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> Scores:
  """Returns what edges and nodes contribute to the outputs.

  Every output scores 1 for itself, and the scores are means over the outputs.
  Backwards, an edge scores what its term scores, times its standard deviation
  over that of the term; a node the sum of the edges that leave it. Each term of
  a multiplication node scores what the node does. As in pykan 0.2, but for the
  1e-4 that this adds to every standard deviation: without it, the scores do not
  depend on the units of any node. A term that does not vary scores nothing
  for its edges. Edges that cancel each other can score more than their term.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs, [..., in].

  Raises:
    ValueError: If the model is another, the batch is empty or not finite, or
      an edge is not finite on it.
  """
  net = structure.read(model, variables)
  return attribute(moments(model, variables, x, net), net.nodes)


def attribute(
    layers: Sequence[edge_moments.Moments],
    all_nodes: Sequence[nodes.Nodes]) -> Scores:
  """Returns the scores of `attribution`.

  Args:
    layers: What the edges of each layer do.
    all_nodes: The inputs and the nodes of each layer.
  """
  of_nodes = [np.full(all_nodes[-1].size, 1 / all_nodes[-1].size)]
  of_edges: list[np.ndarray] = []
  for layer, size in zip(
      reversed(layers), reversed(all_nodes[1:]), strict=True):
    of_terms = of_nodes[0][size.node_of_term]
    varies = np.broadcast_to(layer.term_std > 0, layer.std.shape)
    part = np.divide(
        layer.std, layer.term_std, out=np.zeros_like(layer.std), where=varies)
    of_edges.insert(0, part * of_terms)
    of_nodes.insert(0, of_edges[0].sum(1))
  return Scores(tuple(of_edges), tuple(of_nodes))


def moments(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    net: structure.Structure) -> list[edge_moments.Moments]:
  """Returns what the edges of each layer do on a batch; see `attribution`."""
  checks.check_rows('x', x)
  views = traversal.view_layers(model, variables, x)
  return [_finite_moments(views[path], path) for path in net.paths]


def _finite_moments(
    view: traversal.LayerView, path: Sequence[str]) -> edge_moments.Moments:
  """Raises a ValueError that names the first edge that is not finite."""
  moments = edge_moments.measure(view)
  bad = np.argwhere(np.isnan(moments.mean))
  if len(bad):
    i, o = bad[0]
    raise ValueError(
        f'`x` makes the edge {i} -> {o} of the layer {"/".join(path)} infinite '
        'or NaN. Is an argument outside the domain of its function?')
  return moments
