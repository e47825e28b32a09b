"""The strongest edges of each layer of a KAN, and their curves: to be drawn.

All curves are one compiled function, in which no array has a value for each row
and each edge.
"""

from collections.abc import Mapping
import functools
import math
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax.layers import edge_moments
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges
from kan_jax.layers import traversal
from kan_jax.splines import bsplines

_ROWS = 256  # Most samples that the ranges of the curves are taken from.
_POINTS = 64  # Where each curve is evaluated.


class DrawnEdges(NamedTuple):
  """Some edges of one layer, by input, then by output.

  Attributes:
    i: Their inputs, [k].
    o: Their outputs, [k]; terms, where the layer has multiplication nodes.
    strength: Scores relative to the largest in the layer, [k], 0 to 1; all 1
      where no edge scores.
    x: Points over the range of the samples, [k, points].
    y: Values of the edges there, [k, points].
    names: Names of the functions they carry, [k]; None for splines.
    live: How many edges of the layer are not removed.
  """
  i: np.ndarray
  o: np.ndarray
  strength: np.ndarray
  x: np.ndarray
  y: np.ndarray
  names: list[str | None]
  live: int


def strongest(
    model: nn.Module, variables: Mapping[str, Any], x: jax.typing.ArrayLike,
    net: structure.Structure, *, scores: edge_moments.Scores | None = None,
    most: int = 40) -> list[DrawnEdges]:
  """Returns the strongest edges of each layer that are not removed.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs, [..., in]. The ranges of the curves are those of at
      most 256 rows, spread evenly.
    net: The structure of the model.
    scores: How much each edge matters; by default its activity on the batch.
    most: How many edges of a layer to return, >= 1.
  """
  checks.check_rows('x', x)
  *leading, inputs = np.shape(x)
  rows = np.asarray(x).reshape(math.prod(leading), inputs)
  if scores is None:
    views = traversal.view_layers(model, variables, rows)
    of_edges = [
        edge_moments.visible_activity(views[path]) for path in net.paths]
  else:
    of_edges = list(edge_moments.check_scores(scores, net).edges)
  chosen = [_choose(*layer, most)
            for layer in zip(of_edges, net.live_edges, strict=True)]
  curves = jax.device_get(_curves_of_layers(
      model, variables, rows[::-(-len(rows) // _ROWS)], chosen))
  drawn = []
  for groups, score, live, edges, (points, values) in zip(
      net.symbolic, of_edges, net.live_edges, chosen, curves, strict=True):
    names = symbolic_edges.names(groups)
    drawn.append(DrawnEdges(
        *edges, _relative(score[edges]), np.asarray(points, float),
        np.asarray(values, float),
        [names.get(edge) for edge in zip(*edges, strict=True)],
        int(live.sum())))
  return drawn


def _choose(
    scores: np.ndarray, live: np.ndarray,
    most: int) -> tuple[np.ndarray, np.ndarray]:
  """Returns inputs and outputs of the live edges that score most, in order."""
  ranked = np.argsort(-np.where(live, scores, -1), axis=None, kind='stable')
  i, o = np.unravel_index(
      np.sort(ranked[:min(most, int(live.sum()))]), scores.shape)
  return i, o


def _relative(scores: np.ndarray) -> np.ndarray:
  """Divides scores by the largest; 1 where there is none."""
  largest = scores.max(initial=0)
  return scores / largest if largest else np.ones_like(scores)


# Used once for most models: what would be slow is the compilation.
@functools.partial(
    jax.jit, static_argnums=0,
    compiler_options={'xla_backend_optimization_level': 0})
def _curves_of_layers(model, variables, x, chosen):
  """Returns for each layer points and values of the edges, [k, points] each."""
  views = traversal.view_layers(model, variables, x).values()
  return [_curves(view, *edges)
          for view, edges in zip(views, chosen, strict=True)]


def _curves(
    view: traversal.LayerView, i: jax.Array,
    o: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns points and the values of some edges there, [k, points] each."""
  points = _points(view)
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
