"""What the program on deep KANs measures, on small ones."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.accuracy import depth
from kan_jax.layers import linen


def test_signals():
  """Those of the first layer are known: the inputs, and their gradients."""
  model = linen.KAN([3, 4, 2], grid=2, order=1)
  x = jax.random.uniform(jax.random.key(0), (6, 3), minval=-1)
  y = jnp.array([0, 1] * 3)
  variables = jax.jit(model.init)(jax.random.key(1), x)
  signals, gradients = depth.measure_signals(model, variables, x, y)
  slope = jax.jit(jax.grad(
      lambda x: optax.softmax_cross_entropy_with_integer_labels(
          model.apply(variables, x), y).sum()))(x)
  assert signals.shape == gradients.shape == (2,)
  np.testing.assert_allclose(signals[0], x.std(0).mean(), rtol=1e-5)
  np.testing.assert_allclose(
      gradients[0], jnp.sqrt((slope**2).mean()), rtol=1e-5)
  assert (gradients > 0).all()


def test_residual_layers_add():
  """Without its inner layers, a network is its first layer and its last."""
  model = depth.ResidualKAN(4, 3, 2)
  x = jnp.linspace(-1, 1, 6).reshape(2, 3)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  layers = variables['params']
  layers['KANLayer_1'] = jax.tree.map(jnp.zeros_like, layers['KANLayer_1'])

  def apply(layer, name, x):
    return layer.apply(
        {kind: variables[kind][name] for kind in ('params', 'grid')}, x)

  hidden = apply(linen.KANLayer(4), 'KANLayer_0', x)
  expected = apply(
      linen.KANLayer(2, grid_range=(-2.0, 2.0)), 'KANLayer_2',
      nn.LayerNorm().apply({'params': layers['LayerNorm_1']}, hidden))
  np.testing.assert_allclose(model.apply(variables, x), expected, rtol=1e-5)
