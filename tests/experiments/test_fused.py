"""The kernel that joins B-splines and products, without a device for it."""

from helpers import lowering
import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed import fused
from kan_jax.layers import edges

_ORDER = 3


def _edges(inputs, outputs, size=8):
  """Random edges, with knots that are not equally spaced."""
  rng = np.random.default_rng(0)
  steps = rng.uniform(0.1, 0.4, (inputs, size + _ORDER + 1))
  knots = steps.cumsum(1) - steps.sum(1, keepdims=True) / 2
  arrays = (knots, rng.random((inputs, outputs)) > 0.3,
            rng.normal(size=(inputs, size, outputs)),
            *rng.normal(size=(2, inputs, outputs)))
  return edges.Edges(*(jnp.asarray(a, jnp.float32) for a in arrays))


def test_equals_the_layer():
  """Neither rows, inputs nor outputs fill their tiles; some x are outside."""
  x = jax.random.normal(jax.random.key(0), (70, 5))
  arrays = _edges(5, 3)
  found, expected = jax.jit(lambda x, arrays: (
      fused.node_sums(x, arrays, _ORDER, jax.nn.silu, interpret=True),
      edges.node_sums(
          x, arrays, _ORDER, jax.nn.silu, 'zero', jnp.float32)))(x, arrays)
  # Sums of 45 products of about 1 in float32.
  np.testing.assert_allclose(found, expected, atol=2e-5)


def test_lowers_to_one_kernel():
  """For CUDA; Triton refuses what it does not have, or what has odd sizes."""
  traced = jax.jit(lambda x, arrays: fused.node_sums(
      x, arrays, _ORDER, jax.nn.silu)).trace(
          jnp.zeros((70, 5)), _edges(5, 3))
  text = traced.lower(lowering_platforms=('cuda',)).as_text()
  assert sum('triton' in call for call in lowering.calls(text)) == 1
  assert not lowering.products(text)
