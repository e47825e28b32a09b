"""Edges that carry a function, c * f(a * x + b) + d, as pure functions.

Which edges and which functions is static, and grouped by function: a layer
applies each of its functions once, to all the edges that carry it. The numbers
a, b, c, d are the rows of one trained array, `affine` [edges, 4], in the order
in which the groups list their edges.
"""

from collections.abc import Sequence
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edges
from kan_jax.layers import functions

# Functions, by name or as they are, with the edges (input, output) of each.
Groups = tuple[
    tuple[str | functions.Function, tuple[tuple[int, int], ...]], ...]


def normalize(symbolic: Any) -> Groups:
  """Returns groups as tuples of tuples, from any sequences.

  Raises:
    ValueError: If a name is unknown, an edge is not a pair of whole numbers
      >= 0, or an edge is there twice.
  """
  try:
    groups = tuple(
        (name, tuple((operator.index(i), operator.index(o)) for i, o in group))
        for name, group in symbolic)
  except (TypeError, ValueError) as error:
    raise ValueError(
        "`symbolic` pairs functions with edges (input, output), like (('sin', "
        f"((0, 1), (1, 1))),); got {symbolic!r}.") from error
  for name, _ in groups:
    functions.find(name)
  carrying = pairs(groups)
  if len(set(carrying)) < len(carrying) or any(
      min(edge) < 0 for edge in carrying):
    raise ValueError(
        f'`symbolic` names each edge once, and counts from 0; got '
        f'{carrying}.')
  return groups


def pairs(groups: Groups) -> list[tuple[int, int]]:
  """Returns the edges (input, output) in the order of the rows of `affine`."""
  return [edge for _, group in groups for edge in group]


def names(groups: Groups) -> dict[tuple[int, int], str]:
  """Returns the name of the function that each edge carries."""
  return {edge: functions.find(function).name
          for function, group in groups for edge in group}


def check_shape(groups: Groups, shape: Sequence[int]) -> None:
  """Raises a ValueError if a layer of shape [in, out] lacks an edge."""
  for i, o in pairs(groups):
    if i >= shape[0] or o >= shape[1]:
      raise ValueError(
          f'`symbolic` has the edge {(i, o)}, but its layer has {shape[0]} '
          f'inputs and {shape[1]} outputs.')


def init_affine(
    key: jax.Array, groups: Groups, dtype: jax.typing.DTypeLike) -> jax.Array:
  """Returns the numbers of f(x) itself for every edge; `key` is not used."""
  del key
  return jnp.tile(jnp.array([1, 0, 1, 0], dtype), (len(pairs(groups)), 1))


def values(x: jax.Array, groups: Groups, affine: jax.Array) -> jax.Array:
  """Returns the value of every edge that carries a function.

  Args:
    x: Inputs of the layer, [n, in].
    groups: The functions and their edges.
    affine: a, b, c, d of each edge, [edges, 4].

  Returns:
    [n, edges]; not finite where an argument is outside a function's domain.
  """
  columns, start = [], 0
  affine = affine.astype(x.dtype)
  for name, group in groups:
    a, b, c, d = affine[start:start + len(group)].T[:, None]
    inputs = x[:, np.array([i for i, _ in group], int)]
    columns.append(c * functions.find(name).fn(a * inputs + b) + d)
    start += len(group)
  return jnp.concatenate(columns, 1)


def add_to_nodes(
    y: jax.Array, curves: jax.Array, groups: Groups) -> jax.Array:
  """Adds the edges' values [n, edges] to the outputs they lead to, [n, out]."""
  return y.at[:, [o for _, o in pairs(groups)]].add(curves.astype(y.dtype))


def add_to_edges(
    y: jax.Array, curves: jax.Array, groups: Groups) -> jax.Array:
  """Adds the edges' values [n, edges] to those of all edges, [n, in, out]."""
  i, o = np.array(pairs(groups)).T
  return y.at[:, i, o].add(curves.astype(y.dtype))


def add_to_statistics(
    stats: edges.EdgeStats, curves: jax.Array,
    groups: Groups) -> edges.EdgeStats:
  """Adds the edges' statistics to those of all edges, whose numeric part is 0.

  Args:
    stats: Statistics of the numeric part.
    curves: Values of the edges on the batch, [n, edges].
    groups: The functions and their edges.
  """
  i, o = np.array(pairs(groups)).T
  n = len(curves)
  std = edges.safe_sqrt(jnp.var(curves, 0) * (n / max(n - 1, 1)))
  return stats._replace(
      mean_abs=stats.mean_abs.at[i, o].add(jnp.abs(curves).mean(0)),
      std=stats.std.at[i, o].add(std))
