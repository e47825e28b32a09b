"""How much the edges of a layer vary on a batch: the one definition.

Pruning scores edges by it, pictures show the most active ones by it. An edge's
activity is the sample standard deviation of its values. `edges.statistics` has
the same within a program, in its type, where gradients are needed.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import structure
from kan_jax.layers import traversal

# Most edge values that are looked at at a time: 32 MiB in float64.
_CHUNK = 2**22

# A deviation of so many roundings of what was summed counts as none.
_ROUNDINGS = 16
_PRINTED = 12  # Most scores of edges, and of nodes, that are printed.


class Scores(NamedTuple):
  """Scores of a KAN, each >= 0 and finite; the larger, the more it matters.

  Attributes:
    edges: Scores of the edges of every layer, [in, terms]; 0 for edges that
      were removed.
    nodes: Scores of the inputs and of the nodes of every layer, [size].
  """
  edges: tuple[np.ndarray, ...]
  nodes: tuple[np.ndarray, ...]

  def __repr__(self) -> str:
    """A line for each edge and each node, the highest scores first."""
    edges = [(float(score), f'layer {k}, {i} -> {o}')
             for k, layer in enumerate(self.edges)
             for (i, o), score in np.ndenumerate(layer)]
    nodes = [(float(score), f'layer {k}, node {n}')
             for k, layer in enumerate(self.nodes)
             for n, score in enumerate(layer)]
    return '\n'.join([
        'Scores of edges:', *_lines(edges), 'Scores of nodes:', *_lines(nodes)])


def _lines(scores: list[tuple[float, str]]) -> Iterator[str]:
  """Yields a line for each of the highest scores, then what is left out."""
  scores.sort(key=lambda item: -item[0])
  for score, name in scores[:_PRINTED]:
    yield f'  {name}: {score:.3g}'
  if len(scores) > _PRINTED:
    yield (f'  and {len(scores) - _PRINTED:,} more, of '
           f'{scores[_PRINTED][0]:.3g} or less')


class Moments(NamedTuple):
  """What the edges of a layer do on a batch, as numpy arrays of float64.

  NaN for an edge, and for its term, that is not finite on the batch.

  Attributes:
    mean: Mean of every edge, [in, terms].
    std: Sample standard deviation of every edge, [in, terms]; 0 for a single
      row, and where there is nothing but rounding.
    term_std: The same of the sum of the edges of each term, [terms].
  """
  mean: np.ndarray
  std: np.ndarray
  term_std: np.ndarray


def measure(view: traversal.LayerView) -> Moments:
  """Goes through the batch some rows at a time (Chan et al. 1979)."""
  step = max(1, _CHUNK // view.edges.mask.size)
  rows, mean, squares = 0, np.zeros(()), np.zeros(())
  with np.errstate(invalid='ignore', over='ignore'):
    for start in range(0, len(view.inputs), step):
      outputs = view.edge_outputs(view.inputs[start:start + step])
      values = np.asarray(outputs, np.float64)
      values = np.concatenate([values, values.sum(1, keepdims=True)], 1)
      more, shift = len(values), values.mean(0) - mean
      squares = squares + more * values.var(0) + (
          shift**2 * (rows * more / (rows + more)))
      mean, rows = mean + shift * (more / (rows + more)), rows + more
    std = np.sqrt(squares / max(rows - 1, 1))
    mean, std = (np.where(np.isfinite(mean), a, np.nan) for a in (mean, std))
  return _without_rounding(mean[:-1], std[:-1], std[-1], outputs.dtype)


def _without_rounding(
    mean: np.ndarray, std: np.ndarray, term_std: np.ndarray,
    dtype: jax.typing.DTypeLike) -> Moments:
  """Sets deviations to 0 that are no more than what rounding leaves."""
  eps = _ROUNDINGS * float(jnp.finfo(dtype).eps)
  std = np.where(std <= eps * np.abs(mean), 0, std)
  size = (np.abs(mean) + std).sum(0)
  return Moments(mean, std, np.where(term_std <= eps * size, 0, term_std))


def visible_activity(view: traversal.LayerView) -> np.ndarray:
  """Returns the activity of each edge for a picture, [in, out].

  An edge that is not finite on the batch, as one whose argument leaves the
  domain of its function, counts as 0: there is no number for it.
  """
  return np.nan_to_num(measure(view).std, nan=0)


def check_scores(scores: Scores, net: structure.Structure) -> Scores:
  """Returns scores of one's own as arrays.

  Raises:
    ValueError: If they are no `Scores`, do not fit the network, or if one is
      negative or not finite.
  """
  if not isinstance(scores, Scores):
    raise ValueError(
        '`scores` needs a `kan_jax.pruning.Scores`, as from '
        f'`kan_jax.attribution`; got {type(scores).__name__}.')
  given = Scores(*(tuple(map(np.asarray, kind)) for kind in scores))
  for name, arrays, shapes in (
      ('edges', given.edges, [layer.shape for layer in net.live_edges]),
      ('nodes', given.nodes, [(layer.size,) for layer in net.nodes])):
    given_shapes = [array.shape for array in arrays]
    if given_shapes != shapes:
      raise ValueError(
          f'`scores` needs the shapes {shapes} in `{name}`; got '
          f'{given_shapes}. Are '
          'they of another model?')
    _check_values(name, arrays)
  return given


def _check_values(name: str, arrays: Sequence[np.ndarray]) -> None:
  for k, array in enumerate(arrays):
    if not (np.isfinite(array) & (array >= 0)).all():
      raise ValueError(
          f'`scores.{name}[{k}]` needs finite numbers >= 0; got {array.min()} '
          f'to {array.max()}.')
