"""Cases L of public reports on other KAN libraries: plots.

The letter and number in a test's name are those of the case.
"""

import gc
import io
import os
import weakref

from absl.testing import parameterized
from helpers import networks
import jax
import jax.numpy as jnp
from matplotlib import figure
from matplotlib import pyplot
import numpy as np
import pytest

from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.plotting import edge_panels

_X = jnp.linspace(-0.95, 0.4, 50)[:, None]
_NET = linen.KAN([1, 3, 1])
_VARIABLES = networks.kan([1, 3, 1], low=-0.95, high=0.4)


def _plot(**options):
  return edge_panels.plot_edges(_NET, _VARIABLES, _X, **options)


def _diagram():
  return edge_panels.plot(_NET, _VARIABLES, _X)


class PlottingCasesTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    self.path = tmp_path

  @parameterized.parameters(lambda: _plot(most=1), _diagram)
  def test_l01_nothing_but_a_figure(self, draw):
    self.path.chmod(0o555)  # Whoever may write all the same leaves a trace.
    self.addCleanup(self.path.chmod, 0o755)
    fig = draw()
    self.assertIsInstance(fig, figure.Figure)
    file = io.BytesIO()
    fig.savefig(file)
    self.assertStartsWith(file.getvalue(), b'\x89PNG\r\n\x1a\n')
    self.assertEmpty(os.listdir(self.path))

  def test_l03_labels_have_decimals(self):
    panels = [ax for ax in _plot(most=1).axes if ax.lines]
    self.assertEqual(panels[0].get_xlabel(), '-0.95 to 0.40')

  @parameterized.parameters(lambda: _plot(most=1), _diagram)
  def test_l04_twenty_plots_leave_nothing(self, draw):
    before = pyplot.get_fignums()
    plots = [weakref.ref(draw()) for _ in range(20)]
    gc.collect()
    self.assertEqual(pyplot.get_fignums(), before)
    # Nobody but the caller holds a figure: memory is flat.
    self.assertEqual([plot() for plot in plots], 20 * [None])

  def test_l05_edges_add_up(self):
    """Also the numbers that the plot draws, at the points where it does."""
    variables = jax.tree.map(jnp.array, _VARIABLES)
    variables['params']['layers_1']['node_bias'] = jnp.array([0.75])
    views = traversal.view_layers(_NET, variables, _X)
    last = views['layers_1',]
    sums = last.edge_outputs(last.inputs).sum(1) + 0.75
    np.testing.assert_allclose(
        sums, jax.jit(_NET.apply)(variables, _X), atol=1e-5)
    fig = edge_panels.plot_edges(_NET, variables, _X)
    # The panels of the last layer are drawn last.
    drawn = {ax.get_title(): ax.lines[0].get_data()
             for ax in [ax for ax in fig.axes if ax.lines][-3:]}
    self.assertEqual(sorted(drawn), ['0 → 0', '1 → 0', '2 → 0'])
    for title, (x, y) in drawn.items():
      i = int(title[0])
      rows = jnp.tile(jnp.asarray(x)[:, None], (1, 3))
      np.testing.assert_allclose(
          y, last.edge_outputs(rows)[:, i, 0], atol=1e-5)

  def test_l05_the_diagram_draws_them(self):
    """Up to the scale of each square, the terms of the sum."""
    drawn, = (part for part in _diagram().axes[0].collections
              if part.get_gid() == 'layer 1 curves')
    view = traversal.view_layers(_NET, _VARIABLES, _X)['layers_1',]
    values = view.edge_outputs(
        jnp.linspace(view.inputs.min(0), view.inputs.max(0), 64))[:, :, 0].T
    for curve, value in zip(drawn.get_segments(), values, strict=True):
      scale, shift = np.polyfit(curve[:, 1], value, 1)
      self.assertGreater(scale, 0)
      np.testing.assert_allclose(scale * curve[:, 1] + shift, value, atol=1e-5)
