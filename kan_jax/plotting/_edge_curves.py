"""The strongest edges of each layer of a KAN, and their curves: to be drawn.

One compiled function, in which no array has a value for each row and each edge.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import math
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax.layers import edits
from kan_jax.layers import regularization
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges
from kan_jax.layers import traversal
from kan_jax.splines import bsplines

_ROWS = 256  # Most samples that are looked at.
_POINTS = 64  # Where each curve is evaluated.


class Layer(NamedTuple):
  """Some edges of one layer, by input, then by output.

  Attributes:
    i: Their inputs, [k].
    o: Their outputs, [k]; terms, where the layer has multiplication nodes.
    strength: Scores relative to the largest in the layer, [k], 0 to 1; all 1
      where no edge scores.
    x: Points over the range of the samples, [k, points].
    y: Values of the edges there, [k, points].
    names: Of the functions they carry, [k]; None for splines.
    live: How many edges of the layer are not removed.
  """
  i: np.ndarray
  o: np.ndarray
  strength: np.ndarray
  x: np.ndarray
  y: np.ndarray
  names: list[str | None]
  live: int


def find(
    model: nn.Module, variables: Mapping[str, Any], x: jax.typing.ArrayLike, *,
    scores: Sequence[jax.typing.ArrayLike] | None = None,
    most: int = 40) -> list[Layer]:
  """Returns the strongest edges of each layer that are not removed.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs, [..., in]. Of more than 256 rows, some that are spread
      evenly.
    scores: An array [in, out] >= 0 for each layer; by default the standard
      deviation of each edge's values on the batch.
    most: How many edges of a layer to return, >= 1.
  """
  checks.check_rows('x', x)
  *leading, inputs = np.shape(x)
  rows = np.asarray(x).reshape(math.prod(leading), inputs)
  rows = rows[::-(-len(rows) // _ROWS)]
  masks = [structure.part(variables['grid'], path)['mask']
           for path in structure.paths(model)]
  if scores is not None:
    scores = _check_scores(scores, [mask.shape for mask in masks])
  found = jax.device_get(_compute(model, most, variables, rows, scores))
  return [
      _layer(model, path, mask.shape, *arrays) for path, mask, arrays in zip(
          structure.paths(model), masks, found, strict=True)]


def _check_scores(
    scores: Sequence[jax.typing.ArrayLike],
    shapes: Sequence[tuple[int, ...]]) -> list[np.ndarray]:
  """Returns scores as arrays, if there is one >= 0 for every edge."""
  arrays = [np.asarray(layer) for layer in scores]
  if [layer.shape for layer in arrays] != list(shapes):
    raise ValueError(
        '`scores` needs an array [in, out] for each layer, of the shapes '
        f'{list(shapes)}; got {[layer.shape for layer in arrays]}.')
  for k, layer in enumerate(arrays):
    if not (np.isfinite(layer) & (layer >= 0)).all():
      raise ValueError(
          f'`scores[{k}]` needs finite numbers >= 0; got {layer.min()} to '
          f'{layer.max()}.')
  return arrays


# Used once for most models: what would be slow is the compilation.
@functools.partial(
    jax.jit, static_argnums=(0, 1),
    compiler_options={'xla_backend_optimization_level': 0})
def _compute(model, most, variables, x, scores):
  """Returns for each layer its strongest edges, live ones first.

  For each layer: indices of edges [k], how many in the layer are live, scores
  [k], points and values [k, points].
  """
  views = traversal.view_layers(model, variables, x)
  if scores is None:
    _, sown = model.apply(variables, x, mutable='edges')
    # Not a number: an edge that leaves its function's domain.
    scores = [jnp.nan_to_num(stats.std, posinf=0) for stats in (
        regularization.layer_stats(sown['edges']).values())]
  found = []
  for view, score in zip(views.values(), scores, strict=True):
    live = view.edges.mask != 0
    for edge in symbolic_edges.pairs(view.symbolic):
      live = live.at[edge].set(True)
    score = jnp.where(live, score, -1).ravel()
    score, index = jax.lax.top_k(score, min(most, score.size))
    found.append((index, live.sum(), score, *_curves(view, index)))
  return found


def _curves(
    view: traversal.LayerView, index: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns points and the values of some edges there, [k, points] each."""
  points = _points(view)
  i, o = jnp.unravel_index(index, view.edges.mask.shape)
  # One point at a time: an array [points, in, out] may be huge.
  values = jax.lax.map(
      lambda row: view.edge_outputs(row[None])[0, i, o], points)
  return points[:, i].T, values.T


def _points(view: traversal.LayerView) -> jax.Array:
  """Points over the samples of each input, or its grid if they are one."""
  x = view.inputs.astype(view.edges.knots.dtype)
  finite = jnp.isfinite(x)
  low = jnp.where(finite, x, jnp.inf).min(0)
  high = jnp.where(finite, x, -jnp.inf).max(0)
  grid = bsplines.interior(view.edges.knots, view.order)
  varies = high > low
  low = jnp.where(varies, low, grid[:, 0])
  high = jnp.where(varies, high, grid[:, -1])
  return jnp.linspace(low, high, _POINTS)


def _layer(
    model: nn.Module, path: tuple[str, ...], shape: tuple[int, ...],
    index: np.ndarray, live: np.ndarray, *arrays: np.ndarray) -> Layer:
  """Sorts the edges of a layer by input and output; no removed ones."""
  order = np.argsort(index[:live])
  i, o = np.unravel_index(index[order], shape)
  score, x, y = (np.asarray(array, float)[order] for array in arrays)
  strongest = score.max(initial=0)
  names = symbolic_edges.names(edits.layer_symbolic(model, path))
  return Layer(
      i, o, score / strongest if strongest else np.ones_like(score), x, y,
      [names.get(edge) for edge in zip(i, o, strict=True)], int(live))
