"""The goals' parts, without looking at any time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.speed import goals


@pytest.mark.parametrize(('above', 'verdict'), [(3.0, 'met'), (3.1, 'MISSED')])
def test_a_row_says_whether_the_goal_is_met(above, verdict):
  text = str(goals.Row('a over b', above, 2.0, 1.5))
  assert text.startswith(f'a over b: {above:g} / 2 = ')
  assert text.endswith(f'limit 1.5: {verdict}')


def test_temporary_memory_counts_what_lies_between():
  """Of a sum of products, the products; not the input or the output."""
  def fn(x):
    return jnp.sort(x * 2)[::2].sum()

  x = jax.ShapeDtypeStruct((2**20,), jnp.float32)
  assert 4 <= goals._temporary(fn, x) < 100  # The sorted array has 4 MiB.


def test_a_penalty_does_not_change_the_steps_shape():
  init, step = goals._train_step(0.003)
  x = jax.ShapeDtypeStruct((4, 784), jnp.float32)
  y = jax.ShapeDtypeStruct((4,), jnp.int32)
  state, metrics = jax.eval_shape(step, jax.eval_shape(init, x), (x, y))
  assert state.params['layers_0']['coef'].shape == (784, 8, 64)
  assert metrics['penalty'].shape == ()


def test_the_mnist_job_learns():
  """Steps go on from each other: the same batches, a lower loss."""
  config = goals.configs.CONFIGS['kan']
  rng = np.random.default_rng(0)
  images = rng.random((3, 8, 28, 28), np.float32)
  labels = rng.integers(0, 10, (3, 8), np.int32)
  run = goals._mnist_steps(config, images, labels)
  losses = [float(run()['loss']) for _ in range(12)]
  assert min(np.diff([0.0, *losses])[-3:]) > 0  # Totals add up ...
  assert losses[-1] - losses[-2] < losses[0]  # ... of less and less.


@pytest.mark.parametrize('make', [
    goals._nnx_step, goals._nnx_cached_step, goals._nnx_split_step])
def test_a_step_in_nnx_learns(make, monkeypatch):
  monkeypatch.setattr(goals, '_WIDE', (3, 2))
  run = make(jnp.ones((4, 3)), jnp.zeros(4, jnp.int32))
  losses = [float(run()) for _ in range(3)]
  assert losses[0] > losses[1] > losses[2]
