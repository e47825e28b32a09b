"""Rows of inputs, turned: the batch last, as layers work."""

from collections.abc import Sequence

import jax
from jax.experimental import layout
import jax.extend
from jax.interpreters import ad
from jax.interpreters import batching
from jax.interpreters import mlir

# With fewer values, a copy takes longer to start than it saves.
_MANY = 2**13


def turn(x: jax.Array) -> jax.Array:
  """Returns the rows [n, in] as [in, n], moved in memory.

  On a CPU, XLA would leave them in place, and whatever takes them would read
  one number of each row: B-splines of rows take three times as long.
  """
  if not isinstance(x.shape[0], int) or x.size < _MANY:
    return x.T
  return _in_order.bind(x.T)


def _lower(
    context: mlir.LoweringRuleContext, x: mlir.ir.Value
    ) -> Sequence[mlir.ir.Value]:
  """Asks XLA for a layout, where a program may do so."""
  module = context.module_context
  # An exported program must not, and on several devices, which each have some
  # rows, they would be gathered.
  devices = getattr(module.axis_context, 'num_devices', None)
  if module.lowering_parameters.for_export or devices != 1:
    return [x]

  def in_order(x: jax.Array) -> jax.Array:
    return layout.with_layout_constraint(
        x, layout.Layout(tuple(range(x.ndim))))

  return mlir.lower_fun(in_order, multiple_results=False)(context, x)


# An identity that only says how its result lies in memory.
_in_order = jax.extend.core.Primitive('in_order')
_in_order.def_impl(lambda x: x)
_in_order.def_abstract_eval(lambda x: x)
ad.deflinear2(_in_order, lambda cotangent, _: [cotangent])
batching.defvectorized(_in_order)
mlir.register_lowering(_in_order, lambda _, x: [x])
mlir.register_lowering(_in_order, _lower, platform='cpu')
