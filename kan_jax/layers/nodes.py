"""Nodes that add or multiply: what a KAN makes of the sums of its layers.

A layer's outputs are sums of edges, its terms. Each is a node by itself or one
factor of a multiplication node (arXiv 2408.10205, section 2.1, where the terms
are called subnodes).
"""

from collections.abc import Sequence
import functools
import operator
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

# What `KAN.features` counts: nodes, or nodes that add and nodes that multiply.
Size = int | tuple[int, int]


class Nodes(NamedTuple):
  """The nodes of one layer: first those that add, then those that multiply.

  Attributes:
    sums: How many nodes are a term by itself.
    arities: How many terms each of the others multiplies.
  """
  sums: int
  arities: tuple[int, ...] = ()

  @property
  def size(self) -> int:
    """Number of nodes."""
    return self.sums + len(self.arities)

  @property
  def terms(self) -> int:
    """Number of terms, the outputs of the layer."""
    return self.sums + sum(self.arities)

  @property
  def feature(self) -> Size:
    """The nodes as `KAN.features` counts them."""
    return (self.sums, len(self.arities)) if self.arities else self.sums

  @property
  def node_of_term(self) -> list[int]:
    """The node of each term."""
    return [node for node, group in enumerate(self.groups) for _ in group]

  @property
  def groups(self) -> list[list[int]]:
    """The terms of each node."""
    groups = [[k] for k in range(self.sums)]
    start = self.sums
    for arity in self.arities:
      groups.append(list(range(start, start + arity)))
      start += arity
    return groups


def combine(terms: jax.Array, nodes: Nodes) -> jax.Array:
  """Multiplies terms [..., terms] into nodes [..., size]."""
  if not nodes.arities:
    return terms
  products = [
      functools.reduce(operator.mul, [terms[..., k] for k in group])
      for group in nodes.groups[nodes.sums:]]
  return jnp.concatenate(
      [terms[..., :nodes.sums], jnp.stack(products, -1)], -1)


def from_features(
    features: Sequence[Any], arity: Any = 2) -> tuple[Nodes, ...]:
  """Returns the inputs and the nodes of every layer of a network.

  Args:
    features: For the inputs and each layer, the number of its nodes, or a pair:
      of those that add and of those that multiply.
    arity: How many terms a multiplication node has: a number for all of them,
      or for the inputs and each layer a sequence, with one for each.

  Raises:
    ValueError: If there is no layer, the inputs multiply, a layer has no node,
      or a number is missing or impossible.
  """
  try:
    sizes = [_pair(size) for size in features]
  except (TypeError, ValueError) as error:
    raise ValueError(
        '`features` counts nodes, whole numbers >= 1, or pairs of those that '
        'add and those that multiply, like [2, [5, 2], 1]; got '
        f'{features!r}.') from error
  if len(sizes) < 2 or sizes[0][1]:
    raise ValueError(
        '`features` needs the number of inputs, which do not multiply, and at '
        f'least one layer, like [2, 5, 1]; got {features!r}.')
  return tuple(
      Nodes(sums, _arities(arity, i, products, len(sizes)))
      for i, (sums, products) in enumerate(sizes))


def _pair(size: Any) -> tuple[int, int]:
  sums, products = size if isinstance(size, Sequence) else (size, 0)
  sums, products = operator.index(sums), operator.index(products)
  if isinstance(size, bool) or min(sums, products) < 0 or not sums + products:
    raise ValueError(size)
  return sums, products


def _arities(
    arity: Any, layer: int, products: int, layers: int) -> tuple[int, ...]:
  """Checks the arities of one layer."""
  try:
    if isinstance(arity, Sequence):
      if len(arity) != layers:
        raise ValueError(arity)
      arities = tuple(operator.index(n) for n in arity[layer])
    else:
      arities = (operator.index(arity),) * products
    if len(arities) != products or any(n < 1 for n in arities):
      raise ValueError(arity)
  except (TypeError, ValueError) as error:
    raise ValueError(
        '`arity` is a whole number >= 1 for all multiplication nodes, or has '
        f'an entry for the inputs and each of the {layers - 1} layers with one '
        f'for each, {products} at index {layer}; got {arity!r}.') from error
  return arities
