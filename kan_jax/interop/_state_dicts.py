"""Reads the arrays of a state dict, with errors that name them."""

from collections.abc import Mapping
import re
from typing import Any

import jax.numpy as jnp
import numpy as np


class Arrays:
  """The arrays of a state dict, to be taken one by one.

  Attributes:
    layers: Number of layers that have arrays.
    dtype: JAX's type for all the arrays together.
  """

  def __init__(self, state_dict: Any, pattern: str, example: str):
    """Reads all arrays.

    Args:
      state_dict: Arrays or tensors by name.
      pattern: Regular expression of the names of a layer's arrays; its group is
        the number of the layer.
      example: Name that every state dict of this kind has.
    """
    if not isinstance(state_dict, Mapping):
      raise ValueError(
          '`state_dict` maps names to arrays, like `model.state_dict()`; got a '
          f'{type(state_dict).__name__}.')
    numbers = {match[1] for name in state_dict
               if (match := re.match(pattern, str(name)))}
    if not numbers:
      raise ValueError(
          f'`state_dict` needs names like {example!r}; got '
          f'{list(state_dict)[:5]}. Is it of another kind of model, or are the '
          'names inside a larger one, with a prefix to cut off?')
    self.layers = len(numbers)
    # Compared as text: a number from elsewhere may have any size.
    unknown = numbers - {str(k) for k in range(self.layers)}
    if unknown:
      raise ValueError(
          f'`state_dict` numbers its {self.layers} layers from 0 to '
          f'{self.layers - 1}; got a layer {min(unknown)[:20]}.')
    self._left = {str(name): _as_array(name, value)
                  for name, value in state_dict.items()}
    self.dtype = jnp.result_type(*self._left.values())

  def __contains__(self, name: str) -> bool:
    return name in self._left

  def shape(self, name: str) -> tuple[int, ...] | None:
    """Returns the shape of an array, None if there is none of that name."""
    return self._left[name].shape if name in self._left else None

  def take(self, name: str, *shape: int | str) -> np.ndarray:
    """Returns an array as float64, in which nothing more is rounded.

    Args:
      name: Name of the array.
      *shape: Lengths of its axes. A string stands for any length and says what
        is counted.
    """
    actual = self.shape(name)
    if actual is None or len(actual) != len(shape) or any(
        n < 1 if isinstance(expected, str) else n != expected
        for n, expected in zip(actual, shape, strict=True)):
      raise ValueError(
          f'`state_dict` needs {name!r} with the shape '
          f'[{", ".join(map(str, shape))}]; got '
          f'{"no such name" if actual is None else list(actual)}.')
    return self._left.pop(name).astype(np.float64)

  def check_all_taken(self) -> None:
    """Raises a ValueError if arrays are left that nobody took."""
    if self._left:
      raise ValueError(
          '`state_dict` has what no model of this layout has: '
          f'{", ".join(sorted(self._left)[:5])}.')


def _as_array(name: str, value: Any) -> np.ndarray:
  """Returns an array or a tensor as a floating numpy array."""
  try:
    if hasattr(value, 'detach'):  # A tensor, perhaps on a GPU.
      value = value.detach().cpu().numpy()
    array = np.asarray(value)
  except (TypeError, ValueError) as error:  # bfloat16 in torch; ragged lists.
    raise ValueError(
        f'`state_dict` needs arrays that numpy can hold; {name!r} is '
        f'{getattr(value, "dtype", type(value).__name__)}.') from error
  if not jnp.issubdtype(array.dtype, jnp.floating):
    raise ValueError(
        f'`state_dict` needs floating arrays; {name!r} is {array.dtype}.')
  if not np.isfinite(array).all():
    raise ValueError(
        f'`state_dict` needs finite numbers; {name!r} has NaN or infinity.')
  return array
