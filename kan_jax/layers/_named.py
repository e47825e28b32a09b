"""Names of known functions, by which a model is pickled and saved.

Most functions of JAX are compiled objects: pickle cannot find them again by
itself, and a file must not hold code. So both write a name of this table.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

# Base functions: elementwise, of one array. The names are part of the format of
# saved models: none may go or change its meaning. Flax hands out JAX's.
_OF_NN = (
    'celu', 'elu', 'gelu', 'hard_sigmoid', 'hard_silu', 'hard_tanh', 'identity',
    'leaky_relu', 'log_sigmoid', 'mish', 'relu', 'relu6', 'selu', 'sigmoid',
    'silu', 'soft_sign', 'softplus', 'squareplus', 'tanh')
_OF_NUMPY = (
    'abs', 'arccos', 'arcsin', 'arcsinh', 'arctan', 'arctanh', 'cbrt', 'cos',
    'cosh', 'exp', 'expm1', 'log', 'log1p', 'ones_like', 'reciprocal', 'sign',
    'sin', 'sinc', 'sinh', 'sqrt', 'square', 'tan', 'zeros_like')
FUNCTIONS: Mapping[str, Callable[..., jax.Array]] = {
    name: getattr(module, name)
    for module, names in ((jax.nn, _OF_NN), (jnp, _OF_NUMPY)) for name in names}

INITIALIZERS: Mapping[str, nn.initializers.Initializer] = {
    'fan_in_normal': nn.initializers.variance_scaling(1.0, 'fan_in', 'normal'),
    'ones': nn.initializers.ones,
    'zeros': nn.initializers.zeros,
}


@dataclasses.dataclass(frozen=True)
class _Name:
  """Stands in a pickle for a function of the table."""
  name: str


def find_name(
    function: Any, table: Mapping[str, Callable[..., Any]]) -> str | None:
  """Returns the name of a function in a table; None if it is not there."""
  # By identity: a user's object need not be comparable.
  return next((name for name, known in table.items() if known is function),
              None)


def reduce(instance: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
  """Returns what `__reduce__` of a dataclass returns: how to make it again.

  A Flax module comes back without its parent, like a clone.
  """
  options = {
      field.name: getattr(instance, field.name)
      for field in dataclasses.fields(instance) if field.name != 'parent'}
  if isinstance(instance, nn.Module):
    options['parent'] = None
  return _restore, (type(instance), {
      name: _pack(value) for name, value in options.items()})


def _restore(cls: type[Any], options: Mapping[str, Any]) -> Any:
  table = {**INITIALIZERS, **FUNCTIONS}
  return cls(**{
      name: table[value.name] if isinstance(value, _Name) else value
      for name, value in options.items()})


def _pack(value: Any) -> Any:
  """Returns the name of a known function, any other value as it is."""
  name = find_name(value, {**INITIALIZERS, **FUNCTIONS})
  return value if name is None else _Name(name)
