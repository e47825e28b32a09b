"""How much edges, nodes and inputs matter on a batch.

Two definitions. Activity is local: how much an edge varies. Attribution goes
back from the outputs: an edge matters as much as the node that it leads to,
times its part in what that varies (arXiv 2408.10205, section 4.1). The numbers
go to the host: this is not for the inside of a jitted function.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.layers import traversal

# Most edge values that are looked at at a time: 32 MiB in float64.
_CHUNK = 2**22

# A deviation of so many roundings of what was summed counts as none.
_ROUNDINGS = 16


class Scores(NamedTuple):
  """Scores of a KAN, each >= 0 and finite; the larger, the more it matters.

  Attributes:
    edges: Of every layer, [in, terms]. Of edges that were removed, 0.
    nodes: Of the inputs and of the nodes of every layer, [size].
  """
  edges: tuple[np.ndarray, ...]
  nodes: tuple[np.ndarray, ...]


class Moments(NamedTuple):
  """What the edges of a layer do on a batch, as numpy arrays of float64.

  Attributes:
    mean: Of every edge, [in, terms].
    std: Sample standard deviation of every edge, [in, terms]; 0 for a single
      row, and where there is nothing but rounding.
    term_std: The same of the sum of the edges of each term, [terms].
  """
  mean: np.ndarray
  std: np.ndarray
  term_std: np.ndarray


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
  for i, arg in enumerate(args):
    if jnp.issubdtype(jnp.result_type(arg), jnp.floating):
      checks.check_rows(f'args[{i}]', arg)
  views = traversal.view_layers(model, variables, *args, **kwargs)
  return {path: _moments(view, path).std for path, view in views.items()}


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
  edges = tuple(found.std for found in moments(model, variables, x))
  into = [np.array([layer[:, group].max() for group in size.groups])
          for layer, size in zip(
              edges, structure.layout(model, variables)[1:], strict=True)]
  out = [layer.max(1) for layer in edges]
  hidden = [np.minimum(*sides)
            for sides in zip(into[:-1], out[1:], strict=True)]
  return Scores(edges, (out[0], *hidden, into[-1]))


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
  return attribute(moments(model, variables, x),
                   structure.layout(model, variables))


def attribute(
    found: Sequence[Moments], layout: Sequence[nodes.Nodes]) -> Scores:
  """Returns the scores of `attribution` from the moments of the layers."""
  of_nodes = [np.full(layout[-1].size, 1 / layout[-1].size)]
  of_edges: list[np.ndarray] = []
  for layer, size in zip(reversed(found), reversed(layout[1:]), strict=True):
    of_terms = of_nodes[0][size.node_of_term]
    varies = np.broadcast_to(layer.term_std > 0, layer.std.shape)
    part = np.divide(
        layer.std, layer.term_std, out=np.zeros_like(layer.std), where=varies)
    of_edges.insert(0, part * of_terms)
    of_nodes.insert(0, of_edges[0].sum(1))
  return Scores(tuple(of_edges), tuple(of_nodes))


def moments(
    model: nn.Module, variables: Mapping[str, Any],
    x: jax.Array) -> list[Moments]:
  """Returns the moments of every layer of a KAN; see `attribution`."""
  paths = structure.paths(model)
  checks.check_rows('x', x)
  views = traversal.view_layers(model, variables, x)
  return [_moments(views[path], path) for path in paths]


def _moments(view: traversal.LayerView, path: Sequence[str]) -> Moments:
  """Goes through the batch some rows at a time (Chan et al. 1979)."""
  step = max(1, _CHUNK // view.edges.mask.size)
  rows, mean, squares = 0, np.zeros(()), np.zeros(())
  for start in range(0, len(view.inputs), step):
    outputs = view.edge_outputs(view.inputs[start:start + step])
    values = np.asarray(outputs, np.float64)
    _check_finite(values, path)
    values = np.concatenate([values, values.sum(1, keepdims=True)], 1)
    more, shift = len(values), values.mean(0) - mean
    squares = squares + more * values.var(0) + (
        shift**2 * (rows * more / (rows + more)))
    mean, rows = mean + shift * (more / (rows + more)), rows + more
  std = np.sqrt(squares / max(rows - 1, 1))
  return _without_rounding(mean[:-1], std[:-1], std[-1], outputs.dtype)


def _without_rounding(
    mean: np.ndarray, std: np.ndarray, term_std: np.ndarray,
    dtype: jax.typing.DTypeLike) -> Moments:
  """Sets deviations to 0 that are no more than what rounding leaves."""
  eps = _ROUNDINGS * float(jnp.finfo(dtype).eps)
  std = np.where(std > eps * np.abs(mean), std, 0)
  size = (np.abs(mean) + std).sum(0)
  return Moments(mean, std, np.where(term_std > eps * size, term_std, 0))


def _check_finite(values: np.ndarray, path: Sequence[str]) -> None:
  """Raises a ValueError that names the first edge that is not finite."""
  bad = np.argwhere(~np.isfinite(values).all(0))
  if len(bad):
    i, o = bad[0]
    raise ValueError(
        f'`x` makes the edge {i} -> {o} of the layer {"/".join(path)} infinite '
        'or NaN. Is an argument outside the domain of its function?')
