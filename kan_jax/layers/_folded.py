"""Layers for inference alone: what their arrays are folded into.

Mask, scales and coefficients become weights. Where knots are equally spaced, as
before any grid update or with `GridUpdate(eps=1)`, all B-splines of an input
are one curve, moved (Schoenberg, Contributions to the problem of approximation
of equidistant data by analytic functions, 1946): a few products in place of a
choice among polynomials. Where there are many intervals, a sample looks up the
polynomials of its own.
"""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import math
from typing import Any
from typing import Literal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import compiling
from kan_jax.layers import _by_input
from kan_jax.layers import _forward
from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.splines import _backends
from kan_jax.splines import _intervals
from kan_jax.splines import bases
from kan_jax.splines import bsplines

# How far from equal spacing knots may be, in intervals: the rounding of 50
# intervals in float32. A function changes by less than this part of its range.
_EQUAL = 2e-6
# Most entries of a layer's table of polynomials, of which there are order + 1
# times as many as coefficients: 64 MiB in float32.
_ENTRIES = 2**24
# Least number of rows at a time: all weights are read for each part.
_ROWS = 128

# Where splines come from; see `inference.Frozen`.
Form = Literal['moved', 'own', 'looked up', 'counted', 'sparse']


class Layer(NamedTuple):
  """What is left of a layer.

  Attributes:
    weights: What multiplies the base functions of all inputs and then, unless
      they are looked up, all B-splines, [out, in] or
      [out, in * (1 + grid + order)].
    splines: What the form needs to know of the splines. The first array has the
      type of the knots, and a row for each input.
    affine: Numbers of the symbolic edges, if there are any.
    node_bias: [out], if there are biases.
  """
  weights: jax.Array
  splines: tuple[jax.Array, ...]
  affine: jax.Array | None
  node_bias: jax.Array | None


def fold(
    options: linen.KANLayer, params: Mapping[str, Any],
    grid: Mapping[str, Any]) -> tuple[Layer, Form]:
  """Returns what a layer is made into, and where its B-splines come from."""
  # On the host, where nothing is compiled.
  arrays: dict[str, Any] = {
      name: np.asarray(array) for name, array in {**grid, **params}.items()}
  coef = (arrays['mask'] * arrays['scale_spline'])[:, None] * arrays['coef']
  form, splines = _place(arrays['knots'], coef, options)
  weights = arrays['mask'] * arrays['scale_base']
  if form in ('moved', 'own'):
    weights = np.concatenate([weights, coef.reshape(-1, coef.shape[2])])
  # Outputs first, in memory, too: products of this form take two thirds to
  # three quarters of the time. To turn the arrays at each call would cost that.
  weights = np.ascontiguousarray(weights.T)
  # `jnp.asarray` would compile a program for each shape.
  return Layer(*jax.device_put((
      weights, splines, arrays.get('affine'), arrays.get('node_bias')))), form


def _place(
    knots: np.ndarray, coef: np.ndarray, options: linen.KANLayer
    ) -> tuple[Form, tuple[Any, ...]]:
  """Returns the form of some splines and what a `Layer` keeps of them."""
  order, outside = options.order, options.outside
  _, size, outputs = coef.shape
  if options.basis == 'bspline' and coef.size * (order + 1) <= _ENTRIES:
    even = _intervals.are_even(knots, order, outside)
    choices = _backends.choices()
    most = choices.counted if even else choices.looked_up
    if size > most * (order + 1):
      return 'counted' if even else 'looked up', tuple(
          _intervals.tabulate(knots, coef, order, outside, even))
  if edges.lookup_pays(size, outputs, options.basis):
    return 'sparse', (knots, coef)
  equal = _equal_places(knots, options)
  if equal:
    return 'moved', equal
  return 'own', _places(knots, order, options.basis)


# It runs once for each layer.
@functools.partial(
    jax.jit, static_argnums=(1, 2), compiler_options=compiling.QUICK)
