"""Expressions of sympy as functions of arrays, as LaTeX and as MathML.

Symbols may have any names, as the columns of a table do: `sin`, `pi`, `lambda`,
`mass (kg)`.
"""

from collections.abc import Callable
from collections.abc import Sequence
import html
import re
from typing import Any
from typing import Literal

import jax.numpy as jnp
import numpy as np
import sympy

Names = Sequence[str | sympy.Symbol]

# Without pi: as the name of a column it must not look like the number.
_GREEK = frozenset((
    'alpha', 'beta', 'gamma', 'delta', 'epsilon', 'zeta', 'eta', 'theta',
    'iota', 'kappa', 'lambda', 'mu', 'nu', 'xi', 'rho', 'sigma', 'tau',
    'upsilon', 'phi', 'chi', 'psi', 'omega', 'Gamma', 'Delta', 'Theta',
    'Lambda', 'Xi', 'Pi', 'Sigma', 'Upsilon', 'Phi', 'Psi', 'Omega'))
# Parentheses of sympy 1.12, which browsers do not know; the innermost ones.
_FENCED = re.compile(
    '<mfenced([^>]*)>((?:(?!</?mfenced).)*)</mfenced>', re.DOTALL)
_SUBSCRIPTED = re.compile(r'([A-Za-z]+)(\d*)((?:_[A-Za-z0-9]+)*)')
_ESCAPED = {character: f'\\{character}' for character in '#$%&_{}'} | {
    '\\': r'\textbackslash{}', '^': r'\textasciicircum{}',
    '~': r'\textasciitilde{}', '<': r'\textless{}', '>': r'\textgreater{}',
    '|': r'\textbar{}'}


def make_symbols(names: Names | None, count: int) -> list[sympy.Symbol]:
  """Returns a symbol for each input; x_0, x_1, ... by default.

  Raises:
    ValueError: If `names` does not have `count` different names.
  """
  names = [f'x_{i}' for i in range(count)] if names is None else list(names)
  if not len(names) == len({str(name) for name in names}) == count:
    raise ValueError(
        f'`names` has another name for each of the {count} inputs; got '
        f'{names}.')
  return [name if isinstance(name, sympy.Basic) else sympy.Symbol(name)
          for name in names]


def lambdify(
    expressions: Sequence[sympy.Expr], names: Names | None = None, *,
    inputs: int | None = None,
    backend: Literal['numpy', 'jax'] = 'numpy') -> Callable[[Any], Any]:
  """Returns a function of arrays [..., in] -> [..., len(expressions)].

      call = lambdify([expression], ['mass', 'speed'])
      values = call(x)[..., 0]

  Args:
    expressions: Expressions, as from `formula`.
    names: Names of the inputs, as given to `formula`. A string stands for every
      symbol of that name. By default x_0, x_1, ..., and then `inputs` is
      needed.
    inputs: How many inputs there are.
    backend: What the function computes with. 'jax' can be jitted and
      differentiated.

  Raises:
    ValueError: If an expression has a symbol that is no input, or an argument
      is not what it says.
  """
  if backend not in ('numpy', 'jax'):
    raise ValueError(f"`backend` is 'numpy' or 'jax'; got {backend!r}.")
  if names is None and inputs is None:
    raise ValueError('`names` or `inputs` says what the arguments are; got '
                     'neither.')
  count = len(names or ()) if inputs is None else inputs
  arguments, tame = _use_dummies(expressions, names, count)
  compiled = sympy.lambdify(
      arguments, [_join_factor(expr) for expr in tame], backend, cse=True)
  numpy: Any = np if backend == 'numpy' else jnp

  def call(x):
    columns = compiled(*(x[..., i] for i in range(count)))
    shape = x.shape[:-1]
    return numpy.stack(
        [numpy.broadcast_to(column, shape) for column in columns], -1)

  return call


