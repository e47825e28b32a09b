"""Laws as text: name | formula | variable low high ; ...

Formulas are read, not run: whoever writes the file cannot make Python do more
than arithmetic.
"""

import ast
from collections.abc import Callable
from collections.abc import Collection
import operator
from typing import Any
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax import symbolic

FUNCTIONS = {name: getattr(sympy, name) for name in (
    'sqrt', 'exp', 'log', 'sin', 'cos', 'tan', 'asin', 'acos', 'atan', 'sinh',
    'cosh', 'tanh')}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow}
_MOST_BITS = 1000  # Of a whole number; powers of powers would take for ever.
_BROKEN = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo, sympy.I)


class Law(NamedTuple):
  """One law.

  Attributes:
    name: What it is called.
    expression: The formula in symbols.
    ranges: Least and greatest value of each variable, by name.
  """
  name: str
  expression: sympy.Expr
  ranges: dict[str, tuple[float, float]]

  def sample(
      self, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Returns inputs [rows, in] and targets [rows]."""
    low, high = np.array(list(self.ranges.values())).T
    x = rng.uniform(low, high, (rows, len(low)))
    return x, symbolic.lambdify([self.expression], list(self.ranges))(x)[:, 0]


def parse(text: str) -> list[Law]:
  """Reads laws, one a line; empty lines and those that begin with # are none.

  Raises:
    ValueError: If a line is no law; it names the line.
  """
  lines = [line for line in text.splitlines()
           if line.strip() and not line.startswith('#')]
  return [_parse_line(line) for line in lines]


def _parse_line(line: str) -> Law:
  try:
    name, formula, rest = (part.strip() for part in line.split('|'))
    ranges = {}
    for variable in rest.split(';'):
      symbol, low, high = variable.split()
      ranges[symbol] = float(low), float(high)
  except ValueError as error:
    raise ValueError(
        f'a law is: name | formula | variable low high ; ...; got {line!r}'
    ) from error
  try:
    return Law(name, read(formula, ranges), ranges)
  except ValueError as error:
    raise ValueError(f'law {name!r}: {error}') from error


def read(text: str, names: Collection[str]) -> sympy.Expr:
  """Reads a formula: numbers, names, + - * / **, brackets and functions.

  Args:
    text: The formula, as in `a*sin(pi*b)**2`.
    names: What may be a variable. These come before `pi` and before functions.

  Raises:
    ValueError: If the text is anything else.
  """
  try:
    expression = _build(ast.parse(text.strip(), mode='eval').body, names)
  except (SyntaxError, RecursionError, MemoryError) as error:
    raise ValueError(f'no formula: {text!r}') from error
  if expression.has(*_BROKEN):
    raise ValueError(f'{text!r} is not finite, or not real')
  return expression


def _build(node: ast.AST, names: Collection[str]) -> sympy.Expr:
  """Returns the expression of one node of the syntax tree."""
  match node:
    case ast.Constant(value=int() | float() as value) if not isinstance(
        value, bool):
      return sympy.sympify(value)
    case ast.Name(id=name) if name in names:
      return sympy.Symbol(name)
    case ast.Name(id='pi'):
      return sympy.pi
    case ast.UnaryOp(op=ast.USub(), operand=part):
      return -_build(part, names)
    case ast.UnaryOp(op=ast.UAdd(), operand=part):
      return _build(part, names)
    case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
      return _join(type(op), _build(left, names), _build(right, names))
    case ast.Call(func=ast.Name(id=name), args=[part], keywords=[]) if (
        name in FUNCTIONS and name not in names):
      return FUNCTIONS[name](_build(part, names))
  raise ValueError(
      f'{ast.unparse(node)!r} is none of: numbers, the variables '
      f'{", ".join(names)}, pi, + - * / **, and {", ".join(FUNCTIONS)} of one '
      'argument')


def _join(kind: type, left: sympy.Expr, right: sympy.Expr) -> sympy.Expr:
  if kind is ast.Pow and left.is_Rational and right.is_Rational:
    size = max(abs(left.p), left.q)
    if abs(float(right)) * np.log2(float(size)) > _MOST_BITS:
      raise ValueError(f'{left}**{right} is too large')
  return _OPERATORS[kind](left, right)
