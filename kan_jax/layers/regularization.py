"""Sparsity penalties: edge statistics and coefficients in, one number out.

The l1 and entropy terms of arXiv 2404.19756, section 2.5.1, in the two
definitions that pykan has used, and its two terms on the coefficients.
"""

from collections.abc import Iterator
from collections.abc import Mapping
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

  def __call__(self, stats: Any, params: Any) -> jax.Array:
    """Returns the penalty, a scalar; zero for layers without any live edge.

    Args:
      stats: The collection `edges` of a model applied with `mutable='edges'`.
      params: Its parameters, of which the coefficients are read.
    """
    total = jnp.zeros(())
    if self.l1 or self.entropy:
      for layer in layer_stats(stats).values():
        scores = edge_scores(layer, self.metric)
        total += self.l1 * scores.sum()
        total += self.entropy * entropy(scores, self.metric)
    if self.coef or self.coefdiff:
      for coef in _coefs(params):
        total += self._of_coef(coef)
    return total

  def _of_coef(self, coef: jax.Array) -> jax.Array:
    """The terms of one layer's coefficients, [in, grid + order, out]."""
    steps = jnp.diff(coef, axis=1)
    if self.metric == 'mean_abs':  # The mean over r, summed over edges.
      size, step = jnp.abs(coef).mean(1).sum(), jnp.abs(steps).mean(1).sum()
    else:  # The mean over outputs, summed over inputs and r.
      size, step = jnp.abs(coef).mean(2).sum(), jnp.abs(steps).mean(2).sum()
    return self.coef * size + self.coefdiff * step


def layer_stats(stats: Any) -> dict[tuple[str, ...], edges.EdgeStats]:
  """Returns the statistics of each layer, by its path in the model.

  Args:
    stats: The collection `edges` of a model applied with `mutable='edges'`.

  Raises:
    ValueError: If a layer was applied twice, so that it has two of them.
  """
  leaves = jax.tree_util.tree_leaves_with_path(
      stats, is_leaf=lambda node: isinstance(node, edges.EdgeStats))
  found = {}
  for path, leaf in leaves:
    names = tuple(entry.key for entry in path
                  if isinstance(entry, jax.tree_util.DictKey))[:-1]
    if names in found:
      raise ValueError(
          f'the layer {"/".join(names)} was applied more than once; its edges '
          'have no single score.')
    found[names] = leaf
  return found


def edge_scores(
    stats: edges.EdgeStats, metric: Metric = 'mean_abs') -> jax.Array:
  """Returns how active each edge of a layer is, [in, out], >= 0.

  Args:
    stats: Statistics of the layer on a batch.
    metric: Which of pykan's definitions; see `Penalty`.
  """
  if metric == 'mean_abs':
    return stats.mean_abs / (stats.width + _OFFSET)[:, None]
  return stats.std / (stats.input_std + 0.1)[:, None]


def entropy(scores: jax.Array, metric: Metric = 'mean_abs') -> jax.Array:
  """Returns the entropy of the scores' distribution, in bits; 0 for no scores.

  Args:
    scores: Scores of the edges of one layer, [in, out], >= 0.
    metric: 'mean_abs' treats the layer as one distribution; 'std' adds the mean
      entropies of rows and of columns, each normalized by its sum plus one.
  """
  if metric == 'mean_abs':
    total = scores.sum()
    return _bits(scores / jnp.where(total > 0, total, 1)).sum()
  rows = _bits(scores / (scores.sum(0, keepdims=True) + 1)).sum(0).mean()
  columns = _bits(scores / (scores.sum(1, keepdims=True) + 1)).sum(1).mean()
  return rows + columns


def _bits(shares: jax.Array) -> jax.Array:
  """The terms -p log2(p) of an entropy; 0 for p = 0."""
  return -shares * jnp.log2(shares + _OFFSET)


def _coefs(params: Any) -> Iterator[jax.Array]:
  """Yields the coefficients of every KAN layer in a tree of parameters."""
  for name, value in params.items():
    if isinstance(value, Mapping):
      yield from _coefs(value)
    elif name == 'coef':
      yield value
