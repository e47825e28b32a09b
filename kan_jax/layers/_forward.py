"""A layer as a pure function of its options and arrays: all that it computes.

The modules for Linen and for NNX hold the arrays; neither computes by itself.
"""

from collections.abc import Callable
from typing import NamedTuple
from typing import Protocol

import jax
import jax.numpy as jnp

from kan_jax.layers import edges
from kan_jax.layers import symbolic_edges
from kan_jax.splines import bases
from kan_jax.splines import bsplines


class Options(Protocol):
  """What a layer needs to know besides its arrays, fields of a `KANLayer`."""

  @property
  def order(self) -> int: ...

  @property
  def base_fn(self) -> edges.BaseFn: ...

  @property
  def outside(self) -> bsplines.Outside: ...

  @property
  def dtype(self) -> jax.typing.DTypeLike | None: ...

  @property
  def precision(self) -> edges.Precision: ...

  @property
  def basis(self) -> bases.Name: ...

  @property
  def symbolic(self) -> symbolic_edges.Groups: ...


class Arrays(NamedTuple):
  """The variables of a layer.

  Attributes:
    edges: Those of its splines.
    affine: Numbers of its symbolic edges, [edges, 4], if it has any.
    node_bias: [out], if it has biases.
  """
  edges: edges.Edges
  affine: jax.Array | None
  node_bias: jax.Array | None


NodeSums = Callable[
    [jax.Array, edges.Edges, Options, jax.typing.DTypeLike], jax.Array]


def as_input(x: jax.typing.ArrayLike, size: int | None) -> jax.Array:
  """Returns `x`; raises a ValueError unless it is floating and [..., size]."""
  try:
    x = jnp.asarray(x)
  except (TypeError, ValueError) as error:  # Text, objects, ragged lists.
    kind = getattr(x, 'dtype', type(x).__name__)
    raise ValueError(
        f'`x` needs floating numbers in one array; got {kind}.') from error
  if not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
        f'`x` needs a floating dtype; got {x.dtype}. Convert it first, for '
        'example with x.astype(jnp.float32).')
  if x.ndim < 1 or not x.shape[-1] or size not in (None, x.shape[-1]):
    raise ValueError(
        f'`x` needs the shape [..., {size or "in"}] with one entry for each '
        f'input; got {x.shape}.')
  return x


# Compiled also where `init` and `apply` are not, as in a notebook: op by op, it
# would be hundreds of programs. Within a program, inlined, nothing is changed.
_node_sums = jax.jit(edges.node_sums, static_argnums=range(2, 8), inline=True)
_statistics = jax.jit(edges.statistics, static_argnums=range(2, 7), inline=True)


def node_sums(
    rows: jax.Array, arrays: edges.Edges, options: Options,
    dtype: jax.typing.DTypeLike) -> jax.Array:
  """Returns the sums of splines at each node, [n, out], for inputs [n, in]."""
  return _node_sums(
      rows, arrays, options.order, options.base_fn, options.outside, dtype,
      options.precision, options.basis)


def outputs(
    x: jax.Array, arrays: Arrays, options: Options,
    sums: NodeSums = node_sums) -> jax.Array:
  """Returns the outputs of a layer, [..., out], for inputs [..., in].

  Args:
    x: Inputs.
    arrays: The variables of the layer.
    options: What it needs to know besides.
    sums: Another function for what `node_sums` does.
  """
  dtype = options.dtype or jnp.promote_types(x.dtype, arrays.edges.coef.dtype)
  rows = _rows(x, arrays)
  y = sums(rows, arrays.edges, options, dtype)
  curves = _curves(rows, arrays, options)
  if curves is not None:
    y = symbolic_edges.add_to_nodes(y, curves, options.symbolic)
  y = y.reshape(*x.shape[:-1], y.shape[-1])
  if arrays.node_bias is not None:
    y += jnp.expand_dims(arrays.node_bias.astype(dtype), range(y.ndim - 1))
  return y


def statistics(
    x: jax.Array, arrays: Arrays, options: Options) -> edges.EdgeStats:
  """Returns the statistics of a layer's edges on inputs [..., in]."""
  rows = _rows(x, arrays)
  stats = _statistics(
      rows, arrays.edges, options.order, options.base_fn, options.outside,
      options.precision, options.basis)
  curves = _curves(rows, arrays, options)
  if curves is not None:
    stats = symbolic_edges.add_to_statistics(stats, curves, options.symbolic)
  return stats


def _rows(x: jax.Array, arrays: Arrays) -> jax.Array:
  """Returns inputs as [n, in], of the type of the knots at least."""
  rows = x.reshape(-1, x.shape[-1])
  return rows.astype(jnp.promote_types(x.dtype, arrays.edges.knots.dtype))


def _curves(
    rows: jax.Array, arrays: Arrays, options: Options) -> jax.Array | None:
  """Returns the values of the symbolic edges, if there are any."""
  if arrays.affine is None or not options.symbolic:
    return None
  return symbolic_edges.values(rows, options.symbolic, arrays.affine)
