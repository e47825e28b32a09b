"""Functions of a model for Linen and its variables, for a model of NNX as well.

  @accept.takes_nnx
  def prune(model, variables, x, ...): ...

  model, variables, report = prune(model, variables, x)  # Linen.
  model, report = prune(model, x)  # NNX; the model is a new one.

Flax NNX is not imported here: where nobody has done so, no model is of it.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import sys
from typing import Any
from typing import overload
from typing import ParamSpec
from typing import Protocol
from typing import TYPE_CHECKING
from typing import TypeVar

from flax import linen as nn

if TYPE_CHECKING:
  from flax import nnx

_P = ParamSpec('_P')
_R_co = TypeVar('_R_co', covariant=True)


class TakesBoth(Protocol[_P, _R_co]):
  """A function that takes a model for NNX in place of model and variables."""

  @overload
  def __call__(
      self, model: 'nnx.Module', /, *args: Any, **kwargs: Any) -> Any: ...

  @overload
  def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R_co: ...


def takes_nnx(fn: Callable[_P, _R_co]) -> TakesBoth[_P, _R_co]:
  """Lets a function take a `kan_jax.nnx.KAN` or `KANLayer`, too.

  Args:
    fn: Function of a model for Linen, its variables, and more. If it returns
      a model and variables, or a tuple that begins with them, a caller with a
      model for NNX gets a new model for NNX in their place. A named tuple keeps
      its variables.
  """
  return _convert(fn, 2)


def takes_nnx_model(fn: Callable[_P, _R_co]) -> TakesBoth[_P, _R_co]:
  """Lets a function of a model without variables take one for NNX, too.

  Args:
    fn: Function of a model for Linen, and more. What it returns is changed as
      by `takes_nnx`; the arrays of the model for NNX are not looked at.
  """
  return _convert(fn, 1)


def _convert(
    call: Callable[..., Any], count: int) -> Callable[..., Any]:
  """Returns `call`, which takes so many of model and variables, for both."""
  @functools.wraps(call)
  def wrapped(*args: Any, **kwargs: Any) -> Any:
    model = args[0] if args else kwargs.get('model')
    if not _is_nnx(model):
      return call(*args, **kwargs)
    kwargs.pop('model', None)
    return _to_nnx(call(*_to_linen(model)[:count], *args[1:], **kwargs))

  return wrapped


def without_arrays(model: Any) -> Any:
  """Returns the model for Linen of a model for NNX; any other as it is."""
  return _to_linen(model)[0] if _is_nnx(model) else model


def as_linen(model: Any, variables: Any = None) -> tuple[Any, Any]:
  """Returns a model for Linen and its variables, of a model for NNX as well."""
  return _to_linen(model) if _is_nnx(model) else (model, variables)


def _is_nnx(model: Any) -> bool:
  if isinstance(model, nn.Module) or 'flax.nnx' not in sys.modules:
    return False
  from flax import nnx
  return isinstance(model, nnx.Module)


def _to_linen(model: Any) -> tuple[Any, dict[str, Any]]:
  from kan_jax.layers.nnx import modules
  pair: tuple[Any, dict[str, Any]] = modules.to_linen(model)
  return pair


def _to_nnx(result: Any) -> Any:
  """Returns the result of a function with a model for NNX in it."""
  if not isinstance(result, tuple) or not isinstance(result[0], nn.Module) or (
      not isinstance(result[1], Mapping)):
    return result
  from kan_jax.layers.nnx import modules
  model: Any = modules.from_linen(*result[:2])
  if hasattr(result, '_replace'):
    return result._replace(model=model)
  return (model, *result[2:]) if result[2:] else model
