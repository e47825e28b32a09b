"""Choices for kinds of processors change no result."""

from unittest import mock

import chex
import jax
import jax.numpy as jnp
import pytest

from kan_jax.layers import edges
from kan_jax.splines import _backends
from kan_jax.splines import bsplines


@pytest.fixture(autouse=True)
def forget():
  """Programs keep the choices that they were traced with."""
  jax.clear_caches()
  yield
  jax.clear_caches()


def _results(choices):
  x = jax.random.normal(jax.random.key(0), (11, 3))
  arrays = edges.Edges(
      bsplines.uniform_knots(3, 5, 3), jnp.ones((3, 2)),
      jax.random.normal(jax.random.key(1), (3, 8, 2)),
      *jax.random.normal(jax.random.key(2), (2, 3, 2)))

  def sums(x, e):
    y = edges.node_sums(x, e, 3, jax.nn.silu, 'linear', jnp.float32)
    return y.sum() + edges.statistics(x, e, 3, jax.nn.silu).mean_abs.sum(), y

  with mock.patch.object(_backends, 'choices', lambda: choices):
    return jax.jit(jax.value_and_grad(sums, (0, 1), has_aux=True))(x, arrays)


def test_results_are_the_same():
  """Which B-splines are looked up is compared in test_edges.py."""
  cpu, accelerator = (_results(_backends._TABLE[name])
                      for name in ('cpu', 'gpu'))
  # Sums of at most 88 products of about 1 in float32.
  chex.assert_trees_all_close(accelerator, cpu, rtol=1e-5, atol=2e-5)


def test_every_processor_has_choices():
  assert _backends.choices() == _backends._TABLE['cpu']
  with mock.patch.object(jax, 'default_backend', lambda: 'tpu'):
    assert _backends.choices().many > _backends._TABLE['cpu'].many
  with mock.patch.object(jax, 'default_backend', lambda: 'another'):
    assert _backends.choices() == _backends._TABLE['gpu']
