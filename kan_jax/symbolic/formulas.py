"""From a KAN whose edges carry functions to sympy expressions, and back.

Needs sympy: pip install 'kan_jax[symbolic]'. For LaTeX, `sympy.latex` takes
what `formula` returns.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Literal

from flax import linen as nn
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import structure

Numbers = Sequence[float] | np.ndarray | float


def formula(
    model: nn.Module, variables: Mapping[str, Any], *,
    names: Sequence[str | sympy.Symbol] | None = None,
    input_mean: Numbers = 0.0, input_std: Numbers = 1.0,
    output_mean: Numbers = 0.0, output_std: Numbers = 1.0,
    digits: int | None = None,
    zero_below: float = 0.0) -> list[sympy.Expr]:
  """Returns one expression for each output of a KAN.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    names: Of the inputs, as strings or symbols; x_0, x_1, ... by default.
    input_mean: What was subtracted from the inputs, one number or one for each;
      the formula then takes inputs as they were before.
    input_std: What the inputs were divided by afterwards, not 0.
    output_mean: What was subtracted from the targets, one number or one for
      each output; the formula then gives outputs as they were before.
    output_std: What the targets were divided by afterwards.
    digits: Round all numbers to so many significant digits. No number but 0
      becomes 0.
    zero_below: Parameters smaller than this count as 0, as the shifts of 1e-16
      that training leaves.

  Raises:
    ValueError: If edges are still splines, if a number of names, means or
      deviations is wrong, or if `digits` is < 1.
  """
  net = structure.read(model, variables)
  _check_closed(variables, net.paths)
  inputs, outputs = net.nodes[0].size, net.nodes[-1].size
  nodes = [
      (symbol - mean) / std for symbol, mean, std in zip(
          _symbols(names, inputs), _floats('input_mean', input_mean, inputs),
          _floats('input_std', input_std, inputs), strict=True)]
  for path, layer in zip(net.paths, net.nodes[1:], strict=True):
    terms = _layer(model, variables, path, nodes, layer.terms, zero_below)
    nodes = [sympy.Mul(*(terms[k] for k in group)) for group in layer.groups]
  nodes = [
      std * node + mean for node, mean, std in zip(
          nodes, _floats('output_mean', output_mean, outputs),
          _floats('output_std', output_std, outputs), strict=True)]
  return nodes if digits is None else [round_digits(e, digits) for e in nodes]


def round_digits(expr: sympy.Expr, digits: int) -> sympy.Expr:
  """Rounds every number of an expression to significant digits.

  Whole and rational numbers that are part of a function, as the exponent of a
  power, stay as they are; no number but 0 becomes 0. Where the rounded
  expression would be infinite or lose a variable, as the difference of two
  functions that rounding makes alike, more digits are kept.

  Args:
    expr: The expression.
    digits: How many, >= 1.
  """
  if digits < 1:
    raise ValueError(f'`digits` is a whole number >= 1; got {digits!r}.')
  broken = (sympy.zoo, sympy.nan, sympy.oo, -sympy.oo)
  for kept in range(digits, 17):
    rounded = expr.xreplace({
        number: _round(number, kept) for number in expr.atoms(sympy.Float)})
    if (rounded.free_symbols == expr.free_symbols
        and not rounded.has(*broken)):
      return rounded
  return expr


def _round(number: sympy.Float, digits: int) -> sympy.Float:
  """Rounds in decimal; the result computes with full precision."""
  return sympy.Float(str(sympy.Float(number, digits)), 15)


def lambdify(
    expressions: Sequence[sympy.Expr],
    names: Sequence[str | sympy.Symbol] | None = None, *,
    inputs: int | None = None,
    backend: Literal['numpy', 'jax'] = 'numpy') -> Callable[[Any], Any]:
  """Returns a function of arrays [..., in] -> [..., len(expressions)].

  Args:
    expressions: As from `formula`.
    names: As given to `formula`; those by default, and then `inputs` is needed.
    inputs: How many inputs there are.
    backend: What the function computes with. 'jax' can be jitted and
      differentiated.
  """
  if backend not in ('numpy', 'jax'):
    raise ValueError(f"`backend` is 'numpy' or 'jax'; got {backend!r}.")
  if names is None and inputs is None:
    raise ValueError('`names` or `inputs` says what the arguments are; got '
                     'neither.')
  count = len(names or ()) if inputs is None else inputs
  symbols = _symbols(names, count)
  tame = [_join_factor(expr) for expr in expressions]
  compiled = sympy.lambdify(symbols, tame, backend, cse=True)
  numpy: Any = np if backend == 'numpy' else jnp

  def call(x):
    columns = compiled(*(x[..., i] for i in range(count)))
    shape = x.shape[:-1]
    return numpy.stack(
        [numpy.broadcast_to(column, shape) for column in columns], -1)

  return call


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


def _check_closed(variables, paths):
  """Raises a ValueError that lists the edges that are still splines."""
  still = [
      f'{"/".join(path)} {i} -> {o}'.strip() for path in paths
      for i, o in np.argwhere(structure.part(variables['grid'], path)['mask'])]
  if still:
    raise ValueError(
        f'`model` still has splines on {len(still)} edges, which no formula '
        f'tells: {", ".join(still)}. Fix them, remove them or run '
        'auto_symbolic.')


def _symbols(names, count: int) -> list[sympy.Symbol]:
  names = [f'x_{i}' for i in range(count)] if names is None else list(names)
  if len(names) != count:
    raise ValueError(
        f'`names` has one for each of the {count} inputs; got {names}.')
  return [name if isinstance(name, sympy.Basic) else sympy.Symbol(name)
          for name in names]


def _floats(name: str, values: Numbers, count: int) -> list[sympy.Float]:
  """One number for each input or output, from one for all or each."""
  numbers = np.asarray(values, np.float64).reshape(-1)
  if len(numbers) not in (1, count) or not np.isfinite(numbers).all():
    raise ValueError(
        f'`{name}` is a finite number, or {count} of them; got {values!r}.')
  if name == 'input_std' and not numbers.all():
    raise ValueError(f'`input_std` divides the inputs; got {values!r}.')
  return [sympy.Float(float(v)) for v in np.broadcast_to(numbers, (count,))]


def _layer(model, variables, path, nodes, outputs: int, zero_below: float):
  """The expressions of a layer's outputs, of those of its inputs."""
  def number(value):
    value = float(value)
    return sympy.Float(value if abs(value) >= zero_below else 0.0)

  bias = structure.part(variables['params'], path).get('node_bias')
  sums = [[] if bias is None else [number(bias[o])] for o in range(outputs)]
  for (i, o), (name, row) in edits.read(model, variables, path).items():
    a, b, c, d = (number(value) for value in row)
    function = functions.find(name)
    sums[o].append(c * function.to_sympy(a * nodes[i] + b) + d)
  return [sympy.Add(*terms) for terms in sums]
