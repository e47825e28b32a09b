"""Optimizers: any optax transform trains, through grid updates and refinement.
"""

import functools

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax import compiling
from kan_jax.layers import linen
from kan_jax.training import fitting
from kan_jax.training import optimizers
from kan_jax.training import refinement
from kan_jax.training import train_steps

_X = jnp.linspace(-1, 1, 40, dtype=jnp.float32)[:, None]
_Y = jnp.sin(3 * _X)
_MODEL = linen.KANLayer(1, grid=3)
_VARIABLES = networks.layer(1, 1, grid=3, scale=0.1)
_fit = functools.partial(
    fitting.fit, _MODEL, _VARIABLES, _X, _Y, progress=False,
    compiler_options=compiling.QUICK)


def _by_name(params):
  return jax.tree.map_with_path(
      lambda path, _: 'adam' if path[-1].key == 'coef' else 'sgd', params)


def _mask(kept):
  return lambda params: jax.tree.map_with_path(
      lambda path, _: (path[-1].key == 'coef') == kept, params)


_TRANSFORMS = {
    'reduce_on_plateau': lambda: optax.chain(
        optax.adam(0.05), optax.contrib.reduce_on_plateau()),
    'polyak_sgd': lambda: optax.polyak_sgd(max_learning_rate=0.1),
    'backtracking': lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10)),
    'lbfgs': lambda: optax.lbfgs(memory_size=20),
    'multi_transform': lambda: optax.multi_transform(
        {'adam': optax.adam(0.05), 'sgd': optax.sgd(0.05, momentum=0.5)},
        _by_name),
    'masked': lambda: optax.chain(
        optax.masked(optax.adam(0.05), _mask(True)),
        optax.masked(optax.set_to_zero(), _mask(False))),
    'muon': lambda: optax.contrib.muon(0.05),
    'adafactor': lambda: optax.adafactor(0.1, min_dim_size_to_factor=2),
    'inject_hyperparams': lambda: optax.inject_hyperparams(optax.adam)(0.05),
}


class OptaxTest(parameterized.TestCase):

  @parameterized.parameters(*_TRANSFORMS)
  def test_trains(self, name):
    fitted = _fit(optimizer=_TRANSFORMS[name](), steps=10, log_every=5,
                  update_steps=())
    self.assertEqual(fitted.reason, 'steps')
    self.assertLess(
        fitted.history['loss'][-1], 0.95 * fitted.history['loss'][0])

  @parameterized.parameters(*_TRANSFORMS)
  def test_refines(self, name):
    optimizer = optimizers.OptaxTransform(_TRANSFORMS[name]())
    model, state = optimizer.refine(
        _MODEL, networks.state(_VARIABLES, optimizer), 6)
    self.assertEqual(model.grid, 6)
    chex.assert_trees_all_equal_shapes(
        state.opt_state, optimizer.init(state.params))

  def test_fit_refines_what_is_masked(self):
    fitted = _fit(optimizer=_TRANSFORMS['masked'](), steps=4, log_every=4,
                  update_steps=(0,), refine=(3, 6))
    self.assertEqual((fitted.model.grid, fitted.reason), (6, 'steps'))
    self.assertLess(fitted.history['loss'][-1], fitted.history['loss'][0])

  def test_lbfgs_of_ones_own_forgets_at_a_grid_update(self):
    """As `LBFGS` does: two updates in one fit are two fits with one each."""
    tx = optax.lbfgs(memory_size=5)
    options = {'optimizer': tx, 'log_every': 3}
    once = _fit(steps=6, update_steps=(0, 3), **options)
    first = _fit(steps=3, update_steps=(0,), **options)
    second = fitting.fit(
        _MODEL, first.variables, _X, _Y, steps=3, update_steps=(0,),
        progress=False, compiler_options=compiling.QUICK, **options)
    chex.assert_trees_all_equal(once.variables, second.variables)

  def test_lbfgs_on_other_batches(self):
    """A step never takes value or gradient from an earlier batch."""
    tx = optax.lbfgs(memory_size=3)
    step = jax.jit(train_steps.make_train_step(
        train_steps.make_objective(_MODEL, optimizers.squared_error), tx))
    state = networks.state(_VARIABLES, tx)
    for batch in ((_X[:20], _Y[:20]), (_X[20:], 5 + _Y[20:])):
      expected = np.square(
          _MODEL.apply(state.variables, batch[0]) - batch[1]).mean()
      state, metrics = step(state, batch)
      np.testing.assert_allclose(metrics['loss'], expected, rtol=1e-5)
      grad = jax.tree.leaves(state.opt_state[0].updates)
    self.assertGreater(max(np.abs(leaf).max() for leaf in grad), 1)

  @parameterized.parameters(False, True)
  def test_a_fresh_state_can_be_donated(self, jit):
    """optax.lbfgs() keeps the same zeros twice; a donated state must not."""
    tx = optax.lbfgs(memory_size=3)
    create = functools.partial(train_steps.create_state, _MODEL, tx)
    state = (jax.jit(create) if jit else create)(jax.random.key(0), _X)
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state)]
    self.assertLen(set(buffers), len(buffers))
    if jit:
      return
    run = train_steps.make_run_steps(train_steps.make_train_step(
        train_steps.make_objective(_MODEL, optimizers.squared_error), tx))
    state, totals = run(state, train_steps.zero_totals(), (_X, _Y),
                        np.arange(40)[None], 0, 1)
    self.assertEqual((state.step, totals['skipped']), (1, 0))

  def test_no_nan_is_made_of_finite_data(self):
    """Not as a marker either: `jax_debug_nans` would end the fit."""
    with jax.debug_nans(True):
      fitted = _fit(optimizer=optax.adam(0.01), steps=4, log_every=2,
                    update_steps=(0,))
    self.assertEqual(fitted.reason, 'steps')


