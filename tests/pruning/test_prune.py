"""Pruning: what goes, that it is gone, and that nothing else has changed."""

from absl.testing import parameterized
import chex
from helpers import wide
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax.layers import edges
from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.pruning import prune
from kan_jax.pruning import scores
from kan_jax.symbolic import fixing
from kan_jax.training import train_steps

_X = jax.random.uniform(jax.random.key(0), (32, 2), minval=-1, maxval=1)
_MODEL = linen.KAN([2, 3, 1], grid=3)
_VARIABLES = jax.jit(_MODEL.init)(jax.random.key(1), _X)


def _stats(*scores):
  """Statistics that give the edges of each layer the scores, by mean_abs.

  By std they give ten times the scores.
  """
  found = {}
  for i, layer in enumerate(scores):
    layer = jnp.asarray(layer, jnp.float32)
    ones = jnp.ones(len(layer))
    found[f'layers_{i}'] = {'stats': (edges.EdgeStats(
        mean_abs=layer, std=10 * layer, input_std=0.9 * ones,
        width=(1 - 1e-4) * ones),)}
  return found


_KNOWN = _stats([[0.3, 0.001, 0.0], [0.02, 0.5, 0.009]], [[1], [0.2], [0.01]])


def _masks(grid):
  return [np.asarray(grid[f'layers_{i}']['mask']) for i in range(2)]


class MaskEdgesTest(parameterized.TestCase):

  @parameterized.parameters(
      ('mean_abs', 0.015, [[1, 0, 0], [1, 1, 0]], [[1], [1], [0]]),
      ('std', 0.015, [[1, 0, 0], [1, 1, 1]], [[1], [1], [1]]),
      ('mean_abs', 0.25, [[1, 0, 0], [0, 1, 0]], [[1], [0], [0]]),
      ('mean_abs', 0.0, [[1, 1, 1], [1, 1, 1]], [[1], [1], [1]]),
      ('mean_abs', 1e9, [[0, 0, 0], [0, 0, 0]], [[0], [0], [0]]))
  def test_known_scores(self, metric, threshold, first, second):
    masked = prune.mask_edges(_VARIABLES, _KNOWN, threshold, metric)
    chex.assert_trees_all_equal(
        _masks(masked['grid']), [np.float32(first), np.float32(second)])
    chex.assert_trees_all_equal_shapes_and_dtypes(masked, _VARIABLES)
    left, total = prune.count_edges(masked)
    self.assertEqual(left, np.sum(first) + np.sum(second))
    self.assertEqual(total, 9)

  def test_removed_edges_stay_removed(self):
    """Though the next scores are high."""
    once = prune.mask_edges(_VARIABLES, _KNOWN, 0.015)
    high = _stats(np.ones((2, 3)), np.ones((3, 1)))
    twice = prune.mask_edges(once, high, 0.015)
    chex.assert_trees_all_equal(twice, once)

  def test_leaves_what_it_is_given(self):
    before = jax.tree.map(np.array, _VARIABLES)
    pruned = prune.mask_edges(_VARIABLES, _KNOWN, 1e9)
    chex.assert_trees_all_equal(_VARIABLES, before)
    chex.assert_trees_all_equal(pruned['params'], _VARIABLES['params'])
    for i in range(2):
      chex.assert_trees_all_equal(
          pruned['grid'][f'layers_{i}']['knots'],
          _VARIABLES['grid'][f'layers_{i}']['knots'])

  def test_symbolic_edges_are_live(self):
    _, variables = fixing.fix(
        _MODEL, _VARIABLES, None, 0, 1, 2, 'sin', params=(1, 0, 1, 0))
    self.assertEqual(prune.count_edges(variables), (9, 9))
    self.assertEqual(
        prune.count_edges({'grid': variables['grid']}), (8, 9))

  def test_count_of_no_layers(self):
    left, total = prune.count_edges({})
    self.assertEqual((int(left), total), (0, 0))

  def test_jitted(self):
    masked = jax.jit(prune.mask_edges)(_VARIABLES, _KNOWN, 0.015)
    chex.assert_trees_all_equal(
        masked, prune.mask_edges(_VARIABLES, _KNOWN, 0.015))

  def test_own_scores_keep_the_function(self):
    """Edges that score next to nothing do not matter to the output."""
    params = dict(_VARIABLES['params'])
    quiet = np.ones((2, 3), np.float32)
    quiet[0, 1] = quiet[1, 2] = 1e-6
    layer = params['layers_0']
    params['layers_0'] = layer | {
        'scale_base': layer['scale_base'] * quiet,
        'scale_spline': layer['scale_spline'] * quiet}
    variables = {**_VARIABLES, 'params': params}
    y, sown = _MODEL.apply(variables, _X, mutable=['edges'])
    masked = prune.mask_edges(variables, sown['edges'], 1e-5)
    np.testing.assert_array_equal(_masks(masked['grid'])[0], quiet > 0.5)
    np.testing.assert_allclose(_MODEL.apply(masked, _X), y, atol=1e-5)


