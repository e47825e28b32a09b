"""Pictures of KANs with matplotlib: figures are returned, no file is made.

`plot` draws a whole network, `plot_edges` the functions of its edges.
"""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
from matplotlib import axes
from matplotlib import figure
import numpy as np

from kan_jax import checks
from kan_jax.layers import edge_moments
from kan_jax.layers import symbolic_edges
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept
from kan_jax.plotting import _figures
from kan_jax.plotting import diagram
from kan_jax.splines import bsplines

plot = diagram.plot

_POINTS = 200  # Where each curve is evaluated.


@accept.takes_nnx
def plot_edges(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array, *,
    most: int = 10) -> figure.Figure:
  """Draws the functions of each layer's most active edges.

  Args:
    model: A Flax module that holds KAN layers.
    variables: Its variables.
    x: A batch of inputs: decides the activity of the edges, the standard
      deviations of their values, and the histogram of samples under each curve.
    most: Number of curves to draw for each layer, >= 1; fewer if no layer has
      so many edges.

  Returns:
    A figure with a row of panels for each layer, the most active edge first;
    without edges that were removed.
    Knots are ticks on the lower side; a function that an edge carries is named
    in the title, and has gaps outside its domain.

  Raises:
    ValueError: If the model has no KAN layer, or none that can be looked at.
  """
  most = checks.check_whole('most', most, 1)
  views = traversal.view_layers(model, variables, x)
  if not views:
    raise ValueError(
        '`model` needs to hold KAN layers, whose edges are drawn; got '
        f'{type(model).__name__} without any.')
  edges = [_strongest(view, most) for view in views.values()]
  columns = max(1, *map(len, edges))
  fig = _figures.Figure(
      figsize=(max(1.7 * columns, 3), 1.9 * len(views)), layout='constrained')
  panels = fig.subplots(len(views), columns, squeeze=False)
  for ax in panels.flat:
    ax.set_axis_off()
  for row, drawn, (path, view) in zip(
      panels, edges, views.items(), strict=True):
    for ax, edge in zip(row, drawn, strict=False):
      _draw_edge(ax, view, *edge)
    row[0].set_ylabel('/'.join(path), fontsize=9)
  return fig


def _strongest(
    view: traversal.LayerView, most: int) -> list[tuple[int, int]]:
  """Returns the most active edges (input, output) that are not removed."""
  live = {*traversal.spline_edges(view), *symbolic_edges.pairs(view.symbolic)}
  scores = edge_moments.visible_activity(view)
  ranked = np.argsort(-scores, axis=None, kind='stable').tolist()
  places = (divmod(index, scores.shape[1]) for index in ranked)
  return [edge for edge in places if edge in live][:most]


def _draw_edge(
    ax: axes.Axes, view: traversal.LayerView, i: int, o: int) -> None:
  """Draws one edge over its grid, its knots as ticks, its samples below."""
  grid = np.asarray(bsplines.interior(view.edges.knots, view.order)[i])
  points = np.linspace(grid[0], grid[-1], _POINTS, dtype=grid.dtype)
  rows = np.broadcast_to(points[:, None], (_POINTS, view.inputs.shape[1]))
  ax.set_axis_on()
  values = np.asarray(view.edge_outputs(jnp.asarray(rows))[:, i, o])
  name = symbolic_edges.names(view.symbolic).get((i, o))
  ax.plot(points, np.where(np.isfinite(values), values, np.nan),
          color='C3' if name else _figures.palette().ink, lw=1.5)
  samples = ax.twinx()
  samples.hist(
      np.asarray(view.inputs[:, i]), bins=30, range=(grid[0], grid[-1]),
      color='C0', alpha=0.25)
  samples.set_ylim(0, 3 * samples.get_ylim()[1])
  samples.set_axis_off()
  ax.set_xticks(grid, labels=[''] * len(grid))
  ax.tick_params(labelsize=7, direction='in')
  ax.set_xlabel(f'{grid[0]:.2f} to {grid[-1]:.2f}', fontsize=7)
  ax.set_title(
      f'{i} → {o}' + (f': {name}' if name else ''), fontsize=8,
      parse_math=False)
