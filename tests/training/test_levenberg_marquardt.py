"""Levenberg-Marquardt steps against linear algebra."""

from unittest import mock

from absl.testing import parameterized
import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import linen
from kan_jax.splines import _backends
from kan_jax.training import fitting
from kan_jax.training import levenberg_marquardt
from kan_jax.training import optimizers
from kan_jax.training import train_steps

_RNG = np.random.default_rng(0)
_X, _Y = _RNG.normal(size=(7, 3)), _RNG.normal(size=(7, 2))


class Linear(nn.Module):
  """x @ w, rows by themselves; where x is negative it may be NaN."""
  nan: bool = False

  @nn.compact
  def __call__(self, x):
    w = self.param('w', nn.initializers.zeros, (3, 2), x.dtype)
    return (jnp.sqrt(x) if self.nan else x) @ w


def _state(w=None, damping=1e-3):
  return train_steps.TrainState(
      step=jnp.zeros((), jnp.int32), grid={}, opt_state=jnp.asarray(damping),
      params={'w': jnp.zeros((3, 2)) if w is None else jnp.asarray(w)})


def _make_step(model):
  return levenberg_marquardt.make_step(
      levenberg_marquardt.model_residuals(model))


class StepTest(chex.TestCase):

  @parameterized.parameters(
      (2**23, 1024), (12, 1024),  # All rows at once, and two.
      (2**23, 0))  # J'J in parts.
  def test_is_ridge_regression(self, jacobian, split):
    """In a linear model with parameters 0, the damping is a ridge."""
    choices = _backends.choices()._replace(jacobian=jacobian)
    with jax.enable_x64(True), mock.patch.object(
        _backends, 'choices', lambda: choices), mock.patch.object(
            levenberg_marquardt, '_SPLIT', split):
      step = jax.jit(_make_step(Linear()))
      state, metrics = step(_state(), (jnp.asarray(_X), jnp.asarray(_Y)))
      # The mean runs over both outputs of a row.
      ridge = _X.T @ _X / _Y.size + 1e-3 * np.eye(3)
      expected = np.linalg.solve(ridge, _X.T @ _Y / _Y.size)
      np.testing.assert_allclose(state.params['w'], expected, rtol=1e-10)
      np.testing.assert_allclose(metrics['loss'], np.mean(_Y**2), rtol=1e-12)
      self.assertLess(state.opt_state, 1e-3)
      self.assertEqual((state.step, metrics['skipped']), (1, 0))

  def test_damps_until_the_loss_falls(self):
    class Steep(nn.Module):
      @nn.compact
      def __call__(self, x):
        w = self.param('w', nn.initializers.ones, (), x.dtype)
        return jnp.arctan(w) * x

    with jax.enable_x64(True):
      # Newton's iteration for arctan = 0 diverges from beyond 1.39.
      state = train_steps.TrainState(
          step=jnp.zeros((), jnp.int32), params={'w': jnp.asarray(3.0)},
          grid={}, opt_state=jnp.asarray(1e-9))
      batch = jnp.ones((2, 1)), jnp.zeros((2, 1))
      step = jax.jit(_make_step(Steep()))
      seen = [3.0]
      for _ in range(12):
        state, _ = step(state, batch)
        seen.append(float(jnp.abs(state.params['w'])))
      self.assertEqual(seen, sorted(seen, reverse=True))
      self.assertLess(seen[-1], 1e-9)

  def test_stays_at_the_optimum(self):
    with jax.enable_x64(True):
      w = np.linalg.lstsq(_X, _X @ np.ones((3, 2)))[0].round()
      batch = jnp.asarray(_X), jnp.asarray(_X @ w)
      state, metrics = jax.jit(_make_step(Linear()))(
          _state(w), batch)
      np.testing.assert_array_equal(state.params['w'], w)
      self.assertEqual((metrics['loss'], metrics['skipped']), (0, 0))

  def test_not_finite(self):
    x = jnp.asarray(_X, jnp.float32)
    state, metrics = jax.jit(_make_step(Linear(nan=True)))(
        _state(), (x, jnp.ones((7, 2))))
    np.testing.assert_array_equal(state.params['w'], 0)
    self.assertEqual(metrics['skipped'], 1)

  def test_shapes(self):
    step = _make_step(Linear())
    with self.assertRaisesRegex(ValueError, r'\(7,\).*\(7, 2\)'):
      step(_state(), (jnp.ones((7, 3)), jnp.ones(7)))


class FewRowsTest(chex.TestCase):

  @parameterized.parameters({'_SPLIT': 1024}, {'_SPLIT': 0})  # Whole; parts.
  def test_is_ridge_regression(self, **limits):
    """With fewer residuals than parameters, too: 2 rows of 2 against 6."""
    x, y = _X[:2], _Y[:2]
    with jax.enable_x64(True), mock.patch.multiple(
        levenberg_marquardt, **limits):
      state, metrics = jax.jit(_make_step(Linear()))(
          _state(), (jnp.asarray(x), jnp.asarray(y)))
      ridge = x.T @ x / y.size + 1e-3 * np.eye(3)
      np.testing.assert_allclose(
          state.params['w'], np.linalg.solve(ridge, x.T @ y / y.size),
          rtol=1e-10)
      np.testing.assert_allclose(metrics['loss'], np.mean(y**2), rtol=1e-12)

  def test_the_rest_goes_on_smoothly(self):
    """What 12 samples leave open of 103 coefficients, the roughness decides."""
    model = linen.KANLayer(
        1, grid=100, base_fn=jax.nn.identity, param_dtype=jnp.float64)
    with jax.enable_x64(True):
      x = np.cos(np.pi * (np.arange(12) + 0.5) / 12)[:, None]
      variables = model.init(jax.random.key(0), x)
      found = fitting.fit(
          model, variables, x, np.sin(2 * x), steps=30,
          optimizer=optimizers.LevenbergMarquardt(smooth=1e-16), log_every=30,
          update_steps=(), progress=False)
      fine = np.linspace(-1, 1, 301)[:, None]
      error = np.abs(model.apply(found.variables, fine) - np.sin(2 * fine))
    # The interpolating polynomial's error is below 1e-8; the samples alone
    # leave the initial noise, 1e-3, between them.
    self.assertLess(error.max(), 1e-5)


class BendTest(chex.TestCase):

  def test_follows_a_curved_valley(self):
    """Rosenbrock's: steps are few where straight ones are many."""
    class Valley(nn.Module):
      @nn.compact
      def __call__(self, x):
        a, b = self.param('w', lambda _: jnp.asarray([-1.2, 1.0], x.dtype))
        return jnp.stack([100 * (b - a**2), 1 - a])[None] * x

    def loss_after_15_steps():
      with jax.enable_x64(True):
        step = jax.jit(_make_step(Valley()))
        state = _state([-1.2, 1.0])
        batch = jnp.ones((1, 1)), jnp.zeros((1, 2))
        for _ in range(16):
          state, metrics = step(state, batch)
        return float(metrics['loss'])

    bent = loss_after_15_steps()
    with mock.patch.object(
        levenberg_marquardt, '_curvature',
        lambda residuals, flat, along: 0 * flat):
      straight = loss_after_15_steps()
    self.assertLess(bent, 1e-12)
    self.assertGreater(straight, 1e-4)
