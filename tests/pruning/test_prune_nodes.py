"""Pruning of nodes and inputs: smaller arrays, the same functions."""

from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
from helpers import wide
import jax
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.pruning import prune as pruning
from kan_jax.pruning import scores
from kan_jax.symbolic import fixing


class PruneNodesTest(wide.Case):

  def test_arrays_are_cut(self):
    """Node 3 multiplies the terms 4 and 5."""
    model, variables, report = pruning.prune_nodes(
        wide.MODEL, wide.VARIABLES, wide.X, nodes=[(1, 1), (1, 3)])
    self.assertEqual(model, linen.KAN([3, [1, 1], 2]))
    made = jax.eval_shape(model.init, jax.random.key(0), wide.X)
    chex.assert_trees_all_equal_shapes_and_dtypes(variables, made)
    for kind, name in (('params', 'coef'), ('params', 'scale_base'),
                       ('params', 'scale_spline'), ('grid', 'mask')):
      old, new = (tree[kind] for tree in (wide.VARIABLES, variables))
      np.testing.assert_array_equal(
          new['layers_0'][name],
          np.delete(old['layers_0'][name], [1, 4, 5], -1))
      np.testing.assert_array_equal(
          new['layers_1'][name], np.delete(old['layers_1'][name], [1, 3], 0))
    gone = wide.values(wide.MODEL, wide.VARIABLES)[1][:, [1, 3]].sum(1)
    np.testing.assert_allclose(
        model.apply(variables, wide.X),
        wide.MODEL.apply(wide.VARIABLES, wide.X) - (gone - gone.mean(0)),
        atol=1e-5)
    self.assertEqual(str(report), (
        'nodes: [3, (2, 2), 2] -> [3, (1, 1), 2]\nedges: 26 -> 13\n'
        'removed nodes (layer, node): (1, 1), (1, 3)'))

  def test_dead_nodes_go_and_functions_stay(self):
    """Node 1 leads nowhere and no edge leads to node 0: same predictions."""
    model, variables = edits.assign(
        wide.MODEL, wide.VARIABLES, ('layers_0',), {
            (0, 0): None, (1, 0): None, (2, 0): None,
            (2, 5): ('sin', (2, 0, 1, 0)), (0, 1): ('x', (1, 0, 5, 0)),
            (1, 3): ('sin', (3, 0, 1, 0)), (0, 2): ('x^2', (4, 0, 1, 0))})
    model, variables = edits.assign(
        model, variables, ('layers_1',), {
            (1, 0): None, (1, 1): None, (3, 1): ('x', (1, 0, 1, 0))})
    new, pruned, report = pruning.prune_nodes(
        model, variables, wide.X, threshold=0)
    self.assertEqual(new.features, (3, (0, 2), 2))
    self.assertEqual(new.symbolic, (
        (('sin', ((1, 1), (2, 3))), ('x^2', ((0, 0),))),
        (('x', ((1, 1),)),)))
    np.testing.assert_array_equal(
        pruned['params']['layers_0']['affine'][:, 0], [3, 2, 4])
    np.testing.assert_allclose(
        new.apply(pruned, wide.X), model.apply(variables, wide.X), atol=1e-5)
    self.assertEqual(report.removed_nodes, ((1, 0), (1, 1)))
    self.assertEqual((report.edges, report.edges_before), (16, 21))

  def test_what_only_led_to_removed_nodes_goes_too(self):
    model = linen.KAN([2, 2, 2, 1])
    variables = networks.kan([2, 2, 2, 1])
    model, variables = fixing.remove(model, variables, 1, 1, 1)
    new, _, report = pruning.prune_nodes(
        model, variables, wide.X[:, :2], nodes=[(2, 0)])
    self.assertEqual(new.features, (2, 1, 1, 1))
    self.assertEqual(report.removed_nodes, ((1, 1), (2, 0)))

  @parameterized.parameters((0, 4), (0.5, 2), (0.74, 2), (0.75, 1), (1, 1))
  def test_fraction(self, fraction, left):
    """The best node stays, whatever the fraction."""
    best = scores.attribution(
        wide.MODEL, wide.VARIABLES, wide.X).nodes[1].argmax()
    model, _, report = pruning.prune_nodes(
        wide.MODEL, wide.VARIABLES, wide.X, fraction=fraction)
    self.assertEqual(model.nodes[1].size, left)
    self.assertNotIn((1, best), report.removed_nodes)

  def test_arities_of_their_own(self):
    model = linen.KAN([3, [1, 2], 2], arity=[[], [2, 3], []])
    variables = networks.stack(
        networks.layer(3, 6), networks.layer(3, 2, seed=1))
    new, variables, _ = pruning.prune_nodes(
        model, variables, wide.X, nodes=[(1, 0), (1, 1)])
    self.assertEqual(
        (new.features, new.arity), ((3, (0, 1), 2), ((), (3,), ())))
    self.assertEqual(
        jax.eval_shape(new.apply, variables, wide.X).shape, (60, 2))

  def test_a_network_without_live_edges(self):
    """One node a layer stays, and the predictions as they were: constant."""
    model, variables, _ = pruning.prune_edges(
        wide.MODEL, wide.VARIABLES, wide.X, threshold=1e9)
    mean = wide.MODEL.apply(wide.VARIABLES, wide.X).mean(0)
    new, pruned, report = pruning.prune_nodes(
        model, variables, wide.X, threshold=0)
    self.assertEqual((new.nodes[1].size, report.edges), (1, 0))
    for net, held in ((model, variables), (new, pruned)):
      np.testing.assert_allclose(
          net.apply(held, wide.X), np.tile(mean, (60, 1)), atol=1e-5)

  def test_without_biases(self):
    """Means that nothing takes over are not dropped without a word."""
    model, variables = wide.without_biases()
    with self.assertRaisesRegex(
        ValueError, r'`model` has no biases.*layers_1.*add_biases'):
      pruning.prune_nodes(model, variables, wide.X, nodes=[(1, 0)])
    new, pruned, _ = pruning.prune_nodes(
        *edits.add_biases(model, variables), wide.X, nodes=[(1, 0)])
    gone = wide.values(model, variables)[1][:, 0]
    np.testing.assert_allclose(
        new.apply(pruned, wide.X),
        model.apply(variables, wide.X) - (gone - gone.mean(0)), atol=1e-5)

  def test_without_biases_what_has_no_mean_goes(self):
    model, variables = wide.without_biases()
    model, variables = edits.assign(model, variables, ('layers_0',), {
        (0, 0): ('x', (0, 0, 1, 0)), (1, 0): None, (2, 0): None})
    model, variables = edits.assign(model, variables, ('layers_1',), {
        (0, o): ('x', (1, 0, 2, 0)) for o in range(2)})
    before = model.apply(variables, wide.X)
    new, pruned, report = pruning.prune_nodes(
        model, variables, wide.X, nodes=[(1, 0)])
    self.assertEqual(report.removed_nodes, ((1, 0),))
    np.testing.assert_allclose(
        new.apply(pruned, wide.X), before, rtol=1e-5, atol=1e-5)


