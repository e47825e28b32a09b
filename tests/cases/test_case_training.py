"""Cases T of public reports on other KAN libraries: training.

The letter and number in a test's name are those of the case.
"""

from typing import Any
from typing import NamedTuple

from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
from matplotlib import figure
import numpy as np
import optax

from experiments import cli
from experiments.data import sets
from experiments.mnist import configs
from experiments.mnist import loop
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.plotting import edge_panels
from kan_jax.training import fitting
from kan_jax.training import sharding
from kan_jax.training import train_steps

_RNG = np.random.default_rng(0)
# exp(sin(pi x0) + x1**2), as in the paper.
_X = jnp.asarray(_RNG.uniform(-1, 1, (1000, 2)), jnp.float32)
_Y = jnp.asarray(
    np.exp(np.sin(np.pi * _X[:, 0]) + np.square(_X[:, 1])), jnp.float32)


def _squares(outputs, y):
  return jnp.square(outputs[:, 0] - y)


class Counts(NamedTuple):
  """A state that counts how often each example was in a batch."""
  step: Any
  counts: Any
  updated: Any  # At which steps the grids were updated.
  variables: Any = ()
  grid: Any = ()
  others: tuple = ()


class Counter:
  """Programs that only keep account; the batches are the library's."""

  def __init__(self, size, traces=2):
    self.size = size
    self.placement = sharding.Placement(sharding.make_mesh('data:1'))
    self.updates = []
    chex.clear_trace_counter()
    self.run_steps = train_steps.make_run_steps(
        chex.assert_max_traces(self._step, n=traces))

  def _step(self, state, batch):
    _, index = batch
    zero = jnp.zeros(())
    return state._replace(
        step=state.step + 1, counts=state.counts.at[index].add(1)), {
            'loss': zero, 'penalty': zero, 'skipped': zero}

  def init(self, key, x):
    del key, x
    return Counts(jnp.zeros((), jnp.int32), jnp.zeros(self.size, jnp.int32), ())

  def update_grids(self, state, images, rows, i):
    self.updates.append((int(state.step), len(images[rows[i]])))
    return state

  def evaluate(self, variables, split, size):
    del variables, split, size
    return {'accuracy': 0.5}


def _count(size, **options):
  """Runs a schedule over examples whose label is their index."""
  counter = Counter(size)
  split = sets.Split(np.zeros((size, 1, 1), np.float32),
                     np.arange(size, dtype=np.int32))
  result = loop.Loop(
      configs.Config(**options), sets.Dataset(split, split, size), counter,
      log=lambda _: None).run()
  return result.state, counter


class ScheduleCasesTest(parameterized.TestCase):

  @parameterized.parameters(
      # Ten updates within five steps cannot be: each step has one at most.
      (1, 5, [0, 1, 2, 3, 4]), (2, 5, [0, 2, 4]), (10, 5, [0]),
      (1, 10, list(range(10))))
  def test_t02_grid_updates(self, freq, steps, expected):
    _, counter = _count(
        steps, batch_size=1, epochs=1, grid_update_freq=freq)
    self.assertEqual([step for step, _ in counter.updates], expected)

  def test_t02_grid_updates_switched_off(self):
    state, counter = _count(
        5, batch_size=1, epochs=1, grid_update_freq=1, update_grid=False)
    self.assertEqual((int(state.step), counter.updates), (5, []))

  def test_t02_no_steps_between_updates(self):
    with self.assertRaisesRegex(cli.UsageError, '--grid_update_freq=0'):
      configs.Config(grid_update_freq=0)

  def test_t04_every_row_once_an_epoch(self):
    """10 rows in batches of 3: the short one at the end is taken, too."""
    state, counter = _count(
        10, batch_size=3, epochs=3, grid_update_freq=1)
    np.testing.assert_array_equal(state.counts, 3)
    self.assertEqual(state.step, 3 * 4)
    # One program for the whole batches, one for the short one: see `Counter`.
    self.assertEqual(
        [rows for _, rows in counter.updates], 3 * [3, 3, 3, 1])


class DataCasesTest(parameterized.TestCase):

  def test_t03_batch_larger_than_the_test_set(self):
    model, tx = linen.KAN([2, 1]), optax.adam(0.01)
    run = train_steps.make_run_steps(train_steps.make_train_step(
        train_steps.make_objective(model, _squares), tx))
    state, totals = run(
        networks.state(networks.kan([2, 1]), tx), train_steps.zero_totals(),
        (_X[:100], _Y[:100]), jnp.arange(100).reshape(2, 50), 0, 2)
    self.assertEqual((state.step, totals['skipped']), (2, 0))
    test = _X[100:120], _Y[100:120]
    evaluate = train_steps.make_evaluate(model, {'square': _squares}, 50)
    errors = jax.jit(model.apply)(state.variables, test[0])[:, 0] - test[1]
    np.testing.assert_allclose(
        evaluate(state.variables, test)['square'], np.mean(np.square(errors)),
        rtol=1e-5)

  def test_t07_label_shape(self):
    """The model is y = x: its loss on its own labels is 0, never 1."""
    x = jnp.array([-1, -0.5, 0, 0.5, 1])[:, None]
    model = linen.KANLayer(1, base_fn=lambda x: x)
    variables = networks.layer(1, 1, scale=0.0)
    variables['params']['scale_base'] = jnp.ones((1, 1))

    def loss(loss_fn, y):
      objective = train_steps.make_objective(model, loss_fn)
      return objective(variables['params'], variables['grid'], x, y)[0]

    np.testing.assert_array_equal(model.apply(variables, x), x)
    self.assertEqual(
        loss(lambda outputs, y: jnp.square(outputs - y)[:, 0], x), 0)
    self.assertEqual(loss(_squares, x[:, 0]), 0)
    for loss_fn in (lambda outputs, y: jnp.square(outputs - y),
                    lambda outputs, y: jnp.square(outputs - y).mean(-1)):
      with self.assertRaisesRegex(
          ValueError, r'outputs \(5, 1\) against targets \(5,\)'):
        loss(loss_fn, x[:, 0])


