"""Cutting nodes out of a KAN: arrays without their rows and columns.

What is left is an ordinary, smaller model. Nothing is decided here; `pruning`
says which nodes stay.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.layers import symbolic_edges


def add_to_biases(
    variables: Mapping[str, Any], path: tuple[str, ...],
    shift: np.ndarray) -> dict[str, Any]:
  """Returns the variables with a layer's biases moved by `shift`, [terms].

  A layer without biases stays as it is.
  """
  flat = _flatten(variables)
  at = ('params', *path, 'node_bias')
  if at in flat:
    bias = np.asarray(flat[at], np.float64) + shift
    flat[at] = jnp.asarray(bias, flat[at].dtype)
  return traverse_util.unflatten_dict(flat)


def cut(
    model: nn.Module, variables: Mapping[str, Any],
    kept: Sequence[np.ndarray]) -> tuple[nn.Module, dict[str, Any]]:
  """Takes nodes out, with all the terms of those that multiply.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    kept: For the inputs and every layer, which nodes stay: [size], bool, at
      least one of each. Those of the outputs of a KANLayer are all of them.

  Returns:
    The model that has the other nodes only, and its variables.
  """
  layout = structure.layout(model, variables)
  flat, symbolic = _flatten(variables), []
  for k, path in enumerate(structure.paths(model)):
    inputs = np.flatnonzero(kept[k])
    terms = np.flatnonzero(kept[k + 1][layout[k + 1].node_of_term])
    edges, rows = _renumber(structure.symbolic(model)[k], inputs, terms)
    symbolic.append(edges)
    for at in flat:
      if at[0] in ('params', 'grid') and at[1:-1] == path:
        flat[at] = _cut_array(at[-1], flat[at], inputs, terms, rows)
    if not edges:
      flat.pop(('params', *path, 'affine'), None)
  sizes = [_cut_nodes(*pair) for pair in zip(layout, kept, strict=True)]
  return _resize(model, sizes, symbolic), traverse_util.unflatten_dict(flat)


def _flatten(variables: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
  return dict(traverse_util.flatten_dict(variables, keep_empty_nodes=True))


def _cut_array(
    name: str, array: jax.Array, inputs: np.ndarray, terms: np.ndarray,
    rows: list[int]) -> jax.Array:
  """Cuts one of a layer's variables; see `KANLayer` for their shapes."""
  # In numpy, as JAX compiles once for every shape that is left.
  held = np.asarray(array)
  if name == 'affine':
    held = held[rows]
  elif name == 'node_bias':
    held = held[terms]
  elif name == 'knots':
    held = held[inputs]
  else:
    held = held[inputs][..., terms]
  return jnp.asarray(held)


def _renumber(
    edges: symbolic_edges.Groups, inputs: np.ndarray,
    terms: np.ndarray) -> tuple[symbolic_edges.Groups, list[int]]:
  """Returns the symbolic edges that are left, and their old rows."""
  new_input = {old: new for new, old in enumerate(inputs.tolist())}
  new_term = {old: new for new, old in enumerate(terms.tolist())}
  rows = [row for row, (i, o) in enumerate(symbolic_edges.pairs(edges))
          if i in new_input and o in new_term]
  left = tuple(
      (name, tuple((new_input[i], new_term[o]) for i, o in group
                   if i in new_input and o in new_term))
      for name, group in edges)
  return tuple((name, group) for name, group in left if group), rows


def _cut_nodes(layer: nodes.Nodes, kept: np.ndarray) -> nodes.Nodes:
  """Returns the nodes of a layer without those that go."""
  products = kept[layer.sums:]
  return nodes.Nodes(
      int(kept[:layer.sums].sum()),
      tuple(n for n, stays in zip(layer.arities, products, strict=True)
            if stays))


def _resize(
    model: nn.Module, sizes: Sequence[nodes.Nodes],
    symbolic: Sequence[symbolic_edges.Groups]) -> nn.Module:
  """Returns the model with other nodes."""
  if isinstance(model, linen.KANLayer):
    return model.clone(symbolic=symbolic[0])
  arity = model.arity
  if isinstance(arity, Sequence):
    arity = tuple(layer.arities for layer in sizes)
  return model.clone(
      features=tuple(layer.feature for layer in sizes),
      arity=arity, symbolic=tuple(symbolic) if any(symbolic) else ())
