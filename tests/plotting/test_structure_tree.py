"""The picture of a structure: its texts, their places and their colors."""

from typing import NamedTuple

from absl.testing import parameterized
from matplotlib import colors

from kan_jax.plotting import structure_tree


class _Part(NamedTuple):
  label: str
  kind: str = 'column'
  parts: tuple['_Part', ...] = ()


class _Tree(NamedTuple):
  kind: str
  parts: tuple[_Part, ...]
  unused: tuple[str, ...] = ()


_DIFFERENCE = _Part('x_1 - x_2', 'sum', (_Part('x_1'), _Part('x_2')))
_SQUARES = _Part('y**2 + (x_1 - x_2)**2', 'sum', (_DIFFERENCE, _Part('y')))
_MASSES = _Part('m_1*m_2', 'product', (_Part('m_1'), _Part('m_2')))
_FORCE = _Tree('product', (_MASSES, _SQUARES), ('$', 'color'))


def _texts(fig):
  return {text.get_text(): text for text in fig.axes[0].texts}


class PlotStructureTest(parameterized.TestCase):

  def test_all_is_there_in_its_place(self):
    fig = structure_tree.plot_structure(_FORCE, target='force')
    texts = _texts(fig)
    columns = ['m_1', 'm_2', 'x_1', 'x_2', 'y']
    self.assertCountEqual(texts, [
        'force: a product of functions of', 'm_1*m_2', 'y^2 + (x_1 - x_2)^2',
        'x_1 - x_2', *columns, '$', 'color', 'without effect'])
    places = {name: text.get_position() for name, text in texts.items()}
    # From left to right as in the formula, each a level below what it is in.
    self.assertEqual(sorted(columns, key=lambda name: places[name]), columns)
    self.assertLess(places['y'][0], places['$'][0])
    levels = {name: -place[1] for name, place in places.items()}
    for above, below in (
        ('force: a product of functions of', 'm_1*m_2'), ('m_1*m_2', 'm_2'),
        ('y^2 + (x_1 - x_2)^2', 'y'), ('y^2 + (x_1 - x_2)^2', 'x_1 - x_2'),
        ('x_1 - x_2', 'x_1')):
      self.assertEqual(levels[below], levels[above] + 1)
    self.assertEqual(levels['$'], max(levels.values()))
    # Eight lines lead down, in the color of what is above them.
    lines = [line for line in fig.axes[0].lines if len(line.get_xdata())]
    self.assertEqual(
        sorted(line.get_color() for line in lines), ['C0'] * 4 + ['C1'] * 4)
    legend = [text.get_text() for text in fig.axes[0].get_legend().get_texts()]
    self.assertEqual(legend, ['sum or difference', 'product or ratio'])

  def test_nothing_overlaps(self):
    fig = structure_tree.plot_structure(_FORCE, target='force')
    fig.draw_without_rendering()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    for i, box in enumerate(boxes):
      self.assertFalse(box.count_overlaps(boxes[:i]))
      self.assertTrue(fig.bbox.fully_containsx(box.x0))
      self.assertTrue(fig.bbox.fully_containsx(box.x1))

  def test_frames(self):
    texts = _texts(structure_tree.plot_structure(_FORCE))
    for name, color in ('m_1*m_2', 'C1'), ('x_1 - x_2', 'C0'):
      self.assertEqual(
          colors.to_rgb(texts[name].get_bbox_patch().get_edgecolor()),
          colors.to_rgb(color))
    self.assertEqual(texts['color'].get_bbox_patch().get_linestyle(), '--')
    self.assertEqual(texts['m_1'].get_bbox_patch().get_linestyle(), '-')

  def test_one_column_and_long_labels(self):
    fig = structure_tree.plot_structure(_Tree('function', (_Part('a' * 60),)))
    self.assertCountEqual(
        _texts(fig), ['y: a function of', 'a' * 33 + '…'])
