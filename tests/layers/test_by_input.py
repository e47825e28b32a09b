"""Inputs turned, moved in memory or not, and where that is not asked for."""

import chex
import jax
from jax import export
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import _by_input

# So many that they are moved, and too few.
_X = jnp.arange(3.0 * _by_input._MANY).reshape(-1, 3)
_FEW = _X[:4]


def _lowered(x):
  return jax.jit(_by_input.turn).lower(x).as_text()


def test_values():
  for x in (_X, _FEW, _X.astype(jnp.bfloat16)):
    turned = jax.jit(_by_input.turn)(x)
    np.testing.assert_array_equal(turned, np.asarray(x).T)
    np.testing.assert_array_equal(_by_input.turn(x), np.asarray(x).T)


def test_derivatives():
  """It is linear, in both modes, and under `vmap`."""
  def total(x):
    return jnp.sum(jnp.sin(_by_input.turn(x)))

  chex.assert_trees_all_close(jax.jit(jax.grad(total))(_X), jnp.cos(_X))
  _, slope = jax.jvp(_by_input.turn, (_X,), (2 * _X,))
  chex.assert_trees_all_equal(slope, 2 * _X.T)
  many = jnp.stack([_X, -_X])
  chex.assert_trees_all_equal(
      jax.jit(jax.vmap(_by_input.turn))(many), many.swapaxes(1, 2))


def test_only_many_are_moved():
  assert 'LayoutConstraint' in _lowered(_X)
  assert 'LayoutConstraint' not in _lowered(_FEW)


def test_exported_programs_do_not_ask():
  """A call that may mean something else in a later version is no part."""
  program = export.export(jax.jit(_by_input.turn))(_X)
  np.testing.assert_array_equal(
      export.deserialize(program.serialize()).call(_X), _X.T)


def test_programs_for_several_devices_do_not_ask():
  """Rows that are split would be gathered first."""
  mesh = jax.sharding.AbstractMesh((2,), ('rows',))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('rows'))
  traced = jax.jit(_by_input.turn).trace(
      jax.ShapeDtypeStruct(_X.shape, _X.dtype, sharding=rows))
  text = traced.lower(lowering_platforms=('cpu',)).as_text()
  assert 'LayoutConstraint' not in text


def test_other_processors_do_not_ask():
  text = jax.jit(_by_input.turn).trace(_X).lower(
      lowering_platforms=('cuda',)).as_text()
  assert 'LayoutConstraint' not in text