class RemovedEdgesTest(parameterized.TestCase):

  def test_output_and_gradient_are_zero_also_after_training(self):
    """Case P06, with an optimizer that decays weights."""
    tx = optax.adamw(0.01)
    state = train_steps.create_state(_MODEL, tx, jax.random.key(2), _X)
    removed = [np.zeros((2, 3), bool), np.zeros((3, 1), bool)]
    removed[0][0, 1] = removed[1][2, 0] = True
    state = state.replace(**prune.mask_edges(
        state.variables, _stats(*(np.where(r, 0.0, 1.0) for r in removed)),
        0.5))
    step = train_steps.make_train_step(train_steps.make_objective(
        _MODEL, lambda outputs, y: (outputs[:, 0] - y)**2), tx)
    y = _X[:, 0]
    state, _ = train_steps.make_run_steps(step)(
        state, train_steps.zero_totals(), (_X, y),
        jnp.tile(jnp.arange(32), (10, 1)), 0, 10)
    state = train_steps.update_state_grids(_MODEL, state, _X)
    for mask, gone in zip(_masks(state.grid), removed, strict=True):
      np.testing.assert_array_equal(mask == 0, gone)
    for view, gone in zip(
        traversal.view_layers(_MODEL, state.variables, _X).values(), removed,
        strict=True):
      values = view.edge_outputs(view.inputs)
      np.testing.assert_array_equal(values[:, gone], 0)
      self.assertTrue((np.abs(values).max(0)[~gone] > 0).all())
    grads = jax.jit(jax.grad(lambda params: ((_MODEL.apply(
        {'params': params, 'grid': state.grid}, _X)[:, 0] - y)**2).sum()))(
            state.params)
    for i, gone in enumerate(removed):
      slopes = grads[f'layers_{i}']
      for slope in (slopes['scale_base'], slopes['scale_spline'],
                    slopes['coef'].swapaxes(1, 2)):
        np.testing.assert_array_equal(slope[gone], 0)
        self.assertTrue((slope[~gone] != 0).any())


class PruneEdgesTest(wide.Case):

  def test_means_become_biases(self):
    """An output loses what its edge varies by, and nothing else."""
    model, variables, report = prune.prune_edges(
        wide.MODEL, wide.VARIABLES, wide.X, edges=[(1, 0, 0), (1, 3, 1)])
    self.assertEqual(model, wide.MODEL)
    before = wide.MODEL.apply(wide.VARIABLES, wide.X)
    gone = wide.values(wide.MODEL, wide.VARIABLES)[1][:, [0, 3], [0, 1]]
    after = model.apply(variables, wide.X)
    np.testing.assert_allclose(
        after, before - (gone - gone.mean(0)), atol=1e-5)
    np.testing.assert_allclose(after.mean(0), before.mean(0), atol=1e-6)
    self.assertEqual((report.edges, report.edges_before), (24, 26))
    self.assertEqual(report.removed_edges, ((1, 0, 0), (1, 3, 1)))
    for path, layer in wide.VARIABLES['params'].items():
      for name in ('coef', 'scale_base', 'scale_spline'):
        np.testing.assert_array_equal(
            variables['params'][path][name], layer[name])

  def test_constant_edges_change_nothing(self):
    """A constant line goes by a threshold, and its bias says the same."""
    model, variables = edits.assign(
        wide.MODEL, wide.VARIABLES, ('layers_0',), {
            (0, 4): ('x', (0, 2, 3, 1)), (1, 4): ('sin', (1, 0, 1, 0))})
    before = model.apply(variables, wide.X)
    model, variables, report = prune.prune_edges(
        model, variables, wide.X, threshold=1e-9)
    self.assertEqual(report.removed_edges, ((0, 0, 4),))
    self.assertEqual(model.symbolic, ((('sin', ((1, 4),)),), ()))
    np.testing.assert_allclose(
        variables['params']['layers_0']['node_bias'], [0, 0, 0, 0, 7, 0],
        rtol=1e-6)
    np.testing.assert_allclose(
        model.apply(variables, wide.X), before, rtol=1e-5, atol=1e-5)

  def test_without_biases(self):
    model, variables = wide.without_biases()
    with self.assertRaisesRegex(
        ValueError, r'`model` has no biases.*layers_1.*add_biases'):
      prune.prune_edges(model, variables, wide.X, edges=[(1, 0, 0)])
    new, pruned, _ = prune.prune_edges(
        *edits.add_biases(model, variables), wide.X, edges=[(1, 0, 0)])
    np.testing.assert_allclose(
        new.apply(pruned, wide.X).mean(0),
        model.apply(variables, wide.X).mean(0), atol=1e-5)

  def test_threshold(self):
    found = scores.attribution(wide.MODEL, wide.VARIABLES, wide.X)
    _, variables, _ = prune.prune_edges(
        wide.MODEL, wide.VARIABLES, wide.X, threshold=0.2)
    for mask, layer in zip(_masks(variables['grid']), found.edges, strict=True):
      np.testing.assert_array_equal(mask == 0, layer < 0.2)
      self.assertTrue((layer < 0.2).any())

  @parameterized.parameters((0, 0), (0.5, 12), (0.99, 24), (1, 25), (0.12, 3))
  def test_fraction_of_the_live_edges(self, fraction, count):
    """Of 25: one is gone already."""
    _, once, _ = prune.prune_edges(
        wide.MODEL, wide.VARIABLES, wide.X, edges=[(0, 2, 5)])
    found = scores.attribution(wide.MODEL, once, wide.X)
    _, _, report = prune.prune_edges(
        wide.MODEL, once, wide.X, fraction=fraction)
    self.assertLen(report.removed_edges, count)
    values = sorted(np.concatenate([e.ravel() for e in found.edges]))[1:]
    self.assertCountEqual(
        [found.edges[k][i, o] for k, i, o in report.removed_edges],
        values[:count])

  def test_other_scores(self):
    found = scores.activity(wide.MODEL, wide.VARIABLES, wide.X)
    _, _, report = prune.prune_edges(
        wide.MODEL, wide.VARIABLES, wide.X, threshold=0.4, scores=found)
    self.assertEqual(
        report.removed_edges,
        tuple((k, *index) for k, layer in enumerate(found.edges)
              for index in np.argwhere(layer < 0.4).tolist()))
    with self.assertRaisesRegex(ValueError, '`scores` needs the shapes'):
      prune.prune_edges(
          _MODEL, _VARIABLES, _X, threshold=0.4, scores=found)
