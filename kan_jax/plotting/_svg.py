"""Pictures of matplotlib as SVG that belongs to the HTML page around it.

Colors become those of the page, so that they follow its light or dark scheme.
"""

import io
from xml.etree import ElementTree

import matplotlib
from matplotlib import figure

# Variables of the page's style sheet.
_COLORS = {
    '#000000': 'currentColor', '#ffffff': 'var(--surface)',
    '#1f77b4': 'var(--first)', '#ff7f0e': 'var(--second)',
    '#bfbfbf': 'var(--idle)', '#d62629': 'var(--symbolic)'}


def inline(
    fig: figure.Figure, name: str, label: str) -> ElementTree.Element:
  """Returns a figure as an <svg> to be put into HTML.

  Args:
    fig: The figure. One unit of the <svg> is a point, 1 / 72 inch.
    name: Unique on the page: ids in the picture are made from it.
    label: What it shows, for those who do not see it.
  """
  text = io.BytesIO()
  with matplotlib.rc_context({'svg.fonttype': 'none', 'svg.hashsalt': name}):
    fig.savefig(text, format='svg', transparent=True)
  root = ElementTree.fromstring(text.getvalue())
  for parent in list(root.iter()):
    for child in list(parent):
      # Creator and date; and a style sheet, which would be the whole page's.
      if _local(child.tag) in ('metadata', 'style'):
        parent.remove(child)
  for element in root.iter():
    _adapt(element)
  for size in ('width', 'height'):
    del root.attrib[size]
  root.set('role', 'img')
  root.set('aria-label', label)
  return root


def write(root: ElementTree.Element) -> str:
  """Returns an <svg> as text."""
  return ElementTree.tostring(root, encoding='unicode')


def _adapt(element: ElementTree.Element) -> None:
  """Makes an element fit for HTML, without namespaces, in the page's colors."""
  element.tag = _local(element.tag)
  attributes = dict(element.items())
  if element.tag == 'g':
    attributes.pop('id', None)  # The same in every figure.
  element.attrib.clear()
  for name, value in attributes.items():
    element.set(_local(name), _style(value) if name == 'style' else value)
  if element.tag not in ('text', 'tspan'):
    element.text = None
    element.tail = None if element.tail is None else '\n'


def _style(text: str) -> str:
  """Returns a style with the page's colors and font."""
  for color, ours in _COLORS.items():
    text = text.replace(color, ours)
  return ';'.join(
      part for part in text.split(';')
      if not part.strip().startswith('font-family'))


def _local(name: str) -> str:
  return name.rpartition('}')[2]
