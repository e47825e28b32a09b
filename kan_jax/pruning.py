"""Removing edges: masks in, masks out. The parameters stay as they are."""

from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp

from kan_jax import regularization


def mask_edges(
    grid: Any, stats: Any, threshold: float,
    metric: regularization.Metric = 'mean_abs') -> Any:
  """Removes the edges that score less than a threshold.

  Args:
    grid: The collection `grid` of a model.
    stats: Its collection `edges`, from applying it to a batch with
      `mutable='edges'`.
    threshold: Least score of an edge that stays.
    metric: The definition of the score; see `regularization.Penalty`.

  Returns:
    A new collection `grid`; keep the old one to undo. Edges that were removed
    before stay removed.
  """
  flat = dict(traverse_util.flatten_dict(grid))
  for path, layer in regularization.layer_stats(stats).items():
    keep = regularization.edge_scores(layer, metric) >= threshold
    mask = flat[(*path, 'mask')]
    flat[(*path, 'mask')] = mask * keep.astype(mask.dtype)
  return traverse_util.unflatten_dict(flat)


def count_edges(grid: Any) -> tuple[jax.Array, int]:
  """Returns how many edges are left, and how many there are in all."""
  masks = [value for path, value in traverse_util.flatten_dict(grid).items()
           if path[-1] == 'mask']
  left = sum((jnp.count_nonzero(mask) for mask in masks), jnp.zeros((), int))
  return left, sum(mask.size for mask in masks)