class ProtocolTest(parameterized.TestCase):

  def test_an_optimizer_of_ones_own(self):
    class Signs(optimizers.OptaxTransform):
      """Restarts count the grid updates."""
      restarts = 0

      def restart(self, opt_state, params):
        Signs.restarts += 1
        return super().restart(opt_state, params)

    fitted = _fit(optimizer=Signs(optax.sign_sgd(0.01)), steps=4, log_every=2,
                  update_steps=(0, 1, 3))
    self.assertEqual(Signs.restarts, 3)
    self.assertLess(fitted.history['loss'][-1], fitted.history['loss'][0])

  def test_equal_options_share_a_program(self):
    for make in (optimizers.LBFGS, optimizers.LevenbergMarquardt):
      one, same = (make(frozen=frozen) for frozen in (['coef'], ('coef',)))
      self.assertEqual((one, hash(one)), (same, hash(same)))
      self.assertNotEqual(one, make())


class MomentsTest(parameterized.TestCase):

  def test_adams_moments_shrink(self):
    """By the ratio of the intervals, and its square, beside the spreading."""
    tx = optax.adam(0.01)
    state = networks.state(_VARIABLES, tx)
    ones = jax.tree.map(jnp.ones_like, state.params)
    adam = state.opt_state[0]._replace(
        mu=ones, nu=jax.tree.map(lambda a: 2 * a, ones))
    state = state.replace(opt_state=(adam, *state.opt_state[1:]))
    _, new = refinement.refine_state(_MODEL, state, 12, tx)
    # Equal coefficients stay equal on the finer grid.
    np.testing.assert_allclose(new.opt_state[0].mu['coef'], 3 / 12, rtol=1e-5)
    np.testing.assert_allclose(
        new.opt_state[0].nu['coef'], 2 * (3 / 12)**2, rtol=1e-5)
    np.testing.assert_array_equal(new.opt_state[0].mu['scale_base'], 1)

  def test_a_model_without_the_attribute(self):
    class Net(linen.nn.Module):
      @linen.nn.compact
      def __call__(self, x):
        return linen.KANLayer(1, grid=3)(x)

    tx = optax.adam(0.01)
    state = train_steps.create_state(Net(), tx, jax.random.key(0), _X)
    with self.assertRaisesRegex(ValueError, 'attribute `grid`'):
      refinement.refine_state(Net(), state, 6, tx)
    new = refinement.refine_state_arrays(state, 6, tx)
    chex.assert_trees_all_equal_shapes(new.opt_state, tx.init(new.params))
