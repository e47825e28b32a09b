"""Training: what a step, a grid update and an evaluation do, and nothing else.
"""

import functools

from absl.testing import parameterized
import chex
import flax
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.splines import grids
from kan_jax.training import train_steps

_X = jax.random.uniform(jax.random.key(0), (24, 3), minval=-1, maxval=1)
_Y = _X[:, 0] * _X[:, 1]
_ROWS = jax.random.permutation(jax.random.key(1), 24).reshape(4, 6)


class Net(nn.Module):
  """A KAN inside a larger network."""
  outputs: int = 1

  @nn.compact
  def __call__(self, x):
    return linen.KAN([4, 3, self.outputs], grid=3)(nn.Dense(4)(x))


class _Normed(nn.Module):
  """A KAN layer on inputs that are normalized by the batch in training."""
  train: bool = False

  @nn.compact
  def __call__(self, x):
    norm = nn.BatchNorm(use_running_average=not self.train, momentum=0.5)
    return linen.KANLayer(1)(norm(x))


class _Dropped(nn.Module):
  """A KAN layer that sees some of its inputs in training."""
  train: bool = False

  @nn.compact
  def __call__(self, x):
    return linen.KANLayer(1)(nn.Dropout(0.5, deterministic=not self.train)(x))


def _squares(outputs, y):
  return jnp.square(outputs[:, 0] - y)


_MODEL = Net()
_TX = optax.adam(0.01)
_PENALTY = regularization.Penalty()
_step = train_steps.make_train_step(
    train_steps.make_objective(_MODEL, _squares, _PENALTY, 0.01), _TX)
_jit_step = jax.jit(_step)
_run_steps = train_steps.make_run_steps(_step)
_apply = jax.jit(_MODEL.apply)
_update = functools.partial(train_steps.update_state_grids, _MODEL)


@functools.cache
def _created(seed):
  return train_steps.create_state(_MODEL, _TX, jax.random.key(seed), _X)


def _create(seed=0):
  """A state to give away: `run_steps` takes its buffers."""
  return jax.tree.map(jnp.array, _created(seed))


def _run(state, start, stop):
  return _run_steps(
      state, train_steps.zero_totals(), (_X, _Y), _ROWS, start, stop)


def _differs(a, b):
  return jax.tree.map(lambda a, b: bool(np.any(np.asarray(a != b))), a, b)