class Conv(nn.Module):
  """A convolution before a KAN."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(2, (3, 3), 2, padding='VALID')(x)
    return linen.KAN([8, 10], grid=3)(x.reshape(len(x), -1))


class ModuleCasesTest(parameterized.TestCase):

  def test_t05_kan_inside_a_bigger_net(self):
    images = jnp.asarray(_RNG.normal(size=(6, 6, 6, 1)), jnp.float32)
    model, tx = Conv(), optax.adam(0.01)
    state = train_steps.create_state(model, tx, jax.random.key(0), images)
    loss = optax.softmax_cross_entropy_with_integer_labels
    step = jax.jit(train_steps.make_train_step(
        train_steps.make_objective(model, loss), tx))
    new, _ = step(state, (images, jnp.arange(6)))
    for name, leaf in jax.tree_util.tree_leaves_with_path(jax.tree.map(
        lambda a, b: np.any(np.not_equal(a, b)), state.params, new.params)):
      self.assertTrue(leaf, name)
    chex.assert_trees_all_equal(new.grid, state.grid)
    one_by_one = jax.jit(jax.vmap(
        lambda image: model.apply(state.variables, image[None])[0]))(images)
    np.testing.assert_allclose(
        one_by_one, jax.jit(model.apply)(state.variables, images), atol=1e-5)

  def test_t05_gradient_of_a_gradient(self):
    """The second derivative of a cubic spline is finite, also at a knot."""
    layer, variables = linen.KANLayer(1), networks.layer(1, 1)
    def f(x):
      return layer.apply(variables, x[None])[0]
    knots = variables['grid']['knots'][0]
    x = jnp.concatenate([knots, jnp.linspace(-9, 9, 57)])
    second = jax.jit(jax.vmap(jax.grad(jax.grad(f))))(x)
    chex.assert_tree_all_finite(second)
    self.assertGreater(np.abs(second).max(), 1)


class OwnLoopCasesTest(parameterized.TestCase):

  def test_t08_lbfgs_and_a_grid_update(self):
    def run(variables, steps):
      """Updates the grids, then takes steps; their losses and what is left."""
      found = fitting.fit(
          model, variables, _X, _Y, loss_fn=_squares, steps=steps, log_every=1,
          update_steps=(0,))
      return found.history['loss'], found.variables

    def train():
      before, variables = run(networks.kan([2, 5, 1], scale=0.1), 5)
      after, last = run(variables, 15)
      return before, variables, after, last

    model = linen.KAN([2, 5, 1])
    before, variables, after, last = train()
    self.assertEqual((len(before), len(after)), (5, 15))
    self.assertTrue(np.isfinite(np.append(before, after)).all())
    for losses in (before, after):
      # The line search may stand still within a rounding of the loss.
      np.testing.assert_array_less(np.diff(losses), 1e-6 * losses[:-1])
    evaluate = train_steps.make_evaluate(model, {'loss': _squares})
    self.assertLess(after[0], 1.1 * evaluate(variables, (_X, _Y))['loss'])
    self.assertLess(after[-1], before[-1])
    chex.assert_trees_all_equal(train()[-1], last)

  def test_t09_own_loop_with_a_negative_loss(self):
    model, tx = linen.KAN([2, 3, 1]), optax.adam(0.01)
    variables, x = networks.kan([2, 3, 1]), _X[:50]

    def loss(params):
      return -model.apply({**variables, 'params': params}, x).mean()

    @jax.jit
    def step(params, opt_state):
      value, grads = jax.value_and_grad(loss)(params)
      updates, opt_state = tx.update(grads, opt_state)
      return optax.apply_updates(params, updates), opt_state, value

    params = variables['params']
    opt_state, losses = tx.init(params), []
    for _ in range(10):
      params, opt_state, value = step(params, opt_state)
      losses.append(float(value))
    self.assertLess(losses[-1], losses[0])
    # Nothing but parameters and x is needed to look at the result.
    trained = {**variables, 'params': params}
    fig = edge_panels.plot_edges(model, trained, x, most=2)
    self.assertIsInstance(fig, figure.Figure)
    stats = jax.jit(lambda v: model.apply(v, x, mutable=['edges'])[1])(trained)
    scores = [regularization.edge_scores(layer) for layer in (
        regularization.layer_stats(stats['edges']).values())]
    self.assertEqual([s.shape for s in scores], [(2, 3), (3, 1)])
    self.assertTrue(all((s > 0).all() for s in scores))