class PruneInputsTest(wide.Case):

  def test_columns_go(self):
    new, variables, report = pruning.prune_inputs(
        wide.MODEL, wide.VARIABLES, wide.X, inputs=[1])
    self.assertEqual(new.features, (2, (2, 2), 2))
    np.testing.assert_array_equal(report.inputs, [0, 2])
    _, masked, _ = pruning.prune_edges(
        wide.MODEL, wide.VARIABLES, wide.X, edges=[(0, 1, o) for o in range(6)])
    np.testing.assert_allclose(
        new.apply(variables, wide.X[:, report.inputs]),
        wide.MODEL.apply(masked, wide.X), atol=1e-5)

  @parameterized.parameters(
      ({'threshold': 1e9}, 1), ({'threshold': 0}, 3), ({'fraction': 0.67}, 1),
      ({'fraction': 0.66}, 2), ({'fraction': 1}, 1))
  def test_best_stay(self, rule, left):
    best = scores.attribution(wide.MODEL, wide.VARIABLES, wide.X).nodes[0]
    new, _, report = pruning.prune_inputs(
        wide.MODEL, wide.VARIABLES, wide.X, **rule)
    self.assertEqual(new.nodes[0].size, left)
    np.testing.assert_array_equal(
        report.inputs, np.sort(np.argsort(best)[3 - left:]))

  def test_a_single_layer(self):
    variables = networks.layer(3, 4)
    layer, cut, report = pruning.prune_inputs(
        linen.KANLayer(4), variables, wide.X, inputs=[0])
    self.assertEqual(report.features_before, (3, 4))
    self.assertEqual(report.features, (2, 4))
    before = linen.KANLayer(4).apply(variables, wide.X)
    np.testing.assert_allclose(
        layer.apply(cut, wide.X[:, 1:]).mean(0), before.mean(0), atol=1e-5)


class ErrorsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('edges', {}, '`threshold`, `fraction` or `edges`.*got 0'),
      ('nodes', {'threshold': 1, 'fraction': 1}, '`nodes` says.*got 2'),
      ('inputs', {'threshold': np.nan}, '`threshold` is a number; got NaN'),
      ('edges', {'fraction': 1.1}, '`fraction` lies in 0 to 1; got 1.1'),
      ('edges', {'edges': [(0, 3, 0)]}, r'`edges` has \(0, 3, 0\)'),
      ('edges', {'edges': [(0, 0.5, 0)]}, '`edges` has'),
      ('nodes', {'nodes': [(2, 0)]}, r'`nodes` has \(2, 0\)'),
      ('nodes', {'nodes': [(0, 0)]}, r'`nodes` has \(0, 0\)'),
      ('nodes', {'nodes': [1]}, '`nodes` has 1,'),
      ('nodes', {'nodes': [(1, k) for k in range(4)]}, 'none of layer 1'),
      ('inputs', {'inputs': [-1]}, '`inputs` has'),
      ('inputs', {'inputs': [0, 1, 2]}, '`inputs` leaves none'))
  def test_rules(self, what, rule, message):
    prune = getattr(pruning, f'prune_{what}')
    with self.assertRaisesRegex(ValueError, message):
      prune(wide.MODEL, wide.VARIABLES, wide.X, **rule)

  def test_other_models(self):
    dense = nn.Dense(2)
    with self.assertRaisesRegex(ValueError, '`model`.*got Dense'):
      pruning.prune_nodes(dense, {'params': {}}, wide.X, fraction=0.5)
