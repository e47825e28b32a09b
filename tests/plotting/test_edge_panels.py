"""Plots: figures that show the numbers of the network, and leave no trace."""

import os

from absl.testing import parameterized
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
from matplotlib import colors
from matplotlib import pyplot
from matplotlib import style
import numpy as np
import pytest

from kan_jax.layers import convolution
from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.plotting import _figures as pictures
from kan_jax.plotting import edge_panels
from kan_jax.pruning import scores
from kan_jax.symbolic import fixing

_X = jax.random.uniform(jax.random.key(0), (40, 2), minval=-0.95, maxval=0.40)
_MODEL = linen.KAN([2, 3, 1], grid=3, grid_range=(-0.95, 0.40), noise=3.0)
_VARIABLES = jax.jit(_MODEL.init)(jax.random.key(1), _X)


def _plot(**options):
  return edge_panels.plot_edges(_MODEL, _VARIABLES, _X, **options)


def _drawn(fig):
  """The panels that show an edge, in the order of the drawing."""
  return [ax for ax in fig.axes if ax.lines]


class PlotEdgesTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def test_returns_a_figure_and_makes_no_file(self):
    """Cases L01 and L04: nothing on disk, nothing left open in pyplot."""
    before = os.getcwd()
    os.chdir(self.path)
    try:
      figures = [_plot(most=1) for _ in range(3)]
      self.assertEqual(list(self.path.iterdir()), [])
    finally:
      os.chdir(before)
    self.assertEqual(pyplot.get_fignums(), [])
    for fig in figures:
      self.assertIsInstance(fig, pictures.Figure)
    figures[0].savefig(self.path / 'edges.png')
    with (self.path / 'edges.png').open('rb') as file:
      self.assertEqual(file.read(8), b'\x89PNG\r\n\x1a\n')

  def test_a_convolution(self):
    """The functions of the entries of a patch, here of one each."""
    layer = convolution.KANConv(1, 2, padding='VALID', grid=3, order=2)
    x = _X[:5, :, None]
    variables = jax.jit(layer.init)(jax.random.key(0), x)
    panels = {ax.get_title(): ax for ax in _drawn(
        edge_panels.plot_edges(layer, variables, x))}
    self.assertEqual(sorted(panels), ['0 → 0', '1 → 0'])
    grid, values = panels['1 → 0'].lines[0].get_data()
    # Two inputs have a single patch; its other entry adds a constant.
    y = layer.apply(variables, jnp.stack(
        [jnp.zeros_like(grid), jnp.asarray(grid)], 1)[..., None])[:, 0, 0]
    np.testing.assert_allclose(
        np.diff(values), np.diff(y), rtol=0, atol=1e-6)

  def test_labels_have_decimals(self):
    """Case L03: a grid from -0.95 to 0.40 is not one from -1 to 0."""
    panel = _drawn(_plot(most=1))[0]
    self.assertEqual(panel.get_xlabel(), '-0.95 to 0.40')
    # Knots are ticks.
    np.testing.assert_allclose(
        panel.get_xticks(), [-0.95, -0.5, -0.05, 0.4], atol=1e-6)

  @parameterized.parameters((1, [1, 1]), (4, [4, 3]), (10, [6, 3]))
  def test_number_of_panels(self, most, expected):
    """A row for each layer: as many edges as asked for, or all there are."""
    fig = _plot(most=most)
    tops = [round(ax.get_subplotspec().rowspan.start) for ax in _drawn(fig)]
    self.assertEqual([tops.count(row) for row in (0, 1)], expected)

  def test_a_small_network_fills_the_figure(self):
    """No more columns than the widest layer has edges; no removed edges."""
    panels = [ax for ax in _plot(most=20).axes if ax.get_subplotspec()]
    self.assertEqual(panels[0].get_subplotspec().get_gridspec().ncols, 6)
    grid = _VARIABLES['grid']
    masked = {'layers_0': {
        **grid['layers_0'], 'mask': jnp.array([[0, 1, 0], [0, 0, 1.0]])},
              'layers_1': grid['layers_1']}
    fig = edge_panels.plot_edges(_MODEL, {**_VARIABLES, 'grid': masked}, _X)
    titles = [ax.get_title() for ax in _drawn(fig)]
    self.assertCountEqual(titles[:2], ['0 → 1', '1 → 2'])
    self.assertLen(titles, 2 + 3)

  def test_curves_are_the_edges(self):
    """Case L05: what is drawn is what the network sums."""
    views = list(traversal.view_layers(_MODEL, _VARIABLES, _X).values())
    seen = set()
    for ax in _drawn(_plot()):
      layer = ax.get_subplotspec().rowspan.start
      i, o = (int(part) for part in ax.get_title().split('→'))
      x, y = ax.lines[0].get_data()
      rows = jnp.tile(jnp.asarray(x, jnp.float32)[:, None],
                      (1, views[layer].inputs.shape[1]))
      np.testing.assert_allclose(
          y, views[layer].edge_outputs(rows)[:, i, o], atol=1e-6)
      self.assertGreater(np.ptp(y), 1e-3)
      seen.add((layer, i, o))
    self.assertLen(seen, 2 * 3 + 3 * 1)

  def test_most_active_edges_come_first(self):
    views = traversal.view_layers(_MODEL, _VARIABLES, _X)
    first = next(iter(views.values()))
    activity = np.asarray(first.edge_outputs(first.inputs)).std(0)
    order = [ax.get_title() for ax in _drawn(_plot(most=4))][:4]
    strongest = np.argsort(-activity, axis=None)[:4]
    self.assertEqual(order, [
        '{} → {}'.format(*np.unravel_index(index, (2, 3)))
        for index in strongest])

  def test_both_pictures_and_pruning_rank_alike(self):
    """On rows of which neither the first ones nor some spread ones tell."""
    net, variables = linen.KANLayer(2), networks.layer(2, 2)
    x = np.random.default_rng(0).uniform(-1, 1, (1024, 2)).astype(np.float32)
    x[:256, 0] = x[::4, 0] = 0.1  # There, input 0 seems not to vary.
    x[:, 1] *= 0.5
    model, variables = edits.assign(net, variables, (), {
        (i, o): ('x', (1, 0, slope, 0)) for (i, o), slope in {
            (0, 0): 2, (0, 1): 4, (1, 0): 1, (1, 1): 0.5}.items()})
    expected = [(0, 1), (0, 0), (1, 0), (1, 1)]
    activity = scores.activity(model, variables, x).edges[0]
    panels = [tuple(map(int, ax.get_title().split(':')[0].split('→')))
              for ax in _drawn(edge_panels.plot_edges(model, variables, x))]
    diagram = edge_panels.plot(model, variables, x)
    opacity = next(
        part for part in diagram.axes[0].collections
        if part.get_gid() == 'layer 0 curves').get_colors()[:, 3]
    self.assertEqual(panels, expected)
    for scored in (activity, opacity.reshape(2, 2)):
      self.assertEqual(
          sorted(np.ndindex(2, 2), key=lambda edge: -scored[edge]), expected)
    np.testing.assert_allclose(
        opacity, 0.06 + 0.94 * np.tanh(3 * activity / activity.max()).ravel(),
        rtol=1e-6)

  def test_model_without_kan_layers(self):
    model = nn.Dense(2)
    with self.assertRaisesRegex(ValueError, '`model`.*got Dense'):
      edge_panels.plot_edges(
          model, model.init(jax.random.key(0), _X), _X, most=2)

  def test_symbolic_edges(self):
    """They are named, and drawn where the function is defined."""
    model, variables = fixing.fix(
        _MODEL, _VARIABLES, None, 0, 1, 2, 'log', params=[1, 0, 1, 0])
    fig = edge_panels.plot_edges(model, variables, _X)
    title, other = (
        [ax for ax in _drawn(fig) if ax.get_title().startswith(start)]
        for start in ('1 → 2: log', '1 → 1'))
    self.assertEqual([ax.get_title() for ax in other][:1], ['1 → 1'])
    x, y = title[0].lines[0].get_data()
    np.testing.assert_array_equal(np.isfinite(y), x > 0)
    np.testing.assert_allclose(y[x > 0], np.log(x[x > 0]), atol=1e-5)

  def test_dark_style(self):
    with style.context('dark_background'):
      panel = _drawn(_plot(most=1))[0]
    self.assertEqual(colors.to_hex(panel.lines[0].get_color()), '#ffffff')
    self.assertEqual(colors.to_hex(panel.get_facecolor()), '#000000')

  def test_impossible_number_of_panels(self):
    with self.assertRaisesRegex(ValueError, '`most`.*got 0'):
      _plot(most=0)

  @parameterized.parameters(1, 40)
  def test_rows_that_do_not_vary(self, rows):
    fig = edge_panels.plot_edges(
        _MODEL, _VARIABLES, jnp.zeros((rows, 2)), most=1)
    for ax in _drawn(fig):
      self.assertTrue(np.isfinite(ax.lines[0].get_data()).all())
    fig.canvas.draw()
