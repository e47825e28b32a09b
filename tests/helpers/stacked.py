"""KAN layers that Flax's lifted transforms stack, and the same in a loop."""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from kan_jax.layers import linen

AXES = {'params': 0, 'grid': 0, 'edges': 0}


class _Step(nn.Module):
  """A KANLayer as the body of a scan over layers."""
  features: int
  grid: int

  @nn.compact
  def __call__(self, x, _):
    return linen.KANLayer(self.features, grid=self.grid, name='kan')(x), None


class Scanned(nn.Module):
  """Layers of equal shape, one program for all: parameters [layers, ...]."""
  layers: int = 3
  features: int = 2
  grid: int = 3

  @nn.compact
  def __call__(self, x):
    stack = nn.scan(
        _Step, variable_axes=AXES, split_rngs={'params': True},
        length=self.layers)
    return stack(self.features, self.grid, name='stack')(x, None)[0]


def members(size: int, features: Any = (2, 3, 1), **options: Any) -> nn.Module:
  """Returns an ensemble of KANs on the same rows, [n, in] -> [size, n, out]."""
  ensemble = nn.vmap(
      linen.KAN, variable_axes=AXES, split_rngs={'params': True}, in_axes=None,
      axis_size=size)
  return ensemble(features, **options)


def unstack(variables: Any, k: int) -> Any:
  """Returns the variables of one of the layers or members."""
  return jax.tree.map(lambda array: jnp.asarray(array)[k], variables)
