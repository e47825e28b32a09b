"""Diagrams of whole networks: what is drawn, where, how strong, with names."""

import functools
import itertools

from absl.testing import parameterized
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
from matplotlib import colors
from matplotlib import pyplot
from matplotlib import style
import numpy as np

from kan_jax.layers import edge_moments
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.plotting import _figures
from kan_jax.plotting import edge_panels
from kan_jax.symbolic import fixing

_X = np.random.default_rng(0).uniform(-1, 1, (40, 2)).astype(np.float32)
_MODEL = linen.KAN([2, 3, 1])
_VARIABLES = networks.kan([2, 3, 1])
_SCORES = edge_moments.Scores(
    (np.array([[7.0, 1, 2], [0, 6, 5]]), np.array([[0.0], [1], [2]])),
    (np.ones(2), np.ones(3), np.ones(1)))


@functools.cache
def _plot():
  return edge_panels.plot(_MODEL, _VARIABLES, _X)


@functools.cache
def _layers():
  """Of each layer, values of the edges on the batch, and over its range."""
  @jax.jit
  def compute():
    views = traversal.view_layers(_MODEL, _VARIABLES, _X).values()
    return [(view.edge_outputs(view.inputs), view.edge_outputs(
        jnp.linspace(view.inputs.min(0), view.inputs.max(0), 64)))
            for view in views]
  return jax.device_get(compute())


def _part(fig, layer, what):
  """The collection of one kind in one layer."""
  found, = (part for part in fig.axes[0].collections
            if part.get_gid() == f'layer {layer} {what}')
  return found


def _edges(fig, layer):
  """Numbers of squares and curves, and half of the number of lines."""
  return (len(_part(fig, layer, 'squares').get_paths()),
          len(_part(fig, layer, 'curves').get_segments()),
          len(_part(fig, layer, 'lines').get_segments()) / 2)


def _opacity(fig, layer):
  return _part(fig, layer, 'curves').get_colors()[:, 3]


def _texts(fig):
  return [text.get_text() for text in fig.axes[0].texts]


def _marks(fig, marker):
  """Places of all markers of a kind, and their colors."""
  return [(*line.get_xydata()[0], colors.to_hex(line.get_color()))
          for line in fig.axes[0].lines if line.get_marker() == marker]


def _scaled(values):
  low, high = np.min(values, -1, keepdims=True), np.max(
      values, -1, keepdims=True)
  return (values - low) / (high - low)


