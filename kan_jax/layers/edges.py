"""The edges of one layer as pure functions: values, sums and statistics.

An edge carries phi(x) = mask * (scale_base * base(x) + scale_spline *
spline(x)), arXiv 2404.19756, equation 2.10. Seen from an input, all its edges
are combinations of the same few features: the base function and the B-splines.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple

import jax
from jax import ad_checkpoint
import jax.numpy as jnp

from kan_jax.layers import _by_input
from kan_jax.splines import _backends
from kan_jax.splines import _least_squares
from kan_jax.splines import _lookup
from kan_jax.splines import bases
from kan_jax.splines import bsplines

# Assumed number of rows where it is a symbol, as when a model is exported.
_ROWS = 1024


class Edges(NamedTuple):
  """The arrays that define the edge functions of one layer.

  Attributes:
    knots: [in, grid + 2 * order + 1].
    mask: [in, out]; 0 removes an edge, 1 keeps it.
    coef: Spline coefficients, [in, grid + order, out].
    scale_base: [in, out].
    scale_spline: [in, out].
  """
  knots: jax.Array
  mask: jax.Array
  coef: jax.Array
  scale_base: jax.Array
  scale_spline: jax.Array


class EdgeStats(NamedTuple):
  """What the penalties and scores need to know of one layer on one batch.

  Attributes:
    mean_abs: Mean of |phi| over the batch, [in, out].
    std: Sample standard deviation of phi, [in, out]; 0 for a single row.
    input_std: Sample standard deviation of each input, [in].
    width: Width of each input's grid, [in].
  """
  mean_abs: jax.Array
  std: jax.Array
  input_std: jax.Array
  width: jax.Array


BaseFn = Callable[[jax.Array], jax.Array]  # Hashable, as all functions are.
Precision = jax.lax.Precision | str | None  # Of matrix products; see KANLayer.


def features(
    x: jax.Array, knots: jax.Array, order: int, base_fn: BaseFn,
    outside: bsplines.Outside = 'zero',
    basis: bases.Name = 'bspline') -> jax.Array:
  """Returns base function and B-splines side by side.

  Args:
    x: Inputs, [n, in].
    knots: [in, grid + 2 * order + 1].
    order: Degree of the splines.
    base_fn: Applied to `x` elementwise.
    outside: What the splines do beyond their grid; see `splines.basis`.
    basis: What there is in place of B-splines.

  Returns:
    [in, 1 + grid + order, n]: the batch last, see `splines.basis_by_input`.
  """
  values = bases.find(basis).values(
      x.T, knots, order=order, outside=outside)
  base = base_fn(x.T)[:, None].astype(values.dtype)
  return jnp.concatenate([base, values], 1)


def weights(edges: Edges) -> jax.Array:
  """Returns what each edge gives each feature, [in, 1 + grid + order, out]."""
  base = edges.mask * edges.scale_base
  spline = (edges.mask * edges.scale_spline)[:, None] * edges.coef
  return jnp.concatenate([base[:, None], spline], 1)


def contract(
    values: jax.Array, weight: jax.Array,
    precision: Precision = 'highest') -> jax.Array:
  """Sums over inputs and features: [in, f, n], [in, f, out] -> [n, out].

  One matrix product; no value of a single edge is ever stored.
  """
  inputs, size, n = values.shape
  flat = values.reshape(inputs * size, n)
  return jnp.matmul(
      flat.T, weight.reshape(-1, weight.shape[-1]), precision=precision)


def node_sums(
    x: jax.Array, edges: Edges, order: int, base_fn: BaseFn,
    outside: bsplines.Outside, dtype: jax.typing.DTypeLike,
    precision: Precision = 'highest',
    basis: bases.Name = 'bspline') -> jax.Array:
  """Returns `contract(features(...), weights(edges))`, faster and in less room.

  Many inputs are taken some at a time, so that the B-splines of all of them are
  never stored; the backward pass evaluates them again. Of many B-splines, those
  that are not zero are looked up.

  Args:
    x: Inputs, [n, in].
    edges: The arrays of the layer.
    order: Degree of the splines.
    base_fn: Applied to `x` elementwise.
    outside: What the splines do beyond their grid; see `splines.basis`.
    dtype: Type of the matrix products.
    precision: Their precision.
    basis: What there is in place of B-splines.

  Returns:
    [n, out] in `dtype`.
  """
  # Many B-splines: those that are not zero are looked up.
  base_weight = edges.mask * edges.scale_base
  scale = edges.mask * edges.scale_spline
  _, size, outputs = edges.coef.shape
  if lookup_pays(size, outputs, basis):
    turned = _by_input.turn(x)
    base = _product(
        base_weight, base_fn(turned), dtype=dtype, precision=precision)
    return (base.T + _lookup.sums(
        turned, edges.knots, scale.astype(dtype), edges.coef.astype(dtype),
        order, outside)).astype(dtype)

  # Few, or other functions: all of them are evaluated.
  functions = bases.find(basis)
  return sum_features(
      x, functools.partial(functions.values, order=order, outside=outside),
      functions.places(edges.knots, order), base_weight,
      scale[:, None] * edges.coef, base_fn, dtype, precision)


def sum_features(
    x: jax.Array, evaluate: Callable[..., jax.Array],
    places: tuple[jax.Array, ...], base_weight: jax.Array, weight: jax.Array,
    base_fn: BaseFn, dtype: jax.typing.DTypeLike,
    precision: Precision) -> jax.Array:
  """Returns sums over inputs of base functions and B-splines, weighted.

  Args:
    x: Inputs, [n, in].
    evaluate: Function of some inputs, [some, n], and of their rows of `places`,
      that returns their B-splines, [some, grid + order, n].
    places: Arrays that say where the B-splines are, [in, ...].
    base_weight: Weights of the base functions, [in, out].
    weight: Weights of the B-splines, [in, grid + order, out].
    base_fn: Applied to `x` elementwise.
    dtype: Type of the matrix products.
    precision: Their precision.

  Returns:
    [n, out] in `dtype`.
  """
  product = functools.partial(_product, dtype=dtype, precision=precision)

  # Some inputs: the base functions and the B-splines, each a matrix product.
  def of_inputs(x, base_weight, weight, *places):
    values = evaluate(x, *places)
    # Products of this form, the batch last on both sides, are the fastest.
    inputs, size, n = values.shape
    return product(base_weight, base_fn(x)) + product(
        weight.reshape(inputs * size, -1), values.reshape(inputs * size, n))

  return _sum_over_inputs(
      of_inputs, (_by_input.turn(x), base_weight, weight, *places),
      count_parts(x, weight.shape[1])).T.astype(dtype)


def count_parts(x: jax.Array, size: int) -> int:
  """Returns in how many parts so many B-splines of inputs [n, in] are taken."""
  rows = x.shape[0] if isinstance(x.shape[0], int) else _ROWS
  return math.ceil(rows * x.shape[1] * size / _backends.choices().node_values)


def lookup_pays(size: int, outputs: int, basis: bases.Name) -> bool:
  """Whether to look up the B-splines that are not zero, of so many."""
  choices = _backends.choices()
  return basis == 'bspline' and size > (
      choices.many_in_wide if outputs >= choices.wide else choices.many)


def _product(
    weight: jax.Array, values: jax.Array, *, dtype: jax.typing.DTypeLike,
    precision: Precision) -> jax.Array:
  """Sums [k, out], [k, n] -> [out, n], in float32 at least."""
  return jax.lax.dot_general(
      weight.astype(dtype), values.astype(dtype), (((0,), (0,)), ((), ())),
      precision=precision,
      preferred_element_type=jnp.promote_types(dtype, jnp.float32))


def _sum_over_inputs(
    fn: Callable[..., jax.Array], arrays: tuple[jax.Array, ...],
    parts: int) -> jax.Array:
  """Adds up `fn` of parts of arrays whose first axis counts inputs."""
  blocks, rest = _split(arrays, parts)
  if len(blocks[0]) == 1:  # A loop would only take longer to compile.
    total = fn(*(a[0] for a in blocks))
  else:
    of_block = jax.checkpoint(fn, prevent_cse=False)
    start = jnp.zeros_like(fn(*(a[0] for a in blocks)))
    total = jax.lax.scan(
        lambda total, block: (total + of_block(*block), None), start, blocks)[0]
  return total + fn(*rest) if len(rest[0]) else total


def map_parts(
    fn: Callable[..., jax.Array], arrays: tuple[jax.Array, ...],
    parts: int) -> jax.Array:
  """Joins `fn` of parts of arrays, cut along the first axis of all of them."""
  blocks, rest = _split(arrays, parts)
  if len(blocks[0]) == 1:
    joined = fn(*(a[0] for a in blocks))
  else:
    mapped = jax.lax.map(lambda block: fn(*block), blocks)
    joined = mapped.reshape(-1, *mapped.shape[2:])
  return jnp.concatenate([joined, fn(*rest)]) if len(rest[0]) else joined


def _split(
    arrays: tuple[jax.Array, ...], parts: int) -> tuple[
        tuple[jax.Array, ...], tuple[jax.Array, ...]]:
  """Cuts the first axis into at least so many equal parts, and a rest."""
  inputs = len(arrays[0])
  size = inputs // min(max(parts, 1), inputs)
  count = inputs // size
  whole = count * size
  return (tuple(a[:whole].reshape(count, size, *a.shape[1:]) for a in arrays),
          tuple(a[whole:] for a in arrays))


def outputs(values: jax.Array, weight: jax.Array) -> jax.Array:
  """Returns the value of every edge, [n, in, out]; for few rows or edges."""
  return jnp.einsum('ifn,ifo->nio', values, weight, precision='highest')


def statistics(
    x: jax.Array, edges: Edges, order: int, base_fn: BaseFn,
    outside: bsplines.Outside = 'zero', precision: Precision = 'highest',
    basis: bases.Name = 'bspline') -> EdgeStats:
  """Returns the statistics of all edges on a batch.

  Exact, differentiable everywhere (with zero gradient where |phi| or a
  deviation is zero), and without an array of n x in x out: some inputs are
  taken at a time.

  Args:
    x: Inputs of the layer, [n, in], n >= 1.
    edges: The arrays of the layer.
    order: Degree of the splines.
    base_fn: Applied to `x` elementwise.
    outside: What the splines do beyond their grid; see `splines.basis`.
    precision: Of the matrix products behind `mean_abs`. Deviations, differences
      of large numbers, always take 'highest'.
    basis: What there is in place of B-splines.
  """
  functions = bases.find(basis)
  dof = max(x.shape[0] - 1, 1)

  def over_inputs(fn, policy):
    @functools.partial(jax.checkpoint, policy=policy, prevent_cse=False)
    def of_block(x, *places_and_weight):
      *places, weight = places_and_weight
      values = functions.values(x, *places, order=order, outside=outside)
      return fn((base_fn(x)[:, None].astype(values.dtype), values), weight)

    weight = weights(edges)
    size = x.size * max(weight.shape[1:])
    return map_parts(
        of_block, (_by_input.turn(x),
                   *functions.places(edges.knots, order), weight),
        math.ceil(size / _backends.choices().edge_values))

  grid = bsplines.interior(edges.knots, order)
  return EdgeStats(
      mean_abs=over_inputs(
          functools.partial(_mean_abs, precision=precision), _SIGNED),
      std=safe_sqrt(over_inputs(_variance, None) / dof),
      input_std=safe_sqrt(jnp.var(x, 0) * (x.shape[0] / dof)),
      width=grid[:, -1] - grid[:, 0])


# The backward pass of `_mean_abs` keeps the signed sums, not every sign.
_SIGNED = jax.checkpoint_policies.save_only_these_names('signed')


def _mean_abs(
    values: tuple[jax.Array, jax.Array], weight: jax.Array,
    precision: Precision) -> jax.Array:
  """Mean of |phi| over the batch.

  |phi| = sign(phi) * phi, and phi is linear in the weights: sums of the
  features, each with the sign of its row, are all that the mean and its
  gradient in the weights need of the batch.

  Args:
    values: Base function [in, 1, n] and B-splines [in, grid + order, n], apart:
      XLA would join them while it evaluates them, several times as slowly.
    weight: [in, 1 + grid + order, out].
    precision: Precision of the matrix products.

  Returns:
    [in, out].
  """
  multiply = functools.partial(jnp.matmul, precision=precision)
  weights = weight[:, :1], weight[:, 1:]
  phi = sum(multiply(v.swapaxes(1, 2), w)
            for v, w in zip(values, weights, strict=True))
  sign = jax.lax.stop_gradient(jnp.sign(phi))
  signed = [ad_checkpoint.checkpoint_name(multiply(v, sign), 'signed')
            for v in values]
  return sum((w * s).sum(1) for w, s in zip(
      weights, signed, strict=True)) / sign.shape[1]


def _variance(
    values: tuple[jax.Array, jax.Array], weight: jax.Array) -> jax.Array:
  """Sum of squared deviations from the mean; arguments as in `_mean_abs`."""
  joined = jnp.concatenate(values, 1)
  centred = joined - joined.mean(-1, keepdims=True)
  return jnp.einsum(
      'ifo,ifg,igo->io', weight,
      _least_squares.gram_matrix(centred, centred), weight,
      precision='highest')


def safe_sqrt(x: jax.Array) -> jax.Array:
  """Square root with value and gradient zero at zero and below."""
  positive = x > 0
  return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
