"""From a KAN whose edges carry functions to expressions of sympy.

Needs sympy: `pip install -e '.[symbolic]'` in a copy of the repository.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
import jax
import numpy as np
import sympy

from kan_jax import checks
from kan_jax.layers.nnx import accept
from kan_jax.symbolic import _closed
from kan_jax.symbolic import expressions
from kan_jax.symbolic import simplify

Numbers = Sequence[float] | np.ndarray | float


@accept.takes_nnx
def formula(
    model: nn.Module, variables: Mapping[str, Any], *,
    names: expressions.Names | None = None, input_mean: Numbers = 0.0,
    input_std: Numbers = 1.0, output_mean: Numbers = 0.0,
    output_std: Numbers = 1.0, digits: int | None = None,
    zero_below: float | None = None,
    x: np.ndarray | jax.Array | None = None) -> list[sympy.Expr]:
  """Returns one expression for each output of a KAN.

      [expression] = formula(model, variables, names=['mass', 'speed'])

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    names: Names of the inputs, as strings or symbols; x_0, x_1, ... by default.
    input_mean: What was subtracted from the inputs, one number or one for each;
      the formula then takes inputs as they were before.
    input_std: What the inputs were divided by afterwards, not 0.
    output_mean: What was subtracted from the targets, one number or one for
      each output; the formula then gives outputs as they were before.
    output_std: What the targets were divided by afterwards.
    digits: Significant digits to which all numbers are rounded, by
      `round_digits` on the rows of `x`; None for no rounding.
    zero_below: Size below which a parameter counts as 0; 0.0 keeps all. By
      default a shift, a constant or an edge is left out if it changes what a
      node computes on the rows of `x` by at most 1e-10 of the interquartile
      range of the node, or 1e-6 where the parameters are not float64. Training
      leaves such numbers. They stay where an output would change by more than
      ten times that part of its own range.
    x: Rows of inputs of the model, [n, in], that decide what `digits` and
      `zero_below` may change. By default rows all over the grids of the inputs;
      give rows if the grids were never moved to the data.

  Raises:
    ValueError: If edges are still splines, if a number of names, means or
      deviations is wrong, if `digits` is < 1, or if `x` is no finite table.
  """
  layers = _closed.read(model, variables)
  rows = _closed.grid_rows(model, variables)
  if x is not None:
    rows = _rows(x, rows.shape[1])
  if zero_below is None:
    layers = _closed.drop_idle(layers, rows, _is_wide(variables))
  else:
    layers = _closed.zero_small(layers, zero_below)
  inputs, outputs = rows.shape[1], layers[-1].nodes.size
  symbols = expressions.make_symbols(names, inputs)
  means = _floats('input_mean', input_mean, inputs)
  stds = _floats('input_std', input_std, inputs)
  if not all(stds):
    raise ValueError(f'`input_std` divides the inputs; got {input_std!r}.')
  nodes = [(symbol - mean) / std for symbol, mean, std
           in zip(symbols, means, stds, strict=True)]
  for layer in layers:
    nodes = _write(layer, nodes)
  written = [
      std * node + mean for node, mean, std in zip(
          nodes, _floats('output_mean', output_mean, outputs),
          _floats('output_std', output_std, outputs), strict=True)]
  if digits is None:
    return written
  raw = rows * np.array(stds, float) + np.array(means, float)
  return [simplify.round_digits(expr, digits, symbols, raw) for expr in written]


def _rows(x: np.ndarray | jax.Array, inputs: int) -> np.ndarray:
  """Returns `x` in float64; raises a ValueError if it is no finite table."""
  checks.check_rows('x', x)
  if np.ndim(x) != 2 or np.shape(x)[1] != inputs:
    raise ValueError(
        f'`x` needs the shape [n, {inputs}], a column for each input; got '
        f'{np.shape(x)}.')
  return np.asarray(x, np.float64)


def _is_wide(variables: Mapping[str, Any]) -> bool:
  """Whether the parameters are float64."""
  dtypes = {array.dtype for array in jax.tree.leaves(variables['params'])}
  return dtypes == {np.dtype(np.float64)}


def _floats(name: str, values: Numbers, count: int) -> list[sympy.Float]:
  """One number for each input or output, from one for all or each."""
  numbers = np.asarray(values, np.float64).reshape(-1)
  if len(numbers) not in (1, count) or not np.isfinite(numbers).all():
    raise ValueError(
        f'`{name}` is a finite number, or {count} of them; got {values!r}.')
  return [sympy.Float(float(v)) for v in np.broadcast_to(numbers, (count,))]


def _write(
    layer: _closed.Layer, inputs: Sequence[sympy.Expr]) -> list[sympy.Expr]:
  """Returns the expressions of a layer's nodes, given those of its inputs."""
  terms: list[list[sympy.Expr]] = [
      [sympy.Float(value)] if value else [] for value in layer.bias.tolist()]
  for edge in layer.edges:
    a, b, c, d = (sympy.Float(value) for value in edge[3:])
    curve = c * edge.function.to_sympy(a * inputs[edge.i] + b)
    terms[edge.o].append(curve + d)
  sums = [sympy.Add(*parts) for parts in terms]
  return [sympy.Mul(*(sums[k] for k in group)) for group in layer.nodes.groups]
