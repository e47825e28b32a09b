"""A picture of how the columns of a table act together."""

from collections.abc import Sequence
from typing import NamedTuple
from typing import Protocol

from matplotlib import axes
from matplotlib import figure

from kan_jax.plotting import _figures

_COLORS = {'sum': 'C0', 'product': 'C1', 'function': 'C7'}
_ROOTS = {'sum': 'a sum of functions of', 'function': 'a function of',
          'product': 'a product of functions of'}
_KINDS = {'sum': 'sum or difference', 'product': 'product or ratio',
          'function': 'some function'}
_UNUSED = 'without effect'
_LONG = 34  # Letters of a label; longer ones are cut.
_LETTER = 0.105  # Inches.
_GAP, _ROW = 0.35, 0.8  # Inches between labels, and between levels.


class Part(Protocol):
  """A column, or columns that act as one; see `symbolic.Part`."""

  @property
  def label(self) -> str: ...

  @property
  def kind(self) -> str: ...

  @property
  def parts(self) -> 'Sequence[Part]': ...


class Tree(Protocol):
  """What `symbolic.find_tree` returns."""

  @property
  def kind(self) -> str: ...

  @property
  def parts(self) -> Sequence[Part]: ...

  @property
  def unused(self) -> Sequence[str]: ...


class _Node(NamedTuple):
  """A label with a place: inches from the left, levels from the top."""
  label: str
  kind: str
  x: float
  level: int
  below: 'tuple[_Node, ...]' = ()


def plot_structure(tree: Tree, *, target: str = 'y') -> figure.Figure:
  """Draws how the target depends on the columns, from the top down.

      plot_structure(symbolic.find_tree(x, y, names=names), target='force')

  Args:
    tree: From `symbolic.find_tree`.
    target: Name of the target.

  Returns:
    A figure: the target on top, below it what it is made of, down to the
    columns. Colors tell sums, products and other functions; columns that do
    not matter stand apart, with a dashed frame.
  """
  root, width = _place(target, tree)
  levels = max(node.level for node in _walk(root))
  total = width + sum(_width_of(name) for name in tree.unused)
  if tree.unused:
    total = max(total, width + _width_of(_UNUSED))
  fig = _figures.Figure(
      figsize=(max(total, 3.0), _ROW * (levels + 1) + 0.35),
      layout='constrained')
  ax = fig.subplots()
  middle = total / 2
  ax.set(xlim=(middle - max(total, 3.0) / 2, middle + max(total, 3.0) / 2),
         ylim=(-levels - 0.5, 0.6))
  ax.set_axis_off()
  _draw(ax, root)
  _draw_unused(ax, tree.unused, (width, total), -levels)
  _explain(ax, root)
  return fig


def _draw_unused(
    ax: axes.Axes, names: Sequence[str], ends: tuple[float, float],
    y: float) -> None:
  """Writes names side by side, in the middle between two ends."""
  if not names:
    return
  middle = sum(ends) / 2
  left = middle - sum(map(_width_of, names)) / 2
  for name in names:
    _write(ax, left + _width_of(name) / 2, y, name, 'unused')
    left += _width_of(name)
  ax.text(middle, y + 0.42, _UNUSED, ha='center', va='center', fontsize=8,
          alpha=0.7)


def _width_of(label: str) -> float:
  return _LETTER * len(_short(label)) + _GAP


def _short(label: str) -> str:
  label = label.replace('**', '^')
  return label if len(label) <= _LONG else label[:_LONG - 1] + '…'


def _place(target: str, tree: Tree) -> tuple[_Node, float]:
  """Returns the root with all below it, and the width in inches."""
  def place(part: Part, left: float, level: int) -> tuple[_Node, float]:
    width = _width_of(part.label)
    if not part.parts:
      return _Node(part.label, part.kind, left + width / 2, level), left + width
    below, right = place_all(part.parts, left, level + 1)
    # What is below a wide label stands in its middle.
    spare = max(0.0, left + width - right)
    below = tuple(_shift(node, spare / 2) for node in below)
    x = left + (right - left + spare) / 2
    return _Node(part.label, part.kind, x, level, below), right + spare

  def place_all(
      parts: Sequence[Part], left: float,
      level: int) -> tuple[tuple[_Node, ...], float]:
    nodes = []
    for part in parts:
      node, left = place(part, left, level)
      nodes.append(node)
    return tuple(nodes), left

  below, right = place_all(tree.parts, 0.2, 1)
  caption = f'{target}: {_ROOTS[tree.kind]}'
  x = (below[0].x + below[-1].x) / 2
  # The caption of the root is centred on it.
  shift = max(0.0, _width_of(caption) / 2 - x)
  root = _shift(_Node(caption, tree.kind, x, 0, below), shift)
  return root, max(right + shift, root.x + _width_of(caption) / 2) + 0.2


def _shift(node: _Node, by: float) -> _Node:
  return node._replace(
      x=node.x + by, below=tuple(_shift(child, by) for child in node.below))


def _walk(node: _Node) -> list[_Node]:
  return [node, *(found for child in node.below for found in _walk(child))]


def _draw(ax: axes.Axes, node: _Node) -> None:
  """Draws a node, what is below it, and the lines between them."""
  for child in node.below:
    ax.plot([node.x, child.x], [-node.level, -child.level], lw=1.5, zorder=1,
            color=_COLORS[node.kind])
    _draw(ax, child)
  _write(ax, node.x, -node.level, node.label, node.kind)


def _write(ax: axes.Axes, x: float, y: float, label: str, kind: str) -> None:
  """Writes a label into a frame of its kind."""
  palette = _figures.palette()
  unused = kind == 'unused'
  ax.text(
      x, y, _short(label), ha='center', va='center', fontsize=10, zorder=2,
      parse_math=False, alpha=0.6 if unused else 1, bbox={
          'boxstyle': 'round,pad=0.35', 'facecolor': palette.paper,
          'edgecolor': _COLORS.get(kind, palette.ink),
          'linewidth': 1 if kind in ('column', 'unused') else 2,
          'linestyle': '--' if unused else '-'})


def _explain(ax: axes.Axes, root: _Node) -> None:
  """Says what the colors are that the picture has."""
  kinds = {node.kind for node in _walk(root)}
  for kind in filter(kinds.__contains__, _COLORS):
    ax.plot([], [], color=_COLORS[kind], lw=2, label=_KINDS[kind])
  ax.legend(
      loc='upper center', bbox_to_anchor=(0.5, 0), ncols=3, frameon=False,
      fontsize=8)