def _places(
    knots: jax.Array, order: int, basis: bases.Name) -> tuple[jax.Array, ...]:
  return bases.find(basis).places(knots, order)


def _equal_places(
    knots: np.ndarray, options: linen.KANLayer
    ) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns middle and inverse spacing of the grids, [in], if it is equal."""
  order, dtype = options.order, knots.dtype
  # Polynomials go on beyond the grid, and order 0 has a last point of its own.
  if (options.basis != 'bspline' or order == 0
      or options.outside == 'polynomial'):
    return None
  exact = knots.astype(np.float64)
  low, high = exact[:, order], exact[:, -order - 1]
  spacing = (high - low) / (knots.shape[1] - 2 * order - 1)
  steps = np.arange(knots.shape[1]) - (knots.shape[1] - 1) / 2
  middle = (low + high) / 2
  off = (exact - middle[:, None]) / spacing[:, None] - steps
  # The middle must not be rounded by more, either, as far from zero.
  off = np.append(off, (middle.astype(dtype) - middle) / spacing)
  if np.abs(off).max() > _EQUAL:
    return None
  return middle.astype(dtype), (1 / spacing).astype(dtype)


def outputs(
    x: jax.typing.ArrayLike, layer: Layer, options: linen.KANLayer,
    form: Form) -> jax.Array:
  """Returns the outputs of a layer that `fold` made, [..., out].

  Args:
    x: Inputs, [..., in].
    layer: Its arrays.
    options: The layer that it was made of.
    form: How it computes its splines.
  """
  # Of the edges, only the types are read.
  knots, weights = layer.splines[0], layer.weights
  arrays = _forward.Arrays(
      edges.Edges(knots, *[weights] * 4), layer.affine, layer.node_bias)
  return _forward.outputs(
      _forward.as_input(x, len(knots)), arrays, options,
      lambda rows, _, options, dtype: _SUMS[form](
          rows, layer, options, dtype, form))


# Sums over inputs, [n, out]. Each function takes inputs [n, in], the arrays,
# the layer that they were made of, the type of the products, and the form.


def _sums_of_all(
    rows: jax.Array, layer: Layer, options: _forward.Options,
    dtype: jax.typing.DTypeLike, form: Form) -> jax.Array:
  """Evaluates all B-splines: one product of them and the base functions."""
  weights, places = layer.weights, layer.splines
  inputs = len(places[0])
  size = weights.shape[1] // inputs - 1

  def by_curve(x, middle, inverse):
    u = ((x - middle[:, None]) * inverse[:, None])[:, None]
    return _equal_basis(u, size, options)

  evaluate: Callable[..., jax.Array] = by_curve if form == 'moved' else (
      functools.partial(bases.find(options.basis).values, order=options.order,
                        outside=options.outside))

  def of_rows(rows):
    x = _by_input.turn(rows)
    values = evaluate(x, *places).reshape(inputs * size, rows.shape[0])
    base = options.base_fn(x).astype(values.dtype)
    # Two products would start more kernels, up to a fourth of the time in small
    # layers.
    y = _product(weights, jnp.concatenate([base, values]), options, dtype)
    # XLA would turn the operands in place of the product: twice as slow.
    return jax.lax.optimization_barrier(y).T.astype(dtype)

  parts = _count_parts(rows, size)
  if parts == 1:
    return of_rows(rows)
  # Parts of rows, not of inputs as in training: the weights stay as they lie.
  if _may_be_cut(rows):
    return edges.map_parts(of_rows, (rows,), parts)
  base, splines = weights[:, :inputs], weights[:, inputs:]
  return edges.sum_features(
      rows, evaluate, places, base.T, splines.T.reshape(inputs, size, -1),
      options.base_fn, dtype, options.precision)


def _sums_by_table(
    rows: jax.Array, layer: Layer, options: _forward.Options,
    dtype: jax.typing.DTypeLike, form: Form) -> jax.Array:
  """Looks up the polynomials of each sample."""
  x = _by_input.turn(rows)
  base = _product(layer.weights, options.base_fn(x), options, dtype)
  return (base.T + _intervals.sums(
      x, _intervals.Table(*layer.splines), options.order,
      form == 'counted')).astype(dtype)


def _sums_of_some(
    rows: jax.Array, layer: Layer, options: _forward.Options,
    dtype: jax.typing.DTypeLike, form: Form) -> jax.Array:
  """Looks up the B-splines that are not zero, as `apply` does."""
  del form
  knots, coef = layer.splines
  ones = jnp.ones_like(coef[:, 0])
  return _forward.node_sums(
      rows, edges.Edges(knots, ones, coef, layer.weights.T, ones), options,
      dtype)


_SUMS: Mapping[Form, Callable[..., jax.Array]] = {
    'moved': _sums_of_all, 'own': _sums_of_all, 'counted': _sums_by_table,
    'looked up': _sums_by_table, 'sparse': _sums_of_some}


def _product(
    weights: jax.Array, values: jax.Array, options: _forward.Options,
    dtype: jax.typing.DTypeLike) -> jax.Array:
  """Multiplies [out, k] by [k, n], in float32 at least."""
  return jnp.matmul(
      weights.astype(dtype), values.astype(dtype), precision=options.precision,
      preferred_element_type=jnp.promote_types(dtype, jnp.float32))


def _may_be_cut(rows: jax.Array) -> bool:
  """Whether parts of rows can be taken, and no device fetches another's.

  Rows that nobody can count, as in an exported model, cannot be cut.
  """
  return (isinstance(rows.shape[0], int) and jax.device_count() == 1
          and not any(jax.typeof(rows).sharding.spec))


def _count_parts(rows: jax.Array, size: int) -> int:
  """Returns in how many parts to take rows, of which each has `_ROWS` or more.

  A power of two, which often leaves no rest.
  """
  parts = edges.count_parts(rows, size)
  if not isinstance(rows.shape[0], int):
    return parts
  parts = 2**math.ceil(math.log2(max(parts, 1)))
  return min(parts, max(len(rows) // _ROWS, 1))


def _equal_basis(
    u: jax.Array, size: int, options: _forward.Options) -> jax.Array:
  """Evaluates B-splines whose knots have the spacing 1.

  Args:
    u: Distances from the middle of the grid, [in, 1, n].
    size: Number of B-splines.
    options: The layer.

  Returns:
    [in, size, n].
  """
  order, half = options.order, (size - options.order) / 2
  centres = (np.arange(size) - (size - 1) / 2)[None, :, None].astype(u.dtype)
  if options.outside == 'zero':
    return _cardinal(jnp.abs(u - centres), order)
  nearest = jnp.clip(u, -half, half)
  values = _cardinal(jnp.abs(nearest - centres), order)
  if options.outside == 'clamp':
    return values
  # Slopes at both ends; from within the grid, for order 1.
  ends = jnp.array([[-half, half]], u.dtype)
  knots = jnp.arange(size + order + 1, dtype=u.dtype) - (size + order) / 2
  low, high = jnp.moveaxis(
      bsplines.cox_de_boor(ends, knots[None], order, 1)[0], -1, 0)
  slopes = jnp.where(u < 0, low[None, :, None], high[None, :, None])
  return values + (u - nearest) * slopes


def _cardinal(distance: jax.Array, order: int) -> jax.Array:
  """Evaluates the B-spline with knots of spacing 1, at distances >= 0.

  From truncated powers, those of one side alone, as it is even.
  """
  half = (order + 1) / 2
  value = jnp.zeros_like(distance)
  for k in range(order // 2 + 1):
    weight = (-1)**k * math.comb(order + 1, k) / math.factorial(order)
    value += weight * jnp.maximum(half - k - distance, 0)**order
  return value
