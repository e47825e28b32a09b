"""A KAN as a diagram with matplotlib: inputs below, outputs on top.

One Axes whose unit is an inch holds it all, in a few collections: an Axes for
each edge would take seconds.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
from matplotlib import axes
from matplotlib import collections
from matplotlib import figure
from matplotlib import textpath
import numpy as np

from kan_jax import checks
from kan_jax.layers import edge_moments
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.layers.nnx import accept
from kan_jax.plotting import _edge_curves
from kan_jax.plotting import _figures

_SYMBOLIC = (0.84, 0.15, 0.16)  # Seen on white and on black.
_FAINTEST = 0.06  # Opacity of an edge that scores 0: it is not removed.
# All in inches. Insets and terms move together once they fill the width; here
# are the least and the most from one to the next.
_FULL, _LEAST = 14.0, 3.0
_INSET_PITCH, _TERM_PITCH = (0.35, 0.75), (0.25, 0.55)
_MARGIN, _DROP = 0.25, 0.4
_POINT = 1 / 72


class _Row(NamedTuple):
  """Where the nodes of a row stand.

  Attributes:
    layer: All nodes, drawn or not.
    y: Height of the nodes.
    nodes: Where each node that is drawn stands, by index.
    terms: Where each of their terms stands.
    busy: Nodes at which a drawn edge begins or ends.
    fed: Terms at which a drawn edge ends.
    size: Diameter of the nodes in points.
  """
  layer: nodes.Nodes
  y: float
  nodes: dict[int, float]
  terms: dict[int, float]
  busy: set[int]
  fed: set[int]
  size: float

  @property
  def factors_y(self) -> float:
    """Height of the terms that are factors; of all where none is."""
    return self.y - _DROP * bool(self.layer.arities)

  def height(self, term: int) -> float:
    """Height at which the edges of a term end."""
    return self.y if term < self.layer.sums else self.factors_y


@accept.takes_nnx
def plot(
    model: nn.Module, variables: Mapping[str, Any], x: jax.typing.ArrayLike, *,
    scores: edge_moments.Scores | None = None,
    names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    most: int = 40, beta: float = 3.0) -> figure.Figure:
  """Draws a network as the figures of arXiv 2404.19756 and 2408.10205 do.

  A line leads from a node through a square to the node (+) that adds the edge.
  The square shows the edge's function over the range of its samples, scaled to
  fit. A node that multiplies (×) stands above the sums that are its factors.
  Edges that carry a function are red and have its name; removed ones are not
  drawn.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: A batch of inputs, [..., in]. The ranges of the curves are those of at
      most 256 rows, spread evenly.
    scores: How much each edge matters, such as `kan_jax.attribution` returns;
      by default its activity, the standard deviation of its values on the
      batch.
    names: Names of the inputs, with mathematics between dollar signs; by
      default $x_0$ and so on.
    output_names: Names of the outputs; by default $y_0$ and so on.
    most: How many edges of a layer are drawn, those that score most. Where
      others are left out, the diagram says so, and shows only the nodes of
      those that are drawn.
    beta: How soon edges become opaque: opacity is tanh(beta * score / largest
      score of the layer), as in section 2.5.1 of the first paper, and a little
      above 0 for each edge that is there.

  Returns:
    A figure, which pyplot does not know of. Collections of its only Axes have
    an id (`get_gid`): 'layer 0 curves', 'layer 0 squares' and 'layer 0 lines'
    (of each edge two lines), in the order of inputs, then outputs.

  Raises:
    ValueError: If the model is not a KAN, or if `x`, `scores`, `names`,
      `output_names`, `most` or `beta` does not fit.
  """
  net = structure.read(model, variables)
  most = checks.check_whole('most', most, 1)
  if not 0 < beta < np.inf:
    raise ValueError(f'`beta` is a finite number > 0; got {beta!r}.')
  labels = (_labels('names', names, 'x', net.nodes[0].size),
            _labels('output_names', output_names, 'y', net.nodes[-1].size))
  # What is drawn: edges, then the nodes that they touch.
  drawn = _edge_curves.strongest(
      model, variables, x, net, scores=scores, most=most)
  shown = _shown(drawn, net.nodes, most)
  # Where it goes, in inches.
  width = _width(drawn, net.nodes, shown)
  rows = _rows(drawn, net.nodes, shown, width)
  fig, ax = _canvas(rows, labels, width, max(map(len, map(_note, drawn))))
  # Edges first, nodes over their ends.
  palette = _figures.palette()
  for k, layer in enumerate(drawn):
    _draw_layer(ax, k, layer, rows[k], rows[k + 1], width, beta, palette)
  for row in rows:
    _draw_nodes(ax, row, row is rows[0], palette)
  return fig


def _labels(
    name: str, given: Sequence[str] | None, letter: str,
    size: int) -> list[str]:
  """Returns a label for each of some nodes."""
  if given is None:
    return [f'${letter}_{{{k}}}$' for k in range(size)]
  if isinstance(given, str) or len(given) != size:
    raise ValueError(
        f'`{name}` needs {size} strings, one for each; got {given!r}.')
  return [str(label) for label in given]


def _note(layer: _edge_curves.DrawnEdges) -> str:
  """Says which part of the edges is drawn, if not all of them are."""
  count = len(layer.i)
  return f'{count} of {layer.live} edges' if count < layer.live else ''


def _shown(
    drawn: Sequence[_edge_curves.DrawnEdges], layers: Sequence[nodes.Nodes],
    most: int) -> list[list[int]]:
  """Decides which nodes are drawn, for the inputs and each layer.

  All of a row, unless it is long or edges at it are left out: then those at
  which a drawn edge begins or ends.
  """
  shown = []
  for k, row in enumerate(layers):
    around = drawn[max(k - 1, 0):k + 1]
    whole = row.size <= most and not any(map(_note, around))
    shown.append(list(range(row.size)) if whole else sorted(
        _busy(drawn, layers, k)))
  return shown


def _busy(
    drawn: Sequence[_edge_curves.DrawnEdges], layers: Sequence[nodes.Nodes],
    k: int) -> set[int]:
  """Returns the nodes of a row at which a drawn edge begins or ends."""
  begin = set(drawn[k].i.tolist()) if k < len(drawn) else set()
  fed = _fed(drawn, k)
  return begin | {
      n for n, group in enumerate(layers[k].groups) if fed & set(group)}


def _fed(drawn: Sequence[_edge_curves.DrawnEdges], k: int) -> set[int]:
  return set(drawn[k - 1].o.tolist()) if k else set()


def _terms(row: nodes.Nodes, shown: Sequence[int]) -> list[int]:
  groups = row.groups
  return [term for n in shown for term in groups[n]]


def _width(
    drawn: Sequence[_edge_curves.DrawnEdges], layers: Sequence[nodes.Nodes],
    shown: Sequence[Sequence[int]]) -> float:
  """Returns the inches that the widest row takes."""
  spans = [_LEAST]
  for count, pitch in [
      *((len(layer.i), _INSET_PITCH) for layer in drawn),
      *((len(_terms(*pair)), _TERM_PITCH)
        for pair in zip(layers, shown, strict=True))]:
    spans.append(count * np.clip(_FULL / max(count, 1), *pitch))
  return float(max(spans))


def _rows(
    drawn: Sequence[_edge_curves.DrawnEdges], layers: Sequence[nodes.Nodes],
    shown: Sequence[Sequence[int]], width: float) -> list[_Row]:
  """Places the nodes that are drawn, evenly by their terms."""
  rows: list[_Row] = []
  y = 0.0
  for k, row in enumerate(layers):
    if k:
      y += float(np.clip(0.2 * width, 1.8, 2.8)) + _DROP * bool(row.arities)
    pitch = width / max(len(_terms(row, shown[k])), 1)
    places, terms = _spread(row, shown[k], pitch)
    rows.append(_Row(
        row, y, places, terms, _busy(drawn, layers, k), _fed(drawn, k),
        min(11.0, 0.6 * pitch / _POINT)))
  return rows


def _spread(
    row: nodes.Nodes, shown: Sequence[int],
    pitch: float) -> tuple[dict[int, float], dict[int, float]]:
  """Returns places of nodes and of their terms, which stay close to them."""
  places, terms, start = {}, {}, 0
  groups = row.groups
  for n in shown:
    count = len(groups[n])
    places[n] = (start + count / 2) * pitch
    for j, term in enumerate(groups[n]):
      terms[term] = places[n] + (j - (count - 1) / 2) * min(
          pitch, _TERM_PITCH[1])
    start += count
  return places, terms


def _canvas(
    rows: Sequence[_Row], labels: Sequence[Sequence[str]], width: float,
    note: int) -> tuple[figure.Figure, axes.Axes]:
  """Makes the figure, with the labels of inputs and outputs."""
  ends = [rows[0], rows[-1]]
  texts = [[row_labels[n] for n in row.nodes]
           for row, row_labels in zip(ends, labels, strict=True)]
  fits = [_fit(text, width / max(len(text), 1)) for text in texts]
  low, high = (_MARGIN + 0.2 + tall for _, _, tall in fits)
  right = width + _MARGIN + 0.07 * note  # A letter of 8 points.
  bounds = (-_MARGIN, right, -low, rows[-1].y + high)
  fig = _figures.Figure(figsize=(bounds[1] - bounds[0], bounds[3] - bounds[2]))
  ax = fig.add_axes((0, 0, 1, 1), xlim=bounds[:2], ylim=bounds[2:])
  ax.set_aspect('equal')
  ax.set_axis_off()
  for row, text, (size, rotation, _), side in zip(
      ends, texts, fits, (-1, 1), strict=True):
    for place, label in zip(row.nodes.values(), text, strict=True):
      ax.text(place, row.y + 0.14 * side, label, size=size, rotation=rotation,
              ha='center', va='bottom' if side > 0 else 'top')
  return fig, ax


def _fit(labels: Sequence[str], pitch: float) -> tuple[float, float, float]:
  """Returns font size, rotation, and inches of height that labels need."""
  if not labels:
    return 10, 0, 0
  boxes = [textpath.TextPath((0, 0), label or ' ', size=1).get_extents()
           for label in labels]
  wide = max(box.width for box in boxes)
  size = min(11, 0.9 * pitch / _POINT / max(wide, 0.1))
  if size >= 7:
    return size, 0, size * _POINT
  size = min(9, 0.75 * pitch / _POINT)
  return size, 90, size * wide * _POINT


def _draw_layer(
    ax: axes.Axes, k: int, layer: _edge_curves.DrawnEdges, source: _Row,
    target: _Row, width: float, beta: float,
    palette: _figures.Palette) -> None:
  """Draws the edges of a layer: lines, squares, curves and names."""
  pitch = width / max(len(layer.i), 1)
  side = min(0.55, 0.8 * pitch)
  x = (np.arange(len(layer.i)) + 0.5) * pitch
  y = (source.y + target.factors_y) / 2
  colors = _colors(layer, beta, palette.ink)
  sizes = _draw_names(
      ax, layer.names, x, y + side / 2, pitch, palette.paper)
  corners = side / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
  middles = np.stack([x, np.full_like(x, y)], -1)[:, None]
  curves = np.stack([_center(layer.x), _center(layer.y)], -1)
  for what, artist in {
      'lines': collections.LineCollection(
          _lines(layer, source, target, x, y, side, sizes),
          colors=np.repeat(colors, 2, 0), linewidths=0.9, zorder=1),
      'squares': collections.PolyCollection(
          [*(middles + corners)], facecolors=palette.paper,
          edgecolors=colors,
          linewidths=0.8, zorder=2),
      'curves': collections.LineCollection(
          [*(middles + 0.84 * side * curves)], colors=colors, linewidths=1.3,
          zorder=3)}.items():
    artist.set_gid(f'layer {k} {what}')
    ax.add_collection(artist, autolim=False)
  if note := _note(layer):
    ax.text(width + 0.1, y, note, size=8, va='center')


def _colors(
    layer: _edge_curves.DrawnEdges, beta: float,
    ink: _figures.Color) -> np.ndarray:
  """Returns the color of each edge, [k, 4]."""
  opacity = _FAINTEST + (1 - _FAINTEST) * np.tanh(beta * layer.strength)
  return np.array([
      (*(_SYMBOLIC if name else ink), alpha)
      for name, alpha in zip(layer.names, opacity, strict=True)]).reshape(-1, 4)


def _lines(
    layer: _edge_curves.DrawnEdges, source: _Row, target: _Row, x: np.ndarray,
    y: float, side: float,
    sizes: Sequence[float]) -> list[list[tuple[float, float]]]:
  """Returns two lines for each edge: to its square and on from its name."""
  lines = []
  for middle, i, o, size in zip(
      x.tolist(), layer.i.tolist(), layer.o.tolist(), sizes, strict=True):
    top = y + side / 2 + 1.4 * size * _POINT
    lines += [[(source.nodes[i], source.y), (middle, y - side / 2)],
              [(middle, top), (target.terms[o], target.height(o))]]
  return lines


def _center(values: np.ndarray) -> np.ndarray:
  """Scales each row to -0.5 to 0.5; 0 if it is constant, NaN stays NaN."""
  finite = np.isfinite(values)
  low = np.where(finite, values, np.inf).min(-1, keepdims=True, initial=np.inf)
  high = np.where(finite, values, -np.inf).max(
      -1, keepdims=True, initial=-np.inf)
  empty = low > high
  low, high = np.where(empty, 0, low), np.where(empty, 0, high)
  # Rounding errors of a constant are not blown up to fill a square.
  flat = high - low <= 1e-6 * np.maximum(np.abs(low), np.abs(high))
  scale = np.where(flat, np.inf, high - low)
  return (np.where(finite, values, np.nan) - (low + high) / 2) / scale


def _draw_names(
    ax: axes.Axes, names: Sequence[str | None], x: np.ndarray, y: float,
    pitch: float, paper: _figures.Color) -> list[float]:
  """Writes functions' names on their squares; returns sizes in points."""
  sizes = []
  for middle, name in zip(x, names, strict=True):
    sizes.append(0.0)
    if name:
      sizes[-1] = max(min(8, 0.95 * pitch / _POINT / (0.62 * len(name))), 4)
      ax.text(middle, y + 0.03, name, size=sizes[-1], color=_SYMBOLIC, zorder=4,
              ha='center', va='bottom', parse_math=False,
              bbox={'facecolor': paper, 'edgecolor': 'none', 'pad': 0.6})
  return sizes