class StepTest(chex.TestCase):

  def test_changes_parameters_and_not_the_grid(self):
    state = _create()
    self.assertEqual(state.step, 0)
    new, _ = _jit_step(state, (_X, _Y))
    self.assertEqual(new.step, 1)
    self.assertEqual(new.step.dtype, jnp.int32)
    chex.assert_trees_all_equal(new.grid, state.grid)
    self.assertTrue(all(jax.tree.leaves(_differs(state.params, new.params))))
    # Adam keeps a moment of every parameter, and it counts.
    self.assertTrue(all(jax.tree.leaves(
        _differs(state.opt_state[0], new.opt_state[0]))))

  def test_takes_the_gradient_of_loss_and_penalty(self):
    """One step of plain gradient descent, put together by hand."""
    tx = optax.sgd(0.1)
    step = train_steps.make_train_step(
        train_steps.make_objective(_MODEL, _squares, _PENALTY, 0.5), tx)
    state = _create().replace(opt_state=tx.init(_create().params))

    def objective(params):
      y, sown = _MODEL.apply(
          {'params': params, 'grid': state.grid}, _X, mutable=['edges'])
      loss = ((y[:, 0] - _Y)**2).mean()
      cost = _PENALTY(params, sown['edges'])
      return loss + 0.5 * cost, (loss, cost)

    grads, (loss, cost) = jax.jit(
        jax.grad(objective, has_aux=True))(state.params)
    new, metrics = jax.jit(step)(state, (_X, _Y))
    chex.assert_trees_all_close(
        new.params, jax.tree.map(lambda p, g: p - 0.1 * g, state.params, grads),
        rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(metrics['loss'], loss, rtol=1e-5)
    np.testing.assert_allclose(metrics['penalty'], cost, rtol=1e-5)
    self.assertGreater(cost, 0)

  @parameterized.parameters((None, 1.0), (_PENALTY, 0.0))
  def test_without_penalty_no_statistics_are_made(self, penalty, lamb):
    step = train_steps.make_train_step(
        train_steps.make_objective(_MODEL, _squares, penalty, lamb), _TX)
    text, full = (str(jax.make_jaxpr(f)(_create(), (_X, _Y)))
                  for f in (step, _step))
    self.assertIn('log', full.split())  # Of the entropy.
    self.assertNotIn('log', text.split())
    _, metrics = jax.jit(step)(_create(), (_X, _Y))
    self.assertEqual(metrics['penalty'], 0)
    self.assertGreater(metrics['loss'], 0)

  def test_a_gradient_that_is_not_finite_is_skipped(self):
    """Though the loss is: a root has the slope infinity at zero."""
    def loss_fn(outputs, y):
      return jnp.sqrt(jnp.square(outputs[:, 0] - y))

    tx = optax.sgd(0.1)
    state = train_steps.TrainState(
        step=jnp.zeros((), jnp.int32), params={'kernel': jnp.ones((3, 1))},
        grid={}, opt_state=tx.init({'kernel': jnp.ones((3, 1))}))
    x = jnp.round(8 * _X)  # The sums of these are exact.
    objective = train_steps.make_objective(
        nn.Dense(1, use_bias=False), loss_fn)
    new, metrics = train_steps.make_train_step(objective, tx)(
        state, (x, x.sum(1)))
    self.assertTrue(np.isfinite(metrics['loss']))
    self.assertEqual((new.step, metrics['skipped']), (1, 1))
    chex.assert_trees_all_equal(new.params, state.params)

  def test_run_steps_equals_single_steps(self):
    state = _create()
    single, totals = state, jnp.zeros(2)
    for rows in _ROWS[1:]:
      single, metrics = _jit_step(single, (_X[rows], _Y[rows]))
      totals += jnp.stack([metrics['loss'], metrics['penalty']])
    # The bounds leave the first row out.
    many, sums = _run(_create(), 1, 4)
    self.assertEqual(many.step, 3)
    # Programs of different shape round differently, and Adam divides by what
    # may be small.
    chex.assert_trees_all_close(many.params, single.params, atol=1e-5)
    np.testing.assert_allclose(
        jnp.stack([sums['loss'], sums['penalty']]), totals, rtol=1e-5)

  def test_run_steps_donates_its_state(self):
    state = _create()
    _run(state, 0, 1)
    with self.assertRaisesRegex(RuntimeError, 'deleted'):
      np.asarray(state.params['Dense_0']['kernel'])

  def test_same_key_same_bits(self):
    results = [_run(_create(seed), 0, 4)[0]
               for seed in (3, 3, 4)]
    chex.assert_trees_all_equal(results[0], results[1])
    self.assertTrue(_differs(results[0].params, results[2].params)[
        'KAN_0']['layers_0']['coef'])

  def test_one_compilation(self):
    model = Net()
    chex.clear_trace_counter()
    step = jax.jit(chex.assert_max_traces(lambda *a: _step(*a), n=1))
    update = jax.jit(chex.assert_max_traces(
        lambda *a: traversal.update_grids(model, *a), n=1))
    state = _create()
    for seed in range(3):
      x = jax.random.normal(jax.random.key(seed), (6, 3))
      variables = update(state.variables, x)
      state = state.replace(
          params=variables['params'], grid=variables['grid'])
      state, _ = step(state, (x, x[:, 0]))
    self.assertEqual(state.step, 3)

  def test_bounds_and_states_share_one_program(self):
    chex.clear_trace_counter()
    run = train_steps.make_run_steps(
        chex.assert_max_traces(lambda *a: _step(*a), n=1))
    state = _create()
    for start, stop in ((0, 1), (1, 4), (2, 2)):
      state = _update(state, _X[_ROWS[0]])
      state, _ = run(
          state, train_steps.zero_totals(), (_X, _Y), _ROWS, start, stop)
    self.assertEqual(state.step, 4)

  def test_loss_that_broadcasts(self):
    """Case T07: outputs [n, 1] and targets [n] make [n, n]."""
    def loss_fn(outputs, y):
      return ((outputs - y)**2).mean(-1)  # The mean hides it.

    objective = train_steps.make_objective(_MODEL, loss_fn)
    state = _create()
    with self.assertRaisesRegex(
        ValueError, r'outputs \(24, 1\) against targets \(24,\)'):
      jax.eval_shape(objective, state.params, state.grid, _X, _Y)
    evaluate = train_steps.make_evaluate(_MODEL, {'error': loss_fn}, 24)
    with self.assertRaisesRegex(ValueError, r'outputs \(24, 1\) against'):
      evaluate(state.variables, (_X, _Y))

  def test_other_collections_are_refused(self):
    with self.assertRaisesRegex(
        ValueError, r"collections \['batch_stats'\].* in `averages`"):
      train_steps.create_state(_Normed(), _TX, jax.random.key(0), _X)

  def test_averages(self):
    """Of a batch after many updates; steps leave them, evaluation uses them."""
    names = ['batch_stats']
    training = _Normed(train=True)
    state = train_steps.create_state(
        _Normed(), _TX, jax.random.key(0), _X, averages=names)
    step = jax.jit(train_steps.make_train_step(train_steps.make_objective(
        training, _squares, averages=names), _TX))
    before = state.others
    state, metrics = step(state, (_X, _Y))
    chex.assert_trees_all_equal(state.others, before)
    self.assertEqual(metrics['skipped'], 0)
    update = jax.jit(functools.partial(train_steps.update_averages, training))
    for _ in range(60):
      state = update(state, _X)
    # Of the first values, 0.5**60 is left.
    stats = state.others['batch_stats']['BatchNorm_0']
    np.testing.assert_allclose(stats['mean'], _X.mean(0), atol=1e-6)
    np.testing.assert_allclose(stats['var'], _X.var(0), rtol=1e-5)
    evaluate = train_steps.make_evaluate(_Normed(), {'loss': _squares}, 24)
    np.testing.assert_allclose(
        evaluate(state.variables, (_X, _Y))['loss'],
        _squares(training.apply(
            state.variables, _X, mutable=names)[0], _Y).mean(), rtol=1e-4)

  def test_model_that_draws(self):
    """Anew in each step, and alike in the same step of another run."""
    objective = train_steps.make_objective(_Dropped(train=True), _squares)
    state = train_steps.create_state(_Dropped(), _TX, jax.random.key(0), _X)
    key = jax.random.key(3)
    step = jax.jit(train_steps.make_train_step(objective, _TX, key=key))
    first = step(state, (_X, _Y))
    chex.assert_trees_all_equal(step(state, (_X, _Y)), first)
    later = step(state.replace(step=state.step + 1), (_X, _Y))
    self.assertNotEqual(later[1]['loss'], first[1]['loss'])
    with self.assertRaisesRegex(
        flax.errors.InvalidRngError, 'needs PRNG for "dropout"'):
      train_steps.make_train_step(objective, _TX)(state, (_X, _Y))

  def test_model_without_kan_layers(self):
    model = nn.Dense(1)
    state = train_steps.create_state(model, _TX, jax.random.key(0), _X)
    self.assertEqual(state.grid, {})
    step = jax.jit(train_steps.make_train_step(
        train_steps.make_objective(model, _squares), _TX))
    new, metrics = step(state, (_X, _Y))
    self.assertEqual(metrics['penalty'], 0)
    self.assertTrue(_differs(state.params, new.params)['kernel'])


class UpdateGridsTest(chex.TestCase):

  @parameterized.parameters({}, {'rate': 0.1}, {'eps': 0.0})
  def test_touches_grid_and_coefficients_alone(self, **options):
    state, _ = _jit_step(_create(), (_X, _Y))
    new = _update(state, 2 * _X, grid_update=grids.GridUpdate(**options))
    self.assertEqual(new.step, state.step)
    chex.assert_trees_all_equal(new.opt_state, state.opt_state)
    changed = _differs(state.variables, new.variables)
    for layer in ('layers_0', 'layers_1'):
      self.assertEqual(
          changed['grid']['KAN_0'][layer], {'knots': True, 'mask': False})
      self.assertEqual(changed['params']['KAN_0'][layer], {
          'coef': True, 'scale_base': False, 'scale_spline': False,
          'node_bias': False})
    self.assertEqual(
        changed['params']['Dense_0'], {'kernel': False, 'bias': False})


class EvaluateTest(chex.TestCase):

  @parameterized.parameters(1, 5, 8, 23, 24, 1000)
  def test_is_the_mean_over_all_rows(self, batch_size):
    """Case T03: also where the batch is larger than the set."""
    state = _create()
    evaluate = train_steps.make_evaluate(
        _MODEL, {'square': _squares, 'index': lambda _, y: y}, batch_size)
    means = evaluate(state.variables, (_X, _Y))
    error = np.asarray(_apply(state.variables, _X))[:, 0] - _Y
    np.testing.assert_allclose(means['square'], (error**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(means['index'], np.mean(_Y), atol=1e-6)


class CollapseTest(chex.TestCase):

  def test_grids_that_shrink_to_nothing(self):
    """A huge penalty narrows what the KAN sees; without it, it learns again.

    In pykan such a run ends in coefficients of 1e12 or in a constant network.
    """
    x = jax.random.uniform(jax.random.key(0), (256, 2), minval=-1, maxval=1)
    y = (x.sum(1) > 0).astype(jnp.int32)
    rows = jax.random.randint(jax.random.key(1), (6000, 64), 0, 256)
    model, tx = Net(outputs=2), optax.adam(0.02)
    loss_fn = optax.softmax_cross_entropy_with_integer_labels
    evaluate = train_steps.make_evaluate(
        model, {'accuracy': lambda outputs, y: outputs.argmax(-1) == y})
    state = train_steps.create_state(model, tx, jax.random.key(0), x)
    narrowest, best = np.inf, 0
    # How soon it has learned depends on roundings: of eight seeds, seven were
    # above 0.9 after 750 to 2,750 steps, one not yet after 4,000.
    for lamb, steps in ((10.0, 300), (0.0, 6000)):
      run = train_steps.make_run_steps(train_steps.make_train_step(
          train_steps.make_objective(model, loss_fn, _PENALTY, lamb), tx))
      for start in range(0, steps, 5):
        state = train_steps.update_state_grids(model, state, x)
        state, totals = run(
            state, train_steps.zero_totals(), (x, y), rows, start, start + 5)
        for leaf in jax.tree.leaves((totals, state.variables)):
          self.assertTrue(np.isfinite(np.asarray(leaf)).all())
        for layer in state.grid['KAN_0'].values():
          knots = np.asarray(layer['knots'])
          self.assertGreater(np.diff(knots, axis=1).min(), 0)
          narrowest = min(narrowest, np.ptp(knots, axis=1).min())
        if not lamb and start % 50 == 45:
          best = float(evaluate(state.variables, (x, y))['accuracy'])
          if best > 0.9:
            break
      if lamb:
        collapsed = evaluate(state.variables, (x, y))['accuracy']
    # The penalty did bring the network down: grids began with a width of 4,
    # the knots beyond their ends included.
    self.assertLess(narrowest, 0.1)
    self.assertLess(collapsed, 0.6)
    self.assertGreater(best, 0.9)
