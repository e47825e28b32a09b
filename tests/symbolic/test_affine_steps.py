"""Variable projection, against numpy's own least squares."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kan_jax.symbolic import _affine_steps

_RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def float64():
  with jax.enable_x64(True):
    yield


def test_projection_is_linear_regression():
  f, target = _RNG.normal(size=(2, 50))
  c, error = _affine_steps.project(jnp.asarray(f), jnp.asarray(target))
  columns = np.stack([f, np.ones(50)], 1)
  solution, _, _, _ = np.linalg.lstsq(columns, target)
  np.testing.assert_allclose(c[0], solution[0], rtol=1e-12)
  np.testing.assert_allclose(error, target - columns @ solution, atol=1e-12)


def test_projection_on_a_constant_leaves_the_mean():
  target = _RNG.normal(size=20)
  c, error = _affine_steps.project(jnp.full(20, 3.0), jnp.asarray(target))
  assert c[0] == 0
  np.testing.assert_allclose(error, target - target.mean(), atol=1e-12)


def test_correlation():
  f, v = _RNG.normal(size=(2, 40))
  v -= v.mean()
  np.testing.assert_allclose(
      _affine_steps.correlation(jnp.asarray(f), jnp.asarray(v)),
      np.corrcoef(f, v)[0, 1]**2, rtol=1e-10)
  for flat in jnp.ones(40), jnp.full(40, jnp.nan):
    assert _affine_steps.correlation(flat, jnp.asarray(v)) == 0


def test_steps_lead_to_the_frequency():
  u = np.linspace(-1, 1, 100)[None]
  v = np.sin(3 * u + 0.5)
  v = (v - v.mean()) / v.std()

  def at(point):
    z = point[..., :1] * u[:, None] + point[..., 1:]
    return _affine_steps.linearize(point, jnp.sin(z), jnp.cos(z), u, v)

  state = at(jnp.array([[[2.6, 0.3]]]))
  for _ in range(20):
    state = _affine_steps.choose(state, at(_affine_steps.propose(state)))
  np.testing.assert_allclose(state.point[0, 0], [3, 0.5], atol=1e-8)
  assert state.cost[0, 0] < 1e-16
