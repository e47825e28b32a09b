"""Sparsity penalties: edge statistics and coefficients in, one number out.

The l1 and entropy terms of arXiv 2404.19756, section 2.5.1, in the two
definitions that pykan has used, and its two terms on the coefficients.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import get_args
from typing import Literal

import jax
import jax.numpy as jnp

from kan_jax.layers import edges

Metric = Literal['mean_abs', 'std']

# pykan adds this to the grid's width and to every logarithm.
_OFFSET = 1e-4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Penalty:
  """Weighted sum of the penalty terms, over all KAN layers of a model.

  Attributes:
    l1: Weight of the sum of the edge scores.
    entropy: Weight of the entropy, in bits, of the scores' distribution.
    coef: Weight of the size of the spline coefficients.
    coefdiff: Weight of the steps between neighbouring coefficients.
    metric: 'mean_abs' follows pykan of May 2024: an edge scores its mean |phi|
      over the width of its grid, and the entropy is that of a whole layer.
      'std' follows pykan 0.2: an edge scores the standard deviation of phi
      over that of its input, and the entropies of all rows and all columns are
      averaged.
  """
  l1: float = 1.0
  entropy: float = 2.0
  coef: float = 0.0
  coefdiff: float = 0.0
  metric: Metric = 'mean_abs'

  def __post_init__(self):
    if self.metric not in get_args(Metric):
      raise ValueError(
          f'`metric` is one of {", ".join(get_args(Metric))}; got '
          f'{self.metric!r}.')

  def __call__(self, params: Any, stats: Any) -> jax.Array:
    """Returns the penalty, a scalar; zero for layers without any live edge.

    Layers that `nn.scan` or `nn.vmap` stack count each, as in a loop; their
    axis is the first, `variable_axes={'params': 0, 'grid': 0, 'edges': 0}`.

      y, sown = model.apply(variables, x, mutable='edges')
      cost = Penalty()(variables['params'], sown['edges'])

    Args:
      params: Parameters of a model, of which the coefficients are read.
      stats: Its collection `edges`, from applying it with `mutable='edges'`.

    Raises:
      ValueError: If `stats` does not have the statistics of all KAN layers in
        `params`, or if a layer was applied more than once.
    """
    total = jnp.zeros(())
    arrays = list(_kan_layers(params))
    if self.l1 or self.entropy:
      statistics = layer_stats(stats)
      _check_stats(arrays, statistics, params, stats)
      for layer in statistics.values():
        scores = edge_scores(layer, self.metric)
        total += self.l1 * scores.sum()
        total += self.entropy * entropy(scores, self.metric).sum()
    if self.coef or self.coefdiff:
      for layer_arrays in arrays:
        total += self._of_coef(layer_arrays['coef'])
    return total

  def _of_coef(self, coef: jax.Array) -> jax.Array:
    """Terms of the coefficients of a layer, [..., in, grid + order, out]."""
    steps = jnp.diff(coef, axis=-2)
    # 'mean_abs': the mean over r, summed over edges; 'std': the mean over
    # outputs, summed over inputs and r.
    axis = -2 if self.metric == 'mean_abs' else -1
    size, step = (jnp.abs(array).mean(axis).sum() for array in (coef, steps))
    return self.coef * size + self.coefdiff * step


def layer_stats(stats: Any) -> dict[tuple[str, ...], edges.EdgeStats]:
  """Returns the statistics of each layer, by its path in the model.

  Those of layers that `nn.scan` or `nn.vmap` stack have a leading axis more.

  Args:
    stats: The collection `edges` of a model applied with `mutable='edges'`.

  Raises:
    ValueError: If a layer was applied twice, so that it has two of them.
  """
  leaves = jax.tree_util.tree_leaves_with_path(
      stats, is_leaf=lambda node: isinstance(node, edges.EdgeStats))
  layers: dict[tuple[str, ...], edges.EdgeStats] = {}
  for path, leaf in leaves:
    if not isinstance(leaf, edges.EdgeStats):
      continue
    names = tuple(entry.key for entry in path
                  if isinstance(entry, jax.tree_util.DictKey))[:-1]
    if names in layers:
      raise ValueError(
          f'the layer {"/".join(names)} was applied more than once; its edges '
          'have no single score.')
    layers[names] = leaf
  return layers


def _kan_layers(params: Any) -> Iterator[Mapping[str, jax.Array]]:
  """Yields the parameters of every KAN layer in a tree of them.

  Raises:
    ValueError: If layers are stacked along another axis than the first.
  """
  if not isinstance(params, Mapping):
    return
  if {'coef', 'scale_base', 'scale_spline'} <= params.keys():
    *stacked, inputs, _, outputs = params['coef'].shape
    expected = {'scale_base': (*stacked, inputs, outputs),
                'node_bias': (*stacked, outputs)}
    shapes = {name: array.shape for name, array in params.items()}
    if any(shapes.get(name, shape) != shape
           for name, shape in expected.items()):
      raise ValueError(
          f'`params` has a KAN layer with arrays of the shapes {shapes}. '
          'Layers that nn.scan or nn.vmap stack need their axis first: '
          "variable_axes={'params': 0, 'grid': 0, 'edges': 0}.")
    yield params
  else:
    for value in params.values():
      yield from _kan_layers(value)


def _check_stats(
    layers: Sequence[Mapping[str, jax.Array]],
    statistics: Mapping[tuple[str, ...], edges.EdgeStats], params: Any,
    stats: Any) -> None:
  """Raises a ValueError unless there are statistics of exactly these layers."""
  expected = sorted(layer['scale_base'].shape for layer in layers)
  given = sorted(layer.mean_abs.shape for layer in statistics.values())
  swapped = layer_stats(params) or any(True for _ in _kan_layers(stats))
  if expected == given and not swapped:
    return
  raise ValueError(
      '`stats` needs the EdgeStats of every KAN layer in `params`, of the '
      f'shapes {expected}; got {given}. Apply the model with '
      "`mutable='edges'` and call the penalty with (params, sown['edges']), in "
      'this order. Under nn.scan and nn.vmap, `variable_axes` needs '
      "'params', 'grid' and 'edges' at 0.")


def edge_scores(
    stats: edges.EdgeStats, metric: Metric = 'mean_abs') -> jax.Array:
  """Returns how active each edge of a layer is, [..., in, out], >= 0.

  Args:
    stats: Statistics of the layer on a batch.
    metric: Which of pykan's definitions; see `Penalty`.
  """
  if metric == 'mean_abs':
    return stats.mean_abs / (stats.width + _OFFSET)[..., None]
  return stats.std / (stats.input_std + 0.1)[..., None]


def entropy(scores: jax.Array, metric: Metric = 'mean_abs') -> jax.Array:
  """Returns the entropy of the scores' distribution, in bits; 0 for no scores.

  Args:
    scores: Scores of the edges of a layer, [..., in, out], >= 0.
    metric: 'mean_abs' treats the layer as one distribution; 'std' adds the mean
      entropies of rows and of columns, each normalized by its sum plus one.

  Returns:
    [...]: a scalar, or a number for each of the layers that are stacked.
  """
  def of_layer(scores):
    if metric == 'mean_abs':
      total = scores.sum()
      return _bits(scores / jnp.where(total > 0, total, 1)).sum()
    rows = _bits(scores / (scores.sum(0, keepdims=True) + 1)).sum(0).mean()
    columns = _bits(scores / (scores.sum(1, keepdims=True) + 1)).sum(1).mean()
    return rows + columns

  return jnp.vectorize(of_layer, signature='(i,o)->()')(scores)


def _bits(shares: jax.Array) -> jax.Array:
  """The terms -p log2(p) of an entropy; 0 for p = 0."""
  return -shares * jnp.log2(shares + _OFFSET)
