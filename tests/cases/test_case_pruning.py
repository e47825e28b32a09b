"""Cases P of public reports on other KAN libraries: pruning and scores.

The letter and number in a test's name are those of the case.
"""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import networks
import numpy as np
import optax

from kan_jax import layers
from kan_jax import pruning
from kan_jax import refinement
from kan_jax import regularization
from kan_jax import training

_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-1, 1, (200, 2)), jnp.float32)
_Y = jnp.asarray(
    np.exp(np.sin(np.pi * _X[:, 0]) + np.square(_X[:, 1])), jnp.float32)
_NET = layers.KAN([2, 3, 1])
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
    """All edges go, and what is left is the bias: no node is kept by force."""
    before, stats = _outputs_and_stats(_NET, _VARIABLES, _X)
    held = jax.tree.map(np.array, _VARIABLES)
    grid = pruning.mask_edges(_VARIABLES['grid'], stats, 1e9)
    self.assertEqual(pruning.count_edges(grid), (0, 9))
    pruned = {**_VARIABLES, 'grid': grid}
    outputs, grads = _outputs_and_grads(_NET, pruned, _X, _Y)
    np.testing.assert_array_equal(
        outputs, np.tile(held['params']['layers_1']['node_bias'], (200, 1)))
    chex.assert_tree_all_finite(grads)
    new = jax.jit(functools.partial(layers.update_grids, _NET))(pruned, _X)
    chex.assert_tree_all_finite((new, _outputs_and_stats(_NET, new, _X)))
    chex.assert_trees_all_equal(_VARIABLES, held)
    np.testing.assert_array_equal(
        _outputs_and_stats(_NET, _VARIABLES, _X)[0], before)

  def test_p03_pruning_and_refining_leave_the_original(self):
    before, stats = _outputs_and_stats(_NET, _VARIABLES, _X)
    held = jax.tree.map(np.array, _VARIABLES)
    grid = pruning.mask_edges(_VARIABLES['grid'], stats, 0.3)
    left, _ = pruning.count_edges(grid)
    self.assertBetween(int(left), 1, 8)
    jax.eval_shape(
        lambda v: refinement.refine(v, 10), {**_VARIABLES, 'grid': grid})
    chex.assert_trees_all_equal(_VARIABLES, held)
    np.testing.assert_array_equal(
        _outputs_and_stats(_NET, _VARIABLES, _X)[0], before)

  def test_p04_prune_train_refine_train(self):
    model, tx = layers.KAN([2, 5, 1]), optax.adam(0.02)
    penalty, rows = regularization.Penalty(), jnp.tile(jnp.arange(200), (20, 1))

    def train(model, state):
      """20 steps on the whole set, with a grid update before each ten."""
      run = runs[model.grid]
      for start in (0, 10):
        state = training.update_grids(state, _X, model=model, rate=0.5)
        state, totals = run(
            state, training.zero_totals(), (_X, _Y), rows, start, start + 10)
        self.assertEqual(totals['skipped'], 0)
      chex.assert_tree_all_finite(state)
      return state

    finer = model.clone(grid=10)
    runs = {net.grid: training.make_run_steps(training.make_train_step(
        training.make_objective(net, _squares, penalty, lamb), tx))
            for net, lamb in ((model, 0.01), (finer, 0.0))}
    state = networks.state(networks.kan([2, 5, 1], scale=0.1), tx)
    state = train(model, state)
    outputs, stats = _outputs_and_stats(model, state.variables, _X)
    before = np.sqrt(np.mean(_squares(outputs, _Y)))
    state = state.replace(grid=pruning.mask_edges(state.grid, stats, 0.03))
    left, total = pruning.count_edges(state.grid)
    self.assertBetween(int(left), 5, total - 1)
    masks = [layer['mask'] for layer in state.grid.values()]
    state = train(model, state)
    state = train(
        finer, jax.jit(lambda s: refinement.refine_state(s, 10, tx))(state))
    for mask, layer in zip(masks, state.grid.values(), strict=True):
      np.testing.assert_array_equal(layer['mask'], mask)
    outputs, _ = _outputs_and_stats(finer, state.variables, _X)
    self.assertLessEqual(np.sqrt(np.mean(_squares(outputs, _Y))), before)

  def test_p06_chosen_edges(self):
    tx = optax.adamw(0.01)
    state = networks.state(_VARIABLES, tx)
    chosen = [(0, 0, 1), (1, 2, 0)]
    grid = {name: dict(layer) for name, layer in state.grid.items()}
    for layer, i, o in chosen:
      held = grid[f'layers_{layer}']
      held['mask'] = held['mask'].at[i, o].set(0)
    state = state.replace(grid=grid)
    left = [(layer, int(i), int(o)) for layer in range(2) for i, o in (
        np.argwhere(np.asarray(grid[f'layers_{layer}']['mask'])))]
    self.assertEqual(left, [(0, 0, 0), (0, 0, 2), (0, 1, 0), (0, 1, 1),
                            (0, 1, 2), (1, 0, 0), (1, 1, 0)])
    self.assertEqual(pruning.count_edges(grid), (7, 9))
    run = training.make_run_steps(training.make_train_step(
        training.make_objective(_NET, _squares), tx))
    state, _ = run(state, training.zero_totals(), (_X, _Y),
                   jnp.tile(jnp.arange(200), (10, 1)), 0, 10)
    views = list(layers.view_layers(_NET, state.variables, _X).values())
    _, grads = _outputs_and_grads(_NET, state.variables, _X, _Y)
    for layer, i, o in chosen:
      view, slopes = views[layer], grads[f'layers_{layer}']
      np.testing.assert_array_equal(
          view.edge_outputs(view.inputs)[:, i, o], 0)
      np.testing.assert_array_equal(slopes['coef'][i, :, o], 0)
      for name in ('scale_base', 'scale_spline'):
        self.assertEqual(slopes[name][i, o], 0)

  def test_p07_scores_of_inputs(self):
    """x0**2 + 0.3 x1**2 + 0 x2: an input scores the sum of its edges."""
    x = jnp.asarray(_RNG.uniform(-1, 1, (200, 3)), jnp.float32)
    y = jnp.square(x[:, 0]) + 0.3 * jnp.square(x[:, 1])
    model, tx = layers.KAN([3, 2, 1]), optax.adam(
        optax.cosine_decay_schedule(0.05, 1500))
    run = training.make_run_steps(training.make_train_step(
        training.make_objective(model, _squares), tx))
    state, totals = run(
        networks.state(networks.kan([3, 2, 1], scale=0.1), tx),
        training.zero_totals(), (x, y), jnp.tile(jnp.arange(200), (1500, 1)),
        0, 1500)
    self.assertEqual(totals['skipped'], 0)
    _, stats = _outputs_and_stats(model, state.variables, x)
    first = regularization.layer_stats(stats)['layers_0',]
    scores = regularization.edge_scores(first, 'std').sum(1)
    self.assertGreater(scores[0], scores[1])
    self.assertLess(scores[2], 0.02 * scores[0])