class PlotTest(parameterized.TestCase):

  def test_every_edge(self):
    self.assertIsInstance(_plot(), _figures.Figure)
    self.assertEqual([_edges(_plot(), k) for k in (0, 1)], [(6,) * 3, (3,) * 3])
    self.assertEqual(
        _texts(_plot()), ['$x_{0}$', '$x_{1}$', '$y_{0}$'])
    self.assertLen(_marks(_plot(), '+'), 4)
    self.assertEmpty(_marks(_plot(), 'x'))
    self.assertEqual(pyplot.get_fignums(), [])

  def test_lines_join_nodes_and_squares(self):
    """From inputs below to the sums above, by input, then by output."""
    inputs = [at[:2] for at in _marks(_plot(), 'o')][:2]
    sums = [at[:2] for at in _marks(_plot(), '+')]
    lines = _part(_plot(), 0, 'lines').get_segments()
    squares = [path.get_extents() for path in
               _part(_plot(), 0, 'squares').get_paths()]
    for k, square in enumerate(squares):
      middle = (square.x0 + square.x1) / 2
      np.testing.assert_allclose(
          lines[2 * k], [inputs[k // 3], (middle, square.y0)])
      np.testing.assert_allclose(
          lines[2 * k + 1], [(middle, square.y1), sums[k % 3]])
    gaps = [right.x0 - left.x1
            for left, right in itertools.pairwise(squares)]
    self.assertGreater(min(gaps), 0)

  def test_curves_are_the_edges(self):
    """Each over the range of its samples, scaled to its square."""
    for k, (_, values) in enumerate(_layers()):
      values = np.moveaxis(values, 0, -1).reshape(-1, 64)
      curves = np.stack(_part(_plot(), k, 'curves').get_segments())
      np.testing.assert_allclose(
          _scaled(curves[..., 0]), np.tile(np.linspace(0, 1, 64), (
              len(curves), 1)), atol=1e-5)
      np.testing.assert_allclose(
          _scaled(curves[..., 1]), _scaled(values), atol=1e-4)
      for path, curve in zip(
          _part(_plot(), k, 'squares').get_paths(), curves, strict=True):
        square = path.get_extents()
        self.assertTrue(((curve > square.min) & (curve < square.max)).all())

  def test_opacity_by_deviation(self):
    for k, (values, _) in enumerate(_layers()):
      std = values.std(0, ddof=1).ravel()
      np.testing.assert_allclose(
          _opacity(_plot(), k), 0.06 + 0.94 * np.tanh(3 * std / std.max()),
          atol=1e-4)

  def test_opacity_by_scores(self):
    fig = edge_panels.plot(_MODEL, _VARIABLES, _X, scores=_SCORES, beta=1)
    for k, scores in enumerate(_SCORES.edges):
      order = np.argsort(scores.ravel())
      self.assertTrue((np.diff(_opacity(fig, k)[order]) > 0).all())
      self.assertGreater(_opacity(fig, k).min(), 0)
      np.testing.assert_array_equal(
          np.repeat(_opacity(fig, k), 2),
          _part(fig, k, 'lines').get_colors()[:, 3])

  def test_strongest_edges(self):
    """Edges by score, and the nodes they touch; removed ones do not count."""
    _, variables = fixing.remove(_MODEL, _VARIABLES, 0, 0, 0)
    fig = edge_panels.plot(
        _MODEL, variables, _X, scores=_SCORES, most=2, names=['a', 'b'])
    self.assertEqual([_edges(fig, k) for k in (0, 1)], [(2,) * 3] * 2)
    for k, relative in enumerate([[1, 5 / 6], [0.5, 1]]):
      np.testing.assert_allclose(
          _opacity(fig, k), 0.06 + 0.94 * np.tanh(3 * np.array(relative)))
    # 1 -> 1 and 1 -> 2; 1 -> 0 and 2 -> 0: two nodes and the output.
    self.assertLen(_marks(fig, '+'), 2 + 1)
    self.assertEqual(
        _texts(fig), ['b', '$y_{0}$', '2 of 5 edges', '2 of 3 edges'])

  def test_removed_edges(self):
    _, variables = fixing.remove(_MODEL, _VARIABLES, 0, 0, 2)
    _, variables = fixing.remove(_MODEL, variables, 0, 1, 2)
    _, variables = fixing.remove(_MODEL, variables, 1, 2, 0)
    fig = edge_panels.plot(_MODEL, variables, _X)
    self.assertEqual([_edges(fig, k) for k in (0, 1)], [(4,) * 3, (2,) * 3])
    # The node that they leave behind is pale.
    self.assertEqual(
        [at[2] for at in _marks(fig, '+')],
        ['#000000', '#000000', '#bfbfbf', '#000000'])

  def test_nothing_left(self):
    variables = jax.tree.map(jnp.array, _VARIABLES)
    for layer in variables['grid'].values():
      layer['mask'] = jnp.zeros_like(layer['mask'])
    fig = edge_panels.plot(_MODEL, variables, _X)
    self.assertEqual([_edges(fig, k) for k in (0, 1)], [(0,) * 3] * 2)
    fig.canvas.draw()

  def test_symbolic_edges(self):
    own = functions.Function('my $f', jnp.arctan, None)
    model, variables = fixing.fix(
        _MODEL, _VARIABLES, None, 0, 0, 1, 'sqrt', params=[1, 0, 1, 0])
    model, variables = fixing.fix(
        model, variables, None, 1, 2, 0, own, params=[1, 0, 1, 0])
    fig = edge_panels.plot(model, variables, _X)
    self.assertEqual([_edges(fig, k) for k in (0, 1)], [(6,) * 3, (3,) * 3])
    self.assertContainsSubset(['sqrt', 'my $f'], _texts(fig))
    for k, symbolic in enumerate([[1], [2]]):
      drawn = _part(fig, k, 'curves').get_colors()[:, :3]
      red = (drawn != colors.to_rgb('k')).any(1)
      np.testing.assert_array_equal(np.flatnonzero(red), symbolic)
    # Only where it is defined: the right half of its square.
    square = _part(fig, 0, 'squares').get_paths()[1].get_extents()
    curve = _part(fig, 0, 'curves').get_segments()[1]
    self.assertLess(len(curve), 40)
    self.assertGreater(curve[:, 0].min(), (square.x0 + square.x1) / 2 - 0.05)
    fig.canvas.draw()

  def test_multiplication_nodes(self):
    model = linen.KAN([2, [1, 1], 1])
    variables = networks.stack(networks.layer(2, 3), networks.layer(2, 1))
    fig = edge_panels.plot(model, variables, _X)
    self.assertEqual([_edges(fig, k) for k in (0, 1)], [(6,) * 3, (2,) * 3])
    (x, y, _), = _marks(fig, 'x')
    sums = {at[:2] for at in _marks(fig, '+')}
    joins = [line.get_xydata() for line in fig.axes[0].lines
             if len(line.get_xdata()) == 2]
    self.assertLen(sums, 4)  # A node, two factors, the output.
    self.assertLen(joins, 2)
    for factor, product in joins:
      self.assertIn(tuple(factor), sums)
      self.assertLess(factor[1], y)
      np.testing.assert_allclose(product, (x, y))
    # Edges lead to the factors, and on from the product.
    ends = [tuple(line[1]) for line in
            _part(fig, 0, 'lines').get_segments()[1::2]]
    self.assertContainsSubset({tuple(factor) for factor, _ in joins}, ends)
    begins = _part(fig, 1, 'lines').get_segments()[2][0]
    np.testing.assert_allclose(begins, (x, y))

  def test_dark_style(self):
    """Ink and paper are those of the style: nothing is black on black."""
    with style.context('dark_background'):
      fig = edge_panels.plot(_MODEL, _VARIABLES, _X)
    self.assertEqual(colors.to_hex(fig.get_facecolor()), '#000000')
    self.assertEqual({at[2] for at in _marks(fig, '+')}, {'#ffffff'})
    for k in (0, 1):
      for what in ('curves', 'lines'):
        drawn = _part(fig, k, what).get_colors()
        np.testing.assert_array_equal(drawn[:, :3], 1)
      np.testing.assert_array_equal(
          _part(fig, k, 'squares').get_facecolor()[:, :3], 0)
    circles = [line for line in fig.axes[0].lines
               if line.get_marker() == 'o'][2:]
    self.assertEqual(
        {colors.to_hex(line.get_markerfacecolor()) for line in circles},
        {'#000000'})

  def test_one_layer(self):
    fig = edge_panels.plot(
        linen.KANLayer(3), networks.layer(2, 3), _X, output_names=['abc'] * 3)
    self.assertEqual(_edges(fig, 0), (6,) * 3)
    self.assertEqual(_texts(fig)[2:], ['abc'] * 3)

  def test_one_row(self):
    """All edges are as strong; they are drawn over their grids."""
    fig = edge_panels.plot(_MODEL, _VARIABLES, _X[0])
    np.testing.assert_allclose(_opacity(fig, 0), 0.06 + 0.94 * np.tanh(3))
    values = np.stack(_part(fig, 0, 'curves').get_segments())
    self.assertGreater(np.ptp(values, 1).min(), 0.3)

  def test_many_rows(self):
    """All of them count, from the first to the last, in any leading shape."""
    rows = np.concatenate([np.tile(_X[:1], (1000, 1)), np.tile(_X, (50, 1))])
    fig = edge_panels.plot(_MODEL, _VARIABLES, rows.reshape(3, 1000, 2))
    flat = edge_panels.plot(_MODEL, _VARIABLES, rows)
    for k, (values, _) in enumerate(_layers()):
      values = np.concatenate(
          [np.tile(values[:1], (1000, 1, 1)), np.tile(values, (50, 1, 1))])
      std = values.std(0, ddof=1).ravel()
      np.testing.assert_allclose(
          _opacity(fig, k), 0.06 + 0.94 * np.tanh(3 * std / std.max()),
          atol=1e-4)
      np.testing.assert_array_equal(_opacity(fig, k), _opacity(flat, k))
      # The range of a curve reaches over rows from the first to the last.
      widths = [np.ptp(curve[:, 0])
                for curve in _part(fig, k, 'curves').get_segments()]
      np.testing.assert_allclose(widths, widths[0], rtol=1e-5)

  def test_labels_do_not_overlap(self):
    names = ['the temperature, the second of many', r'$\frac{\alpha_1}{2}$']
    fig = edge_panels.plot(
        _MODEL, _VARIABLES, _X, names=names, output_names=['y'])
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    for k, box in enumerate(boxes):
      self.assertTrue(all(fig.bbox.contains(*at) for at in box.corners()))
      self.assertFalse(box.count_overlaps(boxes[:k]))

  def test_wide(self):
    """Few squares and few nodes on a page."""
    model, variables = linen.KANLayer(40), networks.layer(300, 40)
    x = np.random.default_rng(1).uniform(-1, 1, (8, 300)).astype(np.float32)
    fig = edge_panels.plot(model, variables, x, most=20)
    self.assertEqual(_edges(fig, 0), (20,) * 3)
    self.assertIn('20 of 12000 edges', _texts(fig))
    self.assertLessEqual(len(_marks(fig, 'o')), 20 + 20)
    self.assertLess(max(fig.get_size_inches()), 17)


def _with_edges(*edges):
  return _SCORES._replace(edges=edges)


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'scores': _with_edges(_SCORES.edges[0])},
       r'`scores`.*\(2, 3\).*\(3, 1\).*got'),
      ({'scores': _with_edges(_SCORES.edges[0].T, _SCORES.edges[1])},
       r'`scores`.*got \[\(3, 2\)'),
      ({'scores': _with_edges(_SCORES.edges[0], -_SCORES.edges[1])},
       r'`scores\.edges\[1\]`.*-2.0'),
      ({'scores': _with_edges(np.nan * _SCORES.edges[0], _SCORES.edges[1])},
       r'`scores\.edges\[0\]`.*nan'),
      ({'scores': list(_SCORES.edges)}, '`scores` needs a .*Scores.*got list'),
      ({'names': ['a']}, '`names` needs 2 strings'),
      ({'names': 'ab'}, '`names`.*ab'),
      ({'output_names': ['a', 'b']}, '`output_names` needs 1 string'),
      ({'most': 0}, '`most`.*got 0'),
      ({'most': 2.5}, '`most`.*2.5'),
      ({'beta': 0}, '`beta`.*got 0'))
  def test_options(self, options, message):
    with self.assertRaisesRegex(ValueError, message):
      edge_panels.plot(_MODEL, _VARIABLES, _X, **options)

  @parameterized.parameters(
      (np.zeros((0, 2)), '`x` needs at least one row'),
      (np.full((3, 2), np.nan), '`x` needs finite'),
      (np.ones((3, 0), np.float32), r'`x` needs the shape.*2.*\(3, 0\)'),
      (np.ones((3, 2), int), '`x` needs a floating dtype'),
      (np.ones((3, 4), np.float32), r'`x` needs the shape'))
  def test_rows(self, x, message):
    with self.assertRaisesRegex(ValueError, message):
      edge_panels.plot(_MODEL, _VARIABLES, x)

  def test_model(self):
    with self.assertRaisesRegex(ValueError, '`model`.*got Dense'):
      edge_panels.plot(nn.Dense(1), {}, _X)
