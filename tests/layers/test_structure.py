"""The structure of networks: read once, and changed as the networks are."""

from absl.testing import absltest
import chex
from flax import linen as nn
from helpers import networks
from helpers import wide
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.pruning import prune
from kan_jax.symbolic import fixing


def _network():
  """A network with products, symbolic edges, and edges that are gone."""
  model, variables = fixing.fix(
      wide.MODEL, wide.VARIABLES, None, 0, 1, 4, 'sin', params=(1, 0, 1, 0))
  model, variables = fixing.fix(
      model, variables, None, 0, 2, 0, 'x^2', params=(1, 0, 1, 0))
  return fixing.remove(model, variables, 1, 3, 1)


class StructureTest(absltest.TestCase):

  def test_read(self):
    net = structure.read(*_network())
    self.assertEqual(net.paths, (('layers_0',), ('layers_1',)))
    self.assertEqual(
        net.nodes, (nodes.Nodes(3), nodes.Nodes(2, (2, 2)), nodes.Nodes(2)))
    self.assertEqual(net.features, (3, (2, 2), 2))
    self.assertEqual(
        net.symbolic, ((('sin', ((1, 4),)), ('x^2', ((2, 0),))), ()))
    # Symbolic edges are live, though their masks are 0.
    np.testing.assert_array_equal(net.live_edges[0], np.ones((3, 6), bool))
    np.testing.assert_array_equal(np.argwhere(~net.live_edges[1]), [[3, 1]])
    self.assertEqual(net.edge_count, 3 * 6 + 4 * 2 - 1)

  def test_cannot_be_changed(self):
    net = structure.read(*_network())
    with self.assertRaisesRegex(ValueError, 'read-only'):
      net.live_edges[0][0, 0] = False

  def test_a_single_layer(self):
    net = structure.read(linen.KANLayer(4), networks.layer(3, 4))
    self.assertEqual((net.paths, net.features), (((),), (3, 4)))

  def test_kept_terms(self):
    net = structure.read(*_network())
    kept = [np.ones(3, bool), np.array([1, 0, 0, 1], bool), np.ones(2, bool)]
    np.testing.assert_array_equal(
        net.kept_terms(0, kept), np.array([1, 0, 0, 0, 1, 1], bool))

  def test_cut_as_the_network_is(self):
    """What is computed from the structure is what the smaller network has."""
    model, variables = _network()
    net = structure.read(model, variables)
    kept = [np.array([0, 1, 1], bool), np.array([1, 0, 0, 1], bool),
            np.ones(2, bool)]
    new, cut, left = edits.cut(model, variables, net, kept)
    self.assertEqual(left.features, (2, (1, 1), 2))
    self.assertEqual(
        left.symbolic, ((('sin', ((0, 1),)), ('x^2', ((1, 0),))), ()))
    chex.assert_trees_all_equal(left, structure.read(new, cut))

  def test_remove_edges_as_pruning_does(self):
    model, variables = _network()
    gone = [np.zeros((3, 6), bool), np.zeros((4, 2), bool)]
    gone[0][1, 4] = gone[0][0, 5] = gone[1][2, 0] = True
    new, pruned, _ = prune.prune_edges(
        model, variables, wide.X, edges=[(0, 1, 4), (0, 0, 5), (1, 2, 0)])
    left = structure.remove_edges(structure.read(model, variables), gone)
    self.assertEqual(left.symbolic, ((('x^2', ((2, 0),)),), ()))
    chex.assert_trees_all_equal(left, structure.read(new, pruned))

  def test_another_model(self):
    with self.assertRaisesRegex(ValueError, '`model`.*got Dense'):
      structure.read(nn.Dense(1), {})

