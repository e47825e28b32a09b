"""One kernel for B-splines and the products with them, to be measured.

For GPUs, in Pallas by way of Triton: a tile of outputs is summed while the
B-splines that it needs are evaluated, so that these never go to memory. See
docs/accelerators.md for what that could gain. Only `device_check` uses it: no
GPU was at hand to tell whether it wins.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton
import jax.numpy as jnp

from kan_jax.layers import edges
from kan_jax.splines import _polynomials

# Rows and outputs of a tile, and features at a time; Triton needs powers of two
# of at least 16.
_ROWS, _OUTPUTS, _SOME = 64, 64, 32


def node_sums(
    x: jax.Array, arrays: edges.Edges, order: int, base_fn: edges.BaseFn, *,
    precision: edges.Precision = 'highest',
    interpret: bool = False) -> jax.Array:
  """Returns what `edges.node_sums` does where splines end with their grid.

  Args:
    x: Inputs, [n, in], float32.
    arrays: The arrays of the layer, float32.
    order: Degree of the splines.
    base_fn: Applied to `x` elementwise; what Triton has for it.
    precision: Of the products.
    interpret: Whether to run it as an ordinary program, on any device.

  Returns:
    [n, out]. There is no derivative.
  """
  inputs, size, outputs = arrays.coef.shape
  table = _polynomials.tabulate(arrays.knots, order)
  weight = (arrays.mask * arrays.scale_spline)[:, None] * arrays.coef
  # The B-splines of all inputs side by side; weights of 0 fill up the blocks.
  operands = (
      _fill(x, _ROWS, 0),
      _fill(jnp.moveaxis(table, 1, 0).reshape(-1, inputs * size), _SOME, 1),
      *(_fill(_fill(w.reshape(-1, outputs), _SOME, 0), _OUTPUTS, 1)
        for w in (weight, arrays.mask * arrays.scale_base)))
  rows, columns = operands[0].shape[0], operands[2].shape[1]
  specs = [pl.BlockSpec((_ROWS, inputs), lambda i, _: (i, 0)),
           pl.BlockSpec(operands[1].shape, lambda *_: (0, 0)),
           *(pl.BlockSpec((len(w), _OUTPUTS), lambda _, j: (0, j))
             for w in operands[2:])]
  sums = pl.pallas_call(
      functools.partial(_kernel, size=size, order=order, base_fn=base_fn,
                        precision=precision),
      grid=(rows // _ROWS, columns // _OUTPUTS), in_specs=specs,
      out_specs=pl.BlockSpec((_ROWS, _OUTPUTS), lambda i, j: (i, j)),
      out_shape=jax.ShapeDtypeStruct((rows, columns), x.dtype),
      compiler_params=triton.CompilerParams(num_warps=4, num_stages=2),
      interpret=interpret)(*operands)
  return sums[:len(x), :outputs]


def _fill(a: jax.Array, step: int, axis: int) -> jax.Array:
  """Fills an axis with zeros to a multiple of `step`."""
  more = [(0, -a.shape[k] % step if k == axis else 0) for k in range(2)]
  return jnp.pad(a, more)


def _kernel(
    x_ref: Any, table_ref: Any, weight_ref: Any, base_ref: Any, out_ref: Any, *,
    size: int, order: int, base_fn: edges.BaseFn,
    precision: edges.Precision) -> None:
  """Sums a tile of outputs; `x_ref` has the inputs of its rows."""
  rows, last = jnp.arange(_ROWS)[:, None], x_ref.shape[1] - 1

  def inputs_of(features: jax.Array) -> jax.Array:
    return x_ref[rows, jnp.minimum(features, last)[None]]

  def add(evaluate, ref):
    def body(k, total):
      some = pl.ds(k * _SOME, _SOME)
      values = evaluate(k * _SOME + jnp.arange(_SOME), some)
      return total + jnp.matmul(values, ref[some, :], precision=precision)

    return lambda total: jax.lax.fori_loop(
        0, ref.shape[0] // _SOME, body, total)

  def splines(features: jax.Array, some: Any) -> jax.Array:
    x = inputs_of(features // size)
    table: Sequence[jax.Array] = [
        table_ref[j, some][None] for j in range(table_ref.shape[0])]
    return _polynomials.select(x, x, table, order, 0)

  total = add(splines, weight_ref)(jnp.zeros((_ROWS, _OUTPUTS), jnp.float32))
  out_ref[...] = add(
      lambda features, some: base_fn(inputs_of(features)), base_ref)(total)
