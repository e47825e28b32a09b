"""Pruning: removing edges, nodes and inputs that do not matter.

Model and variables in, new ones out; to undo, keep the old ones. What a removed
part gave on average becomes a bias, so that every sum keeps its mean. Where
there is no bias (`bias=False`) to take it over, it is refused.

Edges are masked: the arrays keep their shapes, and so does the optimizer's
state. Nodes and inputs are cut out of the arrays: the model is smaller, it
compiles anew, and `tx.init` begins its optimizer anew.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import convolution
from kan_jax.layers import edge_moments
from kan_jax.layers import edits
from kan_jax.layers import nodes as nodes_lib
from kan_jax.layers import regularization
from kan_jax.layers import structure
from kan_jax.layers.nnx import accept
from kan_jax.pruning import _rules
from kan_jax.pruning import scores as scores_lib

_Model = TypeVar('_Model', bound=nn.Module)
Node = tuple[int, int]  # Layer, where the inputs are 0, and node.
Edge = tuple[int, int, int]  # Layer, counted from 0, input and term.

# Part of a sum, and of its deviation, that rounding may have left.
_NEGLIGIBLE = 1e-6

_LISTED = 20  # How many names a report shows of each kind.


class Report(NamedTuple):
  """What was removed and what is left; prints as a few lines.

  Attributes:
    features: Of the model that is left; see `KAN.features`.
    features_before: Of the model that came in.
    edges: How many edges are live now.
    edges_before: How many were live before.
    inputs: Indices of the inputs that are left, in the order in which the model
      takes them: it applies to x[..., inputs].
    removed_nodes: Nodes that were cut, as (layer, node). Layer 0 is the inputs.
    removed_edges: Edges that were masked, as (layer, input, term); without
      those that went with their nodes.
  """
  features: tuple[nodes_lib.Size, ...]
  features_before: tuple[nodes_lib.Size, ...]
  edges: int
  edges_before: int
  inputs: np.ndarray
  removed_nodes: tuple[Node, ...] = ()
  removed_edges: tuple[Edge, ...] = ()

  def __repr__(self) -> str:
    lines = [f'nodes: {list(self.features_before)} -> {list(self.features)}',
             f'edges: {self.edges_before} -> {self.edges}']
    if self.removed_nodes:
      lines.append(
          f'removed nodes (layer, node): {_listed(self.removed_nodes)}')
    if self.removed_edges:
      lines.append(
          f'removed edges (layer, input, term): {_listed(self.removed_edges)}')
    return '\n'.join(lines)


@accept.takes_nnx
def prune_edges(
    model: _Model, variables: Mapping[str, Any], x: jax.Array, *,
    threshold: float | None = None, fraction: float | None = None,
    edges: Sequence[Edge] | None = None,
    scores: edge_moments.Scores | None = None) -> tuple[
        _Model, dict[str, Any], Report]:
  """Removes edges, splines as well as symbolic ones.

  Exactly one of `threshold`, `fraction` and `edges` says which. All of them may
  go; the outputs are then constant. A node that loses its last edge stays until
  `prune_nodes`, for which a threshold of 0 is enough.

  Args:
    model: A KAN, a KANLayer, or a KANConv without groups. Inputs of the last
      are the entries of a patch as `KANConv.patches` orders them.
    variables: Its variables.
    x: A batch of inputs, [..., in], on which edges are scored and averaged.
    threshold: Edges that score less go. By default the scores are shares of
      1 / outputs; pykan 0.2 takes 0.03.
    fraction: Part of the live edges that goes, 0 to 1, rounded down: those with
      the lowest scores.
    edges: Edges that go: (layer, input, term), all counted from 0. Edges of
      layer 0 leave the inputs.
    scores: Scores to go by; `scores.attribution` by default.

  Returns:
    Model and variables without the edges, and a report.

  Raises:
    ValueError: If an argument is not what it says, the model is another one,
      `x` is empty, or an edge is not finite on it. Also if the model has no
      biases and what goes has a mean; `layers.add_biases` gives it some.
  """
  if isinstance(model, convolution.KANConv):
    return _prune_convolution(
        model, variables, x, threshold=threshold, fraction=fraction,
        edges=edges, scores=scores)
  rule = _rules.Rule('edges', threshold, fraction, edges)
  rule.check()
  net = structure.read(model, variables)
  moments, scores = _look(model, variables, x, net, scores)
  # What was removed before may be named again.
  candidates = net.live_edges if edges is None else [
      np.ones_like(layer) for layer in net.live_edges]
  gone = [layer & chosen for layer, chosen in zip(
      net.live_edges, _rules.choose(rule, scores.edges, candidates),
      strict=True)]
  new, pruned = model, dict(variables)
  for path, layer, edges_of in zip(net.paths, gone, moments, strict=True):
    if layer.any():
      edges_gone = zip(*np.nonzero(layer), strict=True)
      new, pruned = edits.assign(
          new, pruned, path, dict.fromkeys(edges_gone))
      pruned = _absorb(pruned, path, edges_of, layer)
  return new, pruned, _report(
      net, structure.remove_edges(net, gone),
      removed_edges=_rules.names(gone))


def _prune_convolution(
    model: convolution.KANConv, variables: Mapping[str, Any], x: jax.Array,
    **options: Any) -> tuple[Any, dict[str, Any], Report]:
  """Removes edges of the one layer of a convolution, whose rows are patches."""
  if model.feature_group_count > 1:
    raise ValueError(
        f'`model` has {model.feature_group_count} groups, whose edges are '
        'pruned apart: kan_jax.layers.convolution.split_groups(model, '
        'variables, x) returns the layers.')
  group, = convolution.split_groups(model, variables, x)
  _, part, report = prune_edges(*group, **options)
  name, = model.layer_names
  return model, {**variables, **{
      kind: {**variables[kind], name: part[kind]} for kind in part}}, report


@accept.takes_nnx
def prune_nodes(
    model: _Model, variables: Mapping[str, Any], x: jax.Array, *,
    threshold: float | None = None, fraction: float | None = None,
    nodes: Sequence[Node] | None = None,
    scores: edge_moments.Scores | None = None) -> tuple[
        _Model, dict[str, Any], Report]:
  """Cuts hidden nodes out, a multiplication node with all its terms.

  Exactly one of `threshold`, `fraction` and `nodes` says which. Nodes that no
  path of live edges connects to an input and to an output go, too, which
  changes no prediction. Every hidden layer keeps its best node at least.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs, [..., in], on which nodes are scored and averaged.
    threshold: Nodes that score less go. By default the scores are shares of
      1 / outputs; pykan 0.2 takes 0.01.
    fraction: Part of all hidden nodes that goes, 0 to 1, rounded down: those
      with the lowest scores.
    nodes: Nodes that go: (layer, node), both counted from 0. Layer 0 is the
      inputs, so the first hidden layer is 1.
    scores: Scores to go by; `scores.attribution` by default.

  Returns:
    The smaller model, its variables, and a report.

  Raises:
    ValueError: As `prune_edges`, and if `nodes` has one that is not hidden, or
      all of a layer.
  """
  rule = _rules.Rule('nodes', threshold, fraction, nodes)
  return _cut_nodes(model, variables, x, rule, scores, slice(1, -1))


@accept.takes_nnx
def prune_inputs(
    model: _Model, variables: Mapping[str, Any], x: jax.Array, *,
    threshold: float | None = None, fraction: float | None = None,
    inputs: Sequence[int] | None = None,
    scores: edge_moments.Scores | None = None) -> tuple[
        _Model, dict[str, Any], Report]:
  """Cuts inputs out: the model then takes fewer columns, x[..., report.inputs].

  Exactly one of `threshold`, `fraction` and `inputs` says which; the best one
  stays. Hidden nodes that are not connected any more go, too, as in
  `prune_nodes`.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs with all the columns of before, [..., in].
    threshold: Inputs that score less go. By default the scores are shares of
      1 / outputs; pykan 0.2 takes 0.01.
    fraction: Part of the inputs that goes, 0 to 1, rounded down: those with the
      lowest scores.
    inputs: Inputs that go, counted from 0.
    scores: Scores to go by; `scores.attribution` by default.

  Returns:
    The model of fewer inputs, its variables, and a report.

  Raises:
    ValueError: As `prune_edges`, and if `inputs` are all there are.
  """
  named = None if inputs is None else [(0, i) for i in inputs]
  rule = _rules.Rule('inputs', threshold, fraction, named)
  return _cut_nodes(model, variables, x, rule, scores, slice(0, 1))


def mask_edges(
    variables: Mapping[str, Any], stats: Any, threshold: float,
    metric: regularization.Metric = 'mean_abs') -> dict[str, Any]:
  """Removes the edges that score less than a threshold; may be jitted.

  For any Flax model, and without a change to its biases; `prune_edges` does
  more. Symbolic edges have no mask, and stay.

    _, sown = model.apply(variables, x, mutable='edges')
    variables = mask_edges(variables, sown['edges'], 0.01)

  Args:
    variables: Variables of a model; the masks in `grid` are read.
    stats: Its collection `edges`, from applying it to a batch with
      `mutable='edges'`.
    threshold: Least score of an edge that stays.
    metric: Definition of the score; see `regularization.Penalty`.

  Returns:
    The variables with other masks; keep the old ones to undo. Edges that were
    removed before stay removed.
  """
  flat = dict(traverse_util.flatten_dict(variables['grid']))
  for path, layer in regularization.layer_stats(stats).items():
    keep = regularization.edge_scores(layer, metric) >= threshold
    mask = flat[(*path, 'mask')]
    flat[(*path, 'mask')] = mask * keep.astype(mask.dtype)
  return {**variables, 'grid': traverse_util.unflatten_dict(flat)}


def count_edges(variables: Mapping[str, Any]) -> tuple[jax.Array, int]:
  """Returns how many edges are left, and how many there are in all.

  Symbolic edges count, too, though their masks are 0.

  Args:
    variables: Variables of any model.
  """
  masks = [array for path, array in traverse_util.flatten_dict(
      variables.get('grid', {})).items() if path[-1] == 'mask']
  left = sum((jnp.count_nonzero(mask) for mask in masks), jnp.zeros((), int))
  symbolic = sum(
      math.prod(array.shape[:-1]) for path, array in traverse_util.flatten_dict(
          variables.get('params', {})).items() if path[-1] == 'affine')
  return left + symbolic, sum(mask.size for mask in masks)


def _look(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    net: structure.Structure, scores: edge_moments.Scores | None) -> tuple[
        list[edge_moments.Moments], edge_moments.Scores]:
  """Returns what edges do on a batch, and the scores to go by."""
  moments = scores_lib.moments(model, variables, x, net)
  if scores is None:
    return moments, scores_lib.attribute(moments, net.nodes)
  return moments, edge_moments.check_scores(scores, net)


def _cut_nodes(
    model: _Model, variables: Mapping[str, Any], x: jax.Array,
    rule: _rules.Rule, scores: edge_moments.Scores | None,
    where: slice) -> tuple[_Model, dict[str, Any], Report]:
  """Cuts nodes out of the layers `where`, and those that are dead then."""
  rule.check()
  net = structure.read(model, variables)
  moments, scores = _look(model, variables, x, net, scores)
  candidates = [np.zeros(layer.size, bool) for layer in net.nodes]
  for layer in candidates[where]:
    layer[:] = True
  gone = _rules.choose(rule, scores.nodes, candidates, spare_best=True)
  kept = _rules.alive(net, [~layer for layer in gone], scores.nodes)
  pruned = dict(variables)
  for path, inputs, edges_of in zip(net.paths, kept, moments, strict=False):
    pruned = _absorb(pruned, path, edges_of, ~inputs[:, None])
  new, pruned, left = edits.cut(model, pruned, net, kept)
  return new, pruned, _report(
      net, left, inputs=np.flatnonzero(kept[0]),
      removed_nodes=_rules.names([~layer for layer in kept]))


def _absorb(
    variables: Mapping[str, Any], path: structure.Path,
    layer: edge_moments.Moments, gone: np.ndarray) -> dict[str, Any]:
  """Gives a layer's biases what edges that go, [in, terms], have on average."""
  shift = np.where(gone, layer.mean, 0).sum(0)
  size = (np.abs(layer.mean) + layer.std).sum(0)
  if 'node_bias' in structure.part(variables['params'], path):
    return edits.add_to_biases(variables, path, shift)
  lost = np.abs(shift) > _NEGLIGIBLE * size
  if lost.any():
    term = int(np.abs(shift).argmax())
    raise ValueError(
        '`model` has no biases (bias=False) to take over what the removed '
        f'edges give on average: {shift[term]:.3g} for term {term} of the '
        f'layer {"/".join(path)}. Give it some first: model, variables = '
        'kan_jax.layers.add_biases(model, variables).')
  return dict(variables)


def _report(
    before: structure.Structure, after: structure.Structure, *,
    inputs: np.ndarray | None = None, removed_nodes: tuple[Node, ...] = (),
    removed_edges: tuple[Edge, ...] = ()) -> Report:
  """Compares networks before and after; all inputs are left by default."""
  if inputs is None:
    inputs = np.arange(before.nodes[0].size)
  return Report(
      after.features, before.features, after.edge_count, before.edge_count,
      inputs, removed_nodes, removed_edges)


def _listed(names: Sequence[tuple[int, ...]]) -> str:
  """Writes names down, the first of many."""
  more = len(names) - _LISTED
  return ', '.join(map(str, names[:_LISTED])) + (
      f' and {more} more' if more > 0 else '')