def _use_dummies(
    expressions: Sequence[sympy.Expr], names: Names | None,
    count: int) -> tuple[list[sympy.Dummy], list[sympy.Expr]]:
  """Returns a dummy for each input, and the expressions with these in it.

  An input of the name `sin` would hide the function, one of the name `pi` the
  number.
  """
  symbols = make_symbols(names, count)
  dummies = [sympy.Dummy() for _ in symbols]
  replaced = dict(zip(symbols, dummies, strict=True))
  free = set().union(*(expr.free_symbols for expr in expressions))
  if names is None or all(isinstance(name, str) for name in names):
    of_name = {symbol.name: dummy for symbol, dummy in replaced.items()}
    replaced |= {symbol: of_name[symbol.name] for symbol in free
                 if symbol.name in of_name}
  unknown = sorted(str(symbol) for symbol in free - replaced.keys())
  if unknown:
    raise ValueError(
        f'`expressions` have {", ".join(unknown)}, which is none of the inputs '
        f'{[str(symbol) for symbol in symbols]}.')
  return dummies, [expr.xreplace(replaced) for expr in expressions]


def _join_factor(expr: sympy.Expr) -> sympy.Expr:
  """Takes factors that no float can hold back into their exponential.

  sympy writes exp(x - 5000) as e^-5000 exp(x): 0 times infinity in floats.
  """
  def extreme(term):
    factor = term.as_coeff_Mul()[0]
    return (term.is_Mul and factor.is_Float and term.has(sympy.exp)
            and not 1e-100 < abs(factor) < 1e100)

  def join(term):
    factor, rest = term.as_coeff_Mul()
    parts = sympy.Mul.make_args(rest)
    exponents = [p.args[0] for p in parts if isinstance(p, sympy.exp)]
    others = [p for p in parts if not isinstance(p, sympy.exp)]
    exponent = sympy.Add(sympy.log(abs(factor)), *exponents)
    return sympy.Mul(sympy.sign(factor), *others,
                     sympy.exp(sympy.UnevaluatedExpr(exponent)))

  return expr.replace(extreme, join)


def latex(expr: sympy.Expr) -> str:
  """Returns an expression in LaTeX that compiles whatever its symbols' names.

      latex(sympy.Symbol('Area (m^2)'))  # \\text{Area (m\\textasciicircum{}2)}

  Names of letters, digits and underscores get subscripts, as in x_0 and
  mass_sun, and Greek letters are recognized. All other names are text, for
  which the package amsmath is needed; so is an engine that knows their letters
  where they are not ASCII. For symbols whose names are LaTeX already, take
  `sympy.latex`.
  """
  return sympy.latex(expr, symbol_names={
      symbol: _latex_name(str(symbol.name)) for symbol in expr.free_symbols})


def _latex_name(name: str) -> str:
  """Returns the name of one symbol in LaTeX."""
  match = _SUBSCRIPTED.fullmatch(name)
  if match is None:
    printable = ''.join(c if c.isprintable() else ' ' for c in name)
    text = ''.join(_ESCAPED.get(c, c) for c in printable)
    return rf'\text{{{text}}}'
  base, digits, rest = match.groups()
  below = [part for part in (digits, *rest.split('_')) if part]
  subscript = ','.join(_latex_word(part) for part in below)
  return _latex_word(base) + (f'_{{{subscript}}}' if subscript else '')


def _latex_word(word: str) -> str:
  return f'\\{word}' if word in _GREEK else word


def mathml(name: str, expr: sympy.Expr) -> str:
  """Returns `name = expr` in MathML, as browsers show it.

  Without the element <math> around it. It may stand in HTML whatever the names
  of symbols are.
  """
  expr = sympy.Eq(sympy.Symbol(name), expr, evaluate=False)
  safe = {symbol: sympy.Symbol(html.escape(str(symbol.name), quote=False))
          for symbol in expr.free_symbols}
  text = sympy.mathml(
      expr.xreplace(safe), printer='presentation', mul_symbol='dot')
  for old, new in (('&ExponentialE;', 'e'), ('<mn>-', '<mn>&minus;'),
                   ('<mo>-<', '<mo>&minus;<')):
    text = text.replace(old, new)
  while (match := _FENCED.search(text)) is not None:
    fences = ('|', '|') if '|' in match[1] else ('(', ')')
    text = (f'{text[:match.start()]}<mrow><mo>{fences[0]}</mo>{match[2]}'
            f'<mo>{fences[1]}</mo></mrow>{text[match.end():]}')
  return text
