"""Functions that an edge may turn out to be, each with its sympy twin.

Outside its domain a function is NaN or infinite, in float32 and in float64. It
never returns a guarded value there, so a fit notices that it does not apply.
sympy is imported when a formula is made, not before.
"""

from collections.abc import Callable
from collections.abc import Iterable
import dataclasses
import functools
import importlib
from typing import Any

import jax
import jax.numpy as jnp

from kan_jax.layers import _named


@dataclasses.dataclass(frozen=True)
class Function:
  """One candidate for an edge.

  Attributes:
    name: What users call it.
    fn: The function, elementwise on floating arrays of any shape, in jax.numpy.
    to_sympy: The same function of a sympy expression.
    complexity: Cost in the ranking of candidates, >= 0.
  """
  name: str
  fn: Callable[[jax.Array], jax.Array]
  to_sympy: Callable[[Any], Any]
  complexity: float = 1

  def __post_init__(self):
    if not self.name or not isinstance(self.name, str):
      raise ValueError(f'`name` is a string, not empty; got {self.name!r}.')
    if not self.complexity >= 0:
      raise ValueError(
          f'`complexity` of {self.name} is a number >= 0; got '
          f'{self.complexity!r}.')

  def __repr__(self):
    return f'Function({self.name!r}, complexity={self.complexity})'

  def __reduce__(self):
    if shorten(self) == self.name:
      return find, (self.name,)
    return _named.reduce(self)


def _power(x: jax.Array, *, exponent: float) -> jax.Array:
  return x**exponent


def _gaussian(x: jax.Array) -> jax.Array:
  return jnp.exp(-x**2)


def _call_sympy(name: str, z: Any) -> Any:
  """Applies the function of that name in sympy."""
  return getattr(importlib.import_module('sympy'), name)(z)


def _sympy(name: str) -> Callable[[Any], Any]:
  """The function of that name in sympy, looked up when it is called."""
  return functools.partial(_call_sympy, name)


def _call_sympy_power(numerator: int, denominator: int, z: Any) -> Any:
  sympy = importlib.import_module('sympy')
  return z**sympy.Rational(numerator, denominator)


def _sympy_power(numerator: int, denominator: int = 1) -> Callable[[Any], Any]:
  return functools.partial(_call_sympy_power, numerator, denominator)


def _powers() -> Iterable[Function]:
  """Yields whole powers from the first to the fifth, and their inverses."""
  for k in range(1, 6):
    up, down = (functools.partial(_power, exponent=e) for e in (k, -k))
    yield Function('x' if k == 1 else f'x^{k}', up, _sympy_power(k), min(k, 3))
    yield Function('1/x' if k == 1 else f'1/x^{k}', down, _sympy_power(-k),
                   max(k, 2))


def _sympy_zero(z: Any) -> Any:
  return 0 * z


def _sympy_sigmoid(z: Any) -> Any:
  return 1 / (1 + _sympy('exp')(-z))


def _sympy_gaussian(z: Any) -> Any:
  return _sympy('exp')(-z**2)


# Complexities are those of pykan 0.2; sigmoid and cosh follow tanh.
LIBRARY: tuple[Function, ...] = (
    Function('0', jnp.zeros_like, _sympy_zero, 0),
    *_powers(),
    Function('sqrt', jnp.sqrt, _sympy('sqrt'), 2),
    Function('1/sqrt', jax.lax.rsqrt, _sympy_power(-1, 2), 2),
    Function('x^1.5', functools.partial(_power, exponent=1.5),
             _sympy_power(3, 2), 4),
    Function('exp', jnp.exp, _sympy('exp'), 2),
    Function('log', jnp.log, _sympy('log'), 2),
    Function('sin', jnp.sin, _sympy('sin'), 2),
    Function('cos', jnp.cos, _sympy('cos'), 2),
    Function('abs', jnp.abs, _sympy('Abs'), 3),
    Function('tan', jnp.tan, _sympy('tan'), 3),
    Function('tanh', jnp.tanh, _sympy('tanh'), 3),
    Function('sigmoid', jax.nn.sigmoid, _sympy_sigmoid, 3),
    Function('sgn', jnp.sign, _sympy('sign'), 3),
    Function('gaussian', _gaussian, _sympy_gaussian, 3),
    Function('cosh', jnp.cosh, _sympy('cosh'), 3),
    Function('arcsin', jnp.arcsin, _sympy('asin'), 4),
    Function('arccos', jnp.arccos, _sympy('acos'), 4),
    Function('arctan', jnp.arctan, _sympy('atan'), 4),
    Function('arctanh', jnp.arctanh, _sympy('atanh'), 4),
)

_BY_NAME = {function.name: function for function in LIBRARY}


def find(
    name: str | Function, library: Iterable[Function] = LIBRARY) -> Function:
  """Returns the function of a name; a `Function` is returned as it is.

  Raises:
    ValueError: If `library` has no function of that name.
  """
  if isinstance(name, Function):
    return name
  names = _BY_NAME if library is LIBRARY else {f.name: f for f in library}
  if name not in names:
    raise ValueError(
        f'`name` is one of {", ".join(names)}, or a Function; got {name!r}.')
  return names[name]


def shorten(function: Function) -> str | Function:
  """Returns the name of a function of `LIBRARY`, any other as it is."""
  own = _BY_NAME.get(function.name) != function
  return function if own else function.name