def _draw_nodes(
    ax: axes.Axes, row: _Row, inputs: bool,
    palette: _figures.Palette) -> None:
  """Draws a row of nodes: dots, or circles that show what they do."""
  sums = row.layer.sums
  for n, group in enumerate(row.layer.groups):
    if n not in row.nodes:
      continue
    ink = palette.ink if n in row.busy else palette.pale
    place = row.nodes[n], row.y
    if inputs:
      ax.plot(*place, 'o', color=ink, markersize=0.7 * row.size, zorder=4)
      continue
    if n >= sums:
      for term in group:
        spot = row.terms[term], row.factors_y
        ax.plot(*zip(spot, place, strict=True), color=ink, lw=0.9, zorder=1)
        _circle(
            ax, spot, 0.75 * row.size, '+',
            palette.ink if term in row.fed else palette.pale, palette.paper)
    _circle(
        ax, place, row.size, '+' if n < sums else 'x', ink, palette.paper)


def _circle(
    ax: axes.Axes, place: tuple[float, float], size: float, sign: str,
    ink: _figures.Color, paper: _figures.Color) -> None:
  """Draws a circle with a sign, that of a sum or of a product."""
  ax.plot(*place, 'o', color=ink, markerfacecolor=paper, markersize=size,
          markeredgewidth=0.9, zorder=4)
  ax.plot(*place, sign, color=ink, markersize=0.55 * size,
          markeredgewidth=0.9, zorder=5)
