"""Cases P of public reports on other KAN libraries: pruning and scores.

The letter and number in a test's name are those of the case.
"""

import functools

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.pruning import prune as pruning
from kan_jax.pruning import scores
from kan_jax.splines import grids
from kan_jax.training import refinement
from kan_jax.training import train_steps

_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-1, 1, (200, 2)), jnp.float32)
_Y = jnp.asarray(
    np.exp(np.sin(np.pi * _X[:, 0]) + np.square(_X[:, 1])), jnp.float32)
_NET = linen.KAN([2, 3, 1])
_VARIABLES = networks.kan([2, 3, 1])


def _squares(outputs, y):
  return jnp.square(outputs[:, 0] - y)


@functools.partial(jax.jit, static_argnums=0)
def _outputs_and_stats(model, variables, x):
  outputs, sown = model.apply(variables, x, mutable=['edges'])
  return outputs, sown['edges']


@functools.partial(jax.jit, static_argnums=0)
def _outputs_and_grads(model, variables, x, y):
  def loss(params):
    outputs = model.apply({**variables, 'params': params}, x)
    return _squares(outputs, y).mean(), outputs
  return jax.grad(loss, has_aux=True)(variables['params'])[::-1]


class PruningCasesTest(parameterized.TestCase):

  def test_p02_threshold_above_everything(self):
    """All edges go, and what is left is the bias: no edge is kept by force."""
    before, stats = _outputs_and_stats(_NET, _VARIABLES, _X)
    held = jax.tree.map(np.array, _VARIABLES)
    pruned = pruning.mask_edges(_VARIABLES, stats, 1e9)
    self.assertEqual(pruning.count_edges(pruned), (0, 9))
    outputs, grads = _outputs_and_grads(_NET, pruned, _X, _Y)
    np.testing.assert_array_equal(
        outputs, np.tile(held['params']['layers_1']['node_bias'], (200, 1)))
    chex.assert_tree_all_finite(grads)
    new = jax.jit(functools.partial(traversal.update_grids, _NET))(pruned, _X)
    chex.assert_tree_all_finite((new, _outputs_and_stats(_NET, new, _X)))
    chex.assert_trees_all_equal(_VARIABLES, held)
    np.testing.assert_array_equal(
        _outputs_and_stats(_NET, _VARIABLES, _X)[0], before)

  def test_p02_nodes_and_inputs_above_everything(self):
    """The best of each layer stays, after a threshold on edges as well."""
    best = [layer.argmax()
            for layer in scores.attribution(_NET, _VARIABLES, _X).nodes]
    model, pruned, report = pruning.prune_nodes(
        _NET, _VARIABLES, _X, threshold=1e9)
    self.assertEqual(model.features, (2, 1, 1))
    self.assertNotIn((1, best[1]), report.removed_nodes)
    model, pruned, report = pruning.prune_inputs(
        model, pruned, _X, threshold=1e9)
    self.assertEqual(model.features, (1, 1, 1))
    x = _X[:, report.inputs]
    chex.assert_tree_all_finite((pruned, model.apply(pruned, x)))
    model, pruned, _ = pruning.prune_edges(model, pruned, x, threshold=1e9)
    found = scores.attribution(model, pruned, x)
    chex.assert_tree_all_finite((pruned, model.apply(pruned, x), found))

  def test_p03_pruning_and_refining_leave_the_original(self):
    before, stats = _outputs_and_stats(_NET, _VARIABLES, _X)
    held = jax.tree.map(np.array, _VARIABLES)
    masked = pruning.mask_edges(_VARIABLES, stats, 0.3)
    left, _ = pruning.count_edges(masked)
    self.assertBetween(int(left), 1, 8)
    jax.eval_shape(
        lambda v: edits.refine_variables(v, 10), masked)
    for prune in (pruning.prune_edges, pruning.prune_nodes,
                  pruning.prune_inputs):
      prune(_NET, _VARIABLES, _X, fraction=0.5)
    self.assertEqual(_NET.features, (2, 3, 1))
    chex.assert_trees_all_equal(_VARIABLES, held)
    np.testing.assert_array_equal(
        _outputs_and_stats(_NET, _VARIABLES, _X)[0], before)

  def test_p04_prune_train_refine_train(self):
    """Of edges first; of a node before the grid gets finer."""
    model, tx = linen.KAN([2, 5, 1]), optax.adam(0.02)
    penalty, rows = regularization.Penalty(), jnp.tile(jnp.arange(200), (20, 1))

    def train(model, state):
      """20 steps on the whole set, with a grid update before each ten."""
      run = runs[model]
      for start in (0, 10):
        state = train_steps.update_state_grids(
            model, state, _X, grid_update=grids.GridUpdate(rate=0.5))
        state, totals = run(
            state, train_steps.zero_totals(), (_X, _Y), rows, start, start + 10)
        self.assertEqual(totals['skipped'], 0)
      chex.assert_tree_all_finite(state)
      return state

    finer = linen.KAN([2, 4, 1], grid=10)
    runs = {net: train_steps.make_run_steps(train_steps.make_train_step(
        train_steps.make_objective(net, _squares, penalty, lamb), tx))
            for net, lamb in ((model, 0.01), (finer, 0.0))}
    state = networks.state(networks.kan([2, 5, 1], scale=0.1), tx)
    state = train(model, state)
    outputs = model.apply(state.variables, _X)
    before = np.sqrt(np.mean(_squares(outputs, _Y)))
    _, variables, report = pruning.prune_edges(
        model, state.variables, _X, fraction=0.1)
    self.assertEqual((report.edges, report.edges_before), (14, 15))
    state = train(model, state.replace(**variables))
    smaller, variables, _ = pruning.prune_nodes(
        model, state.variables, _X, fraction=0.2)
    self.assertEqual(smaller.clone(grid=10), finer)
    masks = [layer['mask'] for layer in variables['grid'].values()]
    state = networks.state(variables, tx)
    state = train(
        finer, jax.jit(
            lambda s: refinement.refine_state_arrays(s, 10, tx))(state))
    for mask, layer in zip(masks, state.grid.values(), strict=True):
      np.testing.assert_array_equal(layer['mask'], mask)
    outputs = finer.apply(state.variables, _X)
    self.assertLessEqual(np.sqrt(np.mean(_squares(outputs, _Y))), before)

  @parameterized.parameters(3, 4)
  def test_p05_list_of_arities(self, outputs):
    """Also with as many outputs as factors: a score for every node and edge."""
    model = linen.KAN([3, [1, 1], outputs], arity=[[], [3], []])
    variables = networks.stack(networks.layer(3, 4), networks.layer(2, outputs))
    x = jnp.asarray(_RNG.uniform(-1, 1, (20, 3)), jnp.float32)
    self.assertEqual(model.apply(variables, x).shape, (20, outputs))
    for find in (scores.attribution, scores.activity):
      found = find(model, variables, x)
      self.assertEqual([n.shape for n in found.nodes], [(3,), (2,), (outputs,)])
      self.assertEqual(
          [e.shape for e in found.edges], [(3, 4), (2, outputs)])
    smaller, pruned, _ = pruning.prune_nodes(
        model, variables, x, nodes=[(1, 0)])
    self.assertEqual(smaller.arity, ((), (3,), ()))
    self.assertEqual(smaller.apply(pruned, x).shape, (20, outputs))

  def test_p06_chosen_edges(self):
    tx = optax.adamw(0.01)
    chosen = [(0, 0, 1), (1, 2, 0)]
    _, variables, report = pruning.prune_edges(
        _NET, _VARIABLES, _X, edges=chosen)
    self.assertEqual(report.removed_edges, tuple(chosen))
    state, grid = networks.state(variables, tx), variables['grid']
    left = [(layer, int(i), int(o)) for layer in range(2) for i, o in (
        np.argwhere(np.asarray(grid[f'layers_{layer}']['mask'])))]
    self.assertEqual(left, [(0, 0, 0), (0, 0, 2), (0, 1, 0), (0, 1, 1),
                            (0, 1, 2), (1, 0, 0), (1, 1, 0)])
    self.assertEqual(pruning.count_edges(variables), (7, 9))
    run = train_steps.make_run_steps(train_steps.make_train_step(
        train_steps.make_objective(_NET, _squares), tx))
    state, _ = run(state, train_steps.zero_totals(), (_X, _Y),
                   jnp.tile(jnp.arange(200), (10, 1)), 0, 10)
    views = list(traversal.view_layers(_NET, state.variables, _X).values())
    _, grads = _outputs_and_grads(_NET, state.variables, _X, _Y)
    for layer, i, o in chosen:
      view, slopes = views[layer], grads[f'layers_{layer}']
      np.testing.assert_array_equal(
          view.edge_outputs(view.inputs)[:, i, o], 0)
      np.testing.assert_array_equal(slopes['coef'][i, :, o], 0)
      for name in ('scale_base', 'scale_spline'):
        self.assertEqual(slopes[name][i, o], 0)

  def test_p07_scores_of_inputs(self):
    """x0**2 + 0.3 x1**2 + 0 x2, by all the definitions."""
    x = jnp.asarray(_RNG.uniform(-1, 1, (200, 3)), jnp.float32)
    y = jnp.square(x[:, 0]) + 0.3 * jnp.square(x[:, 1])
    model, tx = linen.KAN([3, 2, 1]), optax.adam(
        optax.cosine_decay_schedule(0.05, 1500))
    run = train_steps.make_run_steps(train_steps.make_train_step(
        train_steps.make_objective(model, _squares), tx))
    state, totals = run(
        networks.state(networks.kan([3, 2, 1], scale=0.1), tx),
        train_steps.zero_totals(), (x, y), jnp.tile(jnp.arange(200), (1500, 1)),
        0, 1500)
    self.assertEqual(totals['skipped'], 0)
    _, stats = _outputs_and_stats(model, state.variables, x)
    first = regularization.layer_stats(stats)['layers_0',]
    for found in (
        regularization.edge_scores(first, 'std').sum(1),
        scores.attribution(model, state.variables, x).nodes[0],
        scores.activity(model, state.variables, x).nodes[0]):
      self.assertGreater(found[0], found[1])
      self.assertLess(found[2], 0.02 * found[0])
    _, _, report = pruning.prune_inputs(
        model, state.variables, x, threshold=0.02)
    np.testing.assert_array_equal(report.inputs, [0, 1])
