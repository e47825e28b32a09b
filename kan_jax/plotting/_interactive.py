"""A KAN as part of an HTML page: a diagram whose edges answer.

Each edge of the diagram can be pointed at, touched, or reached with the arrow
keys; the page then shows the edge's function enlarged. Everything is drawn
here; the page's script only chooses what is seen.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import html
from typing import Any
from typing import NamedTuple
from xml.etree import ElementTree

import jax
from matplotlib import axes
import numpy as np

from kan_jax.layers import edge_moments
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.plotting import _edge_curves
from kan_jax.plotting import _figures
from kan_jax.plotting import _svg
from kan_jax.plotting import diagram
from kan_jax.splines import bsplines

_POINT = 72  # In an inch.
# Size of an enlarged function, in units of its own, and of the frame inside.
_SIZE = (340, 230)
_FRAME = (46, 10, 330, 200)  # Left, top, right, bottom.
_BARS = 30


class Names(NamedTuple):
  """What the nodes at both ends are called.

  Attributes:
    inputs: Short names of the inputs, for the diagram.
    outputs: Names of the outputs.
    input: The kind of an input, such as 'pixel'; empty if names are enough.
    output: The kind of an output, such as 'class'.
    rows: What the samples are, such as 'test images'.
  """
  inputs: Sequence[str]
  outputs: Sequence[str]
  input: str = ''
  output: str = ''
  rows: str = 'rows'


class Picture(NamedTuple):
  """What the page shows of a network, as HTML.

  Attributes:
    diagram: The diagram.
    curves: A <figure> for each edge of the diagram; all but one are hidden.
    shown: How many edges these are.
    total: How many edges the network has.
    rows: What its samples are.
  """
  diagram: str
  curves: str
  shown: int
  total: int
  rows: str

  def write(self) -> str:
    """Returns the diagram and, beside or below it, the function of an edge."""
    return f'''<div class="network"><div class="wide">{self.diagram}</div>
<div class="panel" aria-live="polite">{self.curves}
<p class="key"><span class="line">function</span> <span class="bar">{self.rows}
</span> <span class="tick">knots</span></p></div></div>'''


class _Edge(NamedTuple):
  """An edge of the diagram."""
  name: str  # Its id on the page.
  title: str
  text: str
  score: float
  x: np.ndarray  # Points over the range of the samples.
  y: np.ndarray  # Values there.
  knots: np.ndarray  # All that lie in that range.
  samples: np.ndarray


def draw(
    kan: linen.KAN, variables: Mapping[str, Any], x: jax.typing.ArrayLike,
    names: Names, most: int, name: str = 'edge') -> Picture:
  """Draws a network.

  Args:
    kan: The network.
    variables: Its variables.
    x: A batch of inputs, [n, in]: decides the scores of the edges, which are
      standard deviations of their values, and the range of each function.
    names: Names of its inputs and outputs.
    most: Number of edges of each layer that are shown, the strongest.
    name: Name of the network, another one for each on the page.
  """
  net = structure.read(kan, variables)
  drawn = _edge_curves.strongest(kan, variables, x, net, most=most)
  views = traversal.view_layers(kan, variables, x)
  edges = [
      list(_edges(k, layer, views[path], names, net.nodes, name))
      for k, (layer, path) in enumerate(zip(drawn, net.paths, strict=True))]
  fig = diagram.plot(
      kan, variables, x, most=most,
      names=[_figures.plain(text) for text in names.inputs],
      output_names=[_figures.plain(text) for text in names.outputs])
  root = _svg.inline(fig, name, 'The network, inputs below')
  root.set('style', f'--inches: {fig.get_figwidth():.1f}')
  _add_targets(root, fig.axes[0], edges)
  everything = [edge for layer in edges for edge in layer]
  first = max(everything, key=lambda edge: edge.score, default=None)
  return Picture(
      _svg.write(root),
      '\n'.join(_curve(edge, edge is not first) for edge in everything),
      len(everything), sum(layer.live for layer in drawn), names.rows)


def _edges(
    k: int, layer: _edge_curves.DrawnEdges, view: traversal.LayerView,
    names: Names, rows: Sequence[nodes.Nodes],
    network: str) -> Iterator[_Edge]:
  """Yields the edges of a layer that are drawn, in the order of the diagram."""
  activity = edge_moments.visible_activity(view)
  ranks = np.argsort(np.argsort(-activity, axis=None)).reshape(activity.shape)
  knots = np.asarray(bsplines.interior(view.edges.knots, view.order))
  inputs = np.asarray(view.inputs)
  for i, o, x, y, function in zip(
      layer.i.tolist(), layer.o.tolist(), layer.x, layer.y, layer.names,
      strict=True):
    begin = f'{names.input} {names.inputs[i]}' if k == 0 else f'node {i}'
    end = _end(o, rows[k + 1], names if k + 2 == len(rows) else None)
    yield _Edge(
        f'{network}-{k}-{i}-{o}', f'{begin} → {end}'.strip(),
        (f'{function}; ' if function else '')
        + f'score {activity[i, o]:.3g}, number {ranks[i, o] + 1} of the '
        f'{layer.live} edges in layer {k + 1}', float(activity[i, o]), x, y,
        knots[i, (knots[i] >= x[0]) & (knots[i] <= x[-1])], inputs[:, i])


def _end(term: int, row: nodes.Nodes, names: Names | None) -> str:
  """Says where an edge ends; with names if these are outputs."""
  node = int(row.node_of_term[term])
  end = f'{names.output} {names.outputs[node]}'.strip() if names else (
      f'node {node}')
  factor = row.groups[node].index(term) + 1
  return end if node < row.sums else f'factor {factor} of {end}'


def _add_targets(
    root: ElementTree.Element, ax: axes.Axes,
    edges: Sequence[Sequence[_Edge]]) -> None:
  """Lays over the diagram what can be pointed at: lines and squares."""
  for element in root:
    element.set('aria-hidden', 'true')
  root.set('role', 'group')
  drawn = {artist.get_gid(): artist for artist in ax.collections}
  left, top = ax.get_xlim()[0], ax.get_ylim()[1]

  def corners(path):
    return _points((path.vertices - (left, top)) * (_POINT, -_POINT))

  for k, layer in enumerate(edges):
    lines = drawn[f'layer {k} lines'].get_paths()
    squares = drawn[f'layer {k} squares'].get_paths()
    for j, edge in enumerate(layer):
      group = ElementTree.SubElement(root, 'g', {
          'class': 'edge', 'role': 'button', 'tabindex': '-1',
          'data-curve': edge.name, 'data-layer': str(k),
          'aria-label': f'{edge.title}, {edge.text}'})
      for line in lines[2 * j:2 * j + 2]:
        ElementTree.SubElement(group, 'polyline', {'points': corners(line)})
      ElementTree.SubElement(group, 'polygon', {'points': corners(squares[j])})


def _curve(edge: _Edge, hidden: bool) -> str:
  """Draws the function of an edge, its knots and its samples."""
  left, top, right, bottom = _FRAME
  finite = np.isfinite(edge.y)  # A function may leave its domain.
  values = edge.y[finite]
  low, high = (values.min(), values.max()) if len(values) else (0.0, 0.0)
  across = _scale(edge.x[0], edge.x[-1], left, right)
  up = _scale(low, high, bottom - 6, top + 6)
  return (
      f'<figure class="curve" id="{edge.name}"{" hidden" * hidden}>'
      f'<figcaption><strong>{html.escape(edge.title)}</strong> '
      f'{html.escape(edge.text)}</figcaption>'
      f'<svg viewBox="0 0 {_SIZE[0]} {_SIZE[1]}" role="img" aria-label="Over '
      f'{edge.x[0]:.3g} to {edge.x[-1]:.3g} it has values from {low:.3g} to '
      f'{high:.3g}">'
      f'{_bars(edge, across)}'
      f'<path class="knots" d="{_ticks(across(edge.knots))}"/>'
      f'<path class="frame" d="M{left} {top}V{bottom}H{right}"/>'
      '<polyline points="'
      f'{_points(np.stack([across(edge.x), up(edge.y)], 1)[finite])}"/>'
      f'<g class="numbers"><text x="{left - 6}" y="{top + 10}">{high:.3g}'
      f'</text><text x="{left - 6}" y="{bottom - 3}">{low:.3g}</text>'
      f'<text class="start" x="{left}" y="{bottom + 18}">{edge.x[0]:.3g}'
      f'</text><text x="{right}" y="{bottom + 18}">{edge.x[-1]:.3g}</text></g>'
      '</svg></figure>')


def _bars(edge: _Edge, across) -> str:
  """Draws a histogram of the inputs, in the lowest quarter."""
  _, top, _, bottom = _FRAME
  counts, ends = np.histogram(edge.samples, _BARS, (edge.x[0], edge.x[-1]))
  heights = counts / max(counts.max(), 1) * (bottom - top) / 4
  places = across(ends)
  bars = ''.join(
      f'M{start:.1f} {bottom}v{-height:.1f}h{stop - start:.1f}v{height:.1f}z'
      for start, stop, height in zip(
          places, places[1:], heights, strict=False) if height)
  return f'<path class="bars" d="{bars}"/>'


def _ticks(places: np.ndarray) -> str:
  return ''.join(f'M{place:.1f} {_FRAME[3]}v-6' for place in places)


def _scale(low: float, high: float, start: float, stop: float):
  """Returns the map of numbers from low to high onto places on the picture."""
  width = high - low
  if not width > 0:
    return lambda values: np.full(np.shape(values), (start + stop) / 2)
  return lambda values: start + (values - low) / width * (stop - start)


def _points(places: np.ndarray) -> str:
  return ' '.join(f'{x:.1f},{y:.1f}' for x, y in places)
