"""What a fit to a table minimizes: losses of rows, and the prior."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from kan_jax.training import train_steps

# A straight line is what is left of a spline under a strong prior.
_ROUGHNESS, _SPLINE, _LINE = 1.0, 0.1, 1.0


def squared(outputs: jax.Array, y: jax.Array) -> jax.Array:
  """Returns half the squared error of each row, summed over outputs, [n]."""
  return optax.l2_loss(outputs, y).sum(-1)


def sigmoid(outputs: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the cross entropy of log-odds [n, 1] and targets 0 or 1, [n]."""
  return optax.sigmoid_binary_cross_entropy(outputs, y)[:, 0]


# The cross entropy of log-odds and the share of each class, both [n, classes].
softmax: train_steps.LossFn = optax.softmax_cross_entropy


def prior(params: Mapping[str, Any]) -> jax.Array:
  """Minus the logarithm of the prior's density, up to a constant, []."""
  total = jnp.zeros(())
  for layer in params.values():
    coef = layer['coef']
    for weight, leaf in ((_ROUGHNESS, jnp.diff(coef, 2, axis=1)),
                         (_SPLINE, coef), (_LINE, layer['scale_base'])):
      total += weight / 2 * jnp.square(leaf).sum()
  return total
