"""Variables of KANs for tests: known sizes, and nothing is compiled for them.
"""

from collections.abc import Sequence
import itertools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax.training import train_steps


def layer(
    size: int, out: int, *, grid: int = 5, order: int = 3, low: float = -1,
    high: float = 1, scale: float = 1.0, seed: int = 0,
    dtype: jax.typing.DTypeLike = jnp.float32) -> dict[str, Any]:
  """Returns the variables of a KANLayer with random splines of size `scale`."""
  rng = np.random.default_rng(seed)
  step = (high - low) / grid
  knots = low + step * np.arange(-order, grid + order + 1)
  arrays = {
      'params': {
          'coef': scale * rng.normal(size=(size, grid + order, out)),
          'scale_base': rng.normal(size=(size, out)) / np.sqrt(size),
          'scale_spline': np.ones((size, out)),
          'node_bias': np.zeros(out)},
      'grid': {'knots': np.tile(knots, (size, 1)),
               'mask': np.ones((size, out))}}
  return jax.tree.map(lambda a: jnp.asarray(a, dtype), arrays)


def kan(features: Sequence[int], **options) -> dict[str, Any]:
  """Returns the variables of a KAN; see `layer` for the options."""
  return stack(*(layer(size, out, **{'seed': i} | options)
                 for i, (size, out) in enumerate(itertools.pairwise(features))))


def stack(*made: dict[str, Any]) -> dict[str, Any]:
  """Returns the variables of a KAN with these layers."""
  return {kind: {f'layers_{i}': arrays[kind] for i, arrays in enumerate(made)}
          for kind in ('params', 'grid')}


def random(
    model: nn.Module, size: int = 2, seed: int = 0) -> dict[str, Any]:
  """Returns random variables of a model of `size` inputs, or channels."""
  space = getattr(model, 'reach', ())  # Of a convolution.
  shapes = jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros((1, *space, size)))
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes)


def state(
    variables: dict[str, Any],
    tx: optax.GradientTransformation) -> train_steps.TrainState:
  """Returns where training begins, in arrays that may be given away."""
  variables = jax.tree.map(jnp.array, variables)
  return train_steps.TrainState(
      step=jnp.zeros((), jnp.int32), **variables,
      opt_state=tx.init(variables['params']))
