"""Models that pykan and efficient-kan trained, from their state dicts.

Both functions take arrays by name. They return a `KAN` with variables that
compute the same function, up to rounding. Nothing is unpickled or run. torch is
not needed: a tensor hands out its numbers.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import operator
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.interop import _state_dicts
from kan_jax.layers import edges
from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.layers import symbolic_edges
from kan_jax.splines import bsplines

# Names of the functions of one layer, [out][in].
Names = Sequence[Sequence[str | functions.Function]]
Imported = tuple[linen.KAN, dict[str, Any]]

# What pykan calls functions that have another name here.
_SYNONYMS = {'x^0.5': 'sqrt', '1/x^0.5': '1/sqrt', '1/sqrt(x)': '1/sqrt'}


def from_pykan(
    state_dict: Mapping[str, Any], *,
    arity: int | Sequence[Sequence[int]] | None = None,
    symbolic: Sequence[Names] | None = None,
    base_fn: edges.BaseFn = nn.silu) -> Imported:
  """Makes the model whose state dict pykan 0.2.8 wrote.

      model, variables = kan_jax.from_pykan(pykan_model.state_dict())

  A state dict does not contain everything: see `arity`, `symbolic` and
  `base_fn`. After pykan's `prune_input` the model here has the inputs that are
  left. If the pykan model ran with `symbolic_enabled=False`, set the masks of
  its symbolic edges to 0 first.

  Scales and biases of nodes and subnodes go into those of edges and terms.
  Masks stay as they are: an edge may have both a function and a spline, which
  the model adds; `formula` sees only the function. If the layers have different
  numbers of intervals, all get the largest, as by `refine`.

  Args:
    state_dict: Arrays or tensors by name, `model.state_dict()`. The parameters
      keep their type if JAX has it: float64 becomes float32 unless x64 is
      enabled.
    arity: How many terms a multiplication node multiplies, pykan's
      `mult_arity`: a number for all, or for the inputs and each layer a
      sequence. Needed where the numbers of nodes and subnodes leave it open.
    symbolic: Names of the functions, for each layer its `funs_name`,
      `[out][in]`: `[layer.funs_name for layer in model.symbolic_fun]`. Needed
      where an edge carries a function. A function that `LIBRARY` does not have
      is given as a `Function`.
    base_fn: Function beside the splines: for pykan's 'identity' it is
      `jax.nn.identity`, for its 'zero' `jax.numpy.zeros_like`.

  Returns:
    A KAN and its variables. Outputs are those of pykan up to rounding: in
    float32 less than 1e-6 of their range unless large coefficients cancel.

  Raises:
    ValueError: If an array is missing, unknown, not finite or of a wrong shape,
      knots do not increase, a multiplication node has a bias, layers have
      different orders, or `arity` or `symbolic` is needed or does not fit.
  """
  arrays = _state_dicts.Arrays(
      state_dict, r'act_fun\.([0-9]+)\.', 'act_fun.0.coef')
  _refuse_edge_grids(arrays)
  names = [None] * arrays.layers if symbolic is None else list(symbolic)
  if len(names) != arrays.layers:
    raise ValueError(
        f'`symbolic` needs an entry for each of the {arrays.layers} layers; '
        f'got {len(names)}.')
  layers: list[_ImportedLayer] = []
  for k in range(arrays.layers):
    inputs = layers[-1].nodes.size if layers else 'in'
    layers.append(_pykan_layer(arrays, k, inputs, arity, names[k]))
  return _build(arrays, layers, base_fn=base_fn)


def from_efficient_kan(
    state_dict: Mapping[str, Any], *,
    base_fn: edges.BaseFn = nn.silu) -> Imported:
  """Makes the model of a state dict of efficient-kan's `KAN`.

      model, variables = kan_jax.from_efficient_kan(torch_model.state_dict())

  That is Blealtan/efficient-kan on GitHub. Its layers have no bias. With
  `enable_standalone_scale_spline=False` they have no scales of splines, which
  are 1 here.

  Args:
    state_dict: Arrays or tensors by name, `model.state_dict()`; see
      `from_pykan`.
    base_fn: Function beside the splines, as the model's `base_activation`.

  Returns:
    A KAN without biases and its variables.

  Raises:
    ValueError: If an array is missing, unknown, not finite or of a wrong shape,
      knots do not increase, or layers have different orders.
  """
  arrays = _state_dicts.Arrays(
      state_dict, r'layers\.([0-9]+)\.', 'layers.0.spline_weight')
  layers: list[_ImportedLayer] = []
  for k in range(arrays.layers):
    inputs = layers[-1].nodes.size if layers else 'in'
    layers.append(_efficient_layer(arrays, k, inputs))
  return _build(arrays, layers, base_fn=base_fn, bias=False)


class _ImportedLayer(NamedTuple):
  """One layer in the terms of this library.

  Attributes:
    arrays: Parameters, knots and mask, by the names that a KANLayer uses.
    order: Degree of the splines.
    nodes: Nodes of the layer.
    symbolic: Symbolic edges.
  """
  arrays: dict[str, np.ndarray]
  order: int
  nodes: nodes.Nodes
  symbolic: symbolic_edges.Groups = ()

  @property
  def grid(self) -> int:
    """Number of intervals of each spline."""
    return self.arrays['coef'].shape[1] - self.order


def _efficient_layer(
    arrays: _state_dicts.Arrays, k: int, size: int | str) -> _ImportedLayer:
  """Takes a layer of efficient-kan."""
  name = f'layers.{k}.'
  coef = arrays.take(name + 'spline_weight', 'out', size, 'grid + order')
  out, inputs, count = coef.shape
  scale = np.ones((out, inputs))
  if name + 'spline_scaler' in arrays:
    scale = arrays.take(name + 'spline_scaler', out, inputs)
  knots, order = _knots(arrays, name + 'grid', inputs, count)
  return _ImportedLayer({
      'knots': knots,
      'mask': np.ones((inputs, out)),
      'coef': coef.transpose(1, 2, 0),
      'scale_base': arrays.take(name + 'base_weight', out, inputs).T,
      'scale_spline': scale.T}, order, nodes.Nodes(out))


def _pykan_layer(
    arrays: _state_dicts.Arrays, k: int, size: int | str,
    arity: int | Sequence[Sequence[int]] | None,
    names: Names | None) -> _ImportedLayer:
  """Takes a layer of pykan."""
  layer, order = _pykan_edges(arrays, k, size)
  shape = layer['mask'].shape
  layer_nodes = _nodes(arrays, k, shape[1], arity)
  scale, layer['node_bias'] = _fold(arrays, k, layer_nodes)
  layer['scale_base'] *= scale
  layer['scale_spline'] *= scale
  symbolic, rows = edits.group(_carried(arrays, k, shape, scale, names))
  if rows:
    layer['affine'] = np.stack(rows)
  return _ImportedLayer(layer, order, layer_nodes, symbolic)


def _refuse_edge_grids(arrays: _state_dicts.Arrays) -> None:
  """Raises a ValueError for a state dict of pykan's first versions."""
  if 'biases.0.weight' in arrays or len(
      arrays.shape('act_fun.0.coef') or ()) == 2:
    raise ValueError(
        '`state_dict` has the layout of a pykan before 0.2, with a grid for '
        'each edge and a bias for each node; the layout that is read is that '
        'of pykan 0.2.8, with a grid for each input.')


def _knots(
    arrays: _state_dicts.Arrays, name: str, size: int,
    count: int) -> tuple[np.ndarray, int]:
  """Takes the knots of a layer whose splines have `count` coefficients.

  Returns:
    The knots and the order, which is not in a state dict: there are order + 1
    more knots than coefficients.
  """
  knots = arrays.take(name, size, 'grid + 2 * order + 1')
  grid, order = bsplines.grid_and_order(knots.shape[1], count)
  if not 1 <= order <= bsplines.MAX_ORDER or grid < 1:
    raise ValueError(
        f'`state_dict` has {knots.shape[1]} knots for each input in {name!r} '
        f'and {count} coefficients for each spline: the order would be '
        f'{order}, but is 1 to {bsplines.MAX_ORDER}, for at least one '
        'interval.')
  rounded = np.asarray(_round(
      'knots', knots, jnp.promote_types(arrays.dtype, jnp.float32)))
  bad = np.flatnonzero(~(np.diff(rounded) > 0).all(1))
  if bad.size:
    raise ValueError(
        f'`state_dict` needs knots that increase; in {name!r} those of '
        f'{bad.size} inputs do not, of input {bad[0]} they are '
        f'{rounded[bad[0]]}. Grids by quantiles of an input with few values '
        'become so; update them with a larger part of uniform spacing.')
  return knots, order


def _pykan_edges(
    arrays: _state_dicts.Arrays, k: int,
    size: int | str) -> tuple[dict[str, np.ndarray], int]:
  """Takes the numeric edges of a layer and the order of its splines."""
  name = f'act_fun.{k}.'
  coef = arrays.take(name + 'coef', size, 'out', 'grid + order')
  shape = coef.shape[:2]
  knots, order = _knots(arrays, name + 'grid', len(coef), coef.shape[2])
  return {
      'knots': knots,
      'mask': arrays.take(name + 'mask', *shape),
      'coef': coef.swapaxes(1, 2),
      'scale_base': arrays.take(name + 'scale_base', *shape),
      'scale_spline': arrays.take(name + 'scale_sp', *shape)}, order


def _nodes(
    arrays: _state_dicts.Arrays, k: int, terms: int,
    arity: int | Sequence[Sequence[int]] | None) -> nodes.Nodes:
  """Infers which nodes of a layer multiply from how many terms they have."""
  # If there is no such array, `_fold` says so.
  size, = arrays.shape(f'node_scale_{k}') or (terms,)
  try:
    arities = _arities(k, size, terms - size, arity)
    layer_nodes = nodes.Nodes(size - len(arities), arities)
    fits = layer_nodes.terms == terms and layer_nodes.sums >= 0
  except (IndexError, TypeError):
    fits = False
  if not fits:
    raise ValueError(
        f'`arity` does not fit layer {k} with its {size} nodes and {terms} '
        f'subnodes; got {arity!r}. It is pykan\'s `mult_arity`.')
  return layer_nodes


def _arities(
    k: int, size: int, more: int,
    arity: int | Sequence[Sequence[int]] | None) -> tuple[int, ...]:
  """Returns the arities in a layer with `more` subnodes than nodes."""
  if isinstance(arity, Sequence):
    return tuple(operator.index(n) for n in arity[k + 1])
  if more == 0:
    return ()
  if arity is not None:
    return (arity,) * (more // max(arity - 1, 1))
  if 1 in (more, size):  # There is only one way.
    return (more + 1,)
  raise ValueError(
      f'`arity` is needed: layer {k} has {size} nodes, {more} less than '
      'subnodes, and a state dict does not say how many of them a '
      "multiplication node multiplies. Pass pykan's `mult_arity`.")


def _fold(
    arrays: _state_dicts.Arrays, k: int,
    layer: nodes.Nodes) -> tuple[np.ndarray, np.ndarray]:
  """Joins scales and biases of nodes and subnodes into one of each a term."""
  scale = arrays.take(f'subnode_scale_{k}', layer.terms)
  bias = arrays.take(f'subnode_bias_{k}', layer.terms)
  node_scale = arrays.take(f'node_scale_{k}', layer.size)
  node_bias = arrays.take(f'node_bias_{k}', layer.size)
  if node_bias[layer.sums:].any():
    raise ValueError(
        f"`state_dict` has a bias after a product in 'node_bias_{k}', "
        f'{node_bias[layer.sums:]} for its multiplication nodes; here they '
        'have none, and it needs to be 0.')
  # The scale of a product is that of its first factor.
  first = [group[0] for group in layer.groups]
  scale[first] *= node_scale
  bias[first] = node_scale * bias[first] + node_bias
  return scale, bias


def _carried(
    arrays: _state_dicts.Arrays, k: int, shape: tuple[int, ...],
    scale: np.ndarray, names: Names | None) -> edits.Assigned:
  """Returns the functions of a layer and their a, b, c, d, by edge."""
  mask = arrays.take(f'symbolic_fun.{k}.mask', *shape[::-1])
  affine = arrays.take(f'symbolic_fun.{k}.affine', *shape[::-1], 4)
  # An edge is c * f(a * x + b) + d: mask and scale of the term multiply c, d.
  affine[..., 2:] *= (mask * scale[:, None])[..., None]
  live = np.argwhere(mask).tolist()
  if live and names is None:
    raise ValueError(
        f'`symbolic` is needed: {len(live)} edges of layer {k} carry a '
        'function, and a state dict does not say which. Pass '
        '[layer.funs_name for layer in model.symbolic_fun].')
  return {(i, o): (_function(names, k, o, i), affine[o, i]) for o, i in live}


def _function(
    names: Any, k: int, o: int, i: int) -> str | functions.Function:
  """Returns the function of one edge by the name it has here."""
  try:
    name = names[o][i]
    name = _SYNONYMS.get(name, name)
    return functions.shorten(functions.find(name))
  except (IndexError, KeyError, TypeError) as error:
    raise ValueError(
        f'`symbolic[{k}]` has no name for output {o} and input {i}; it needs '
        'a list for each output, with one for each input.') from error
  except ValueError as error:
    raise ValueError(f'`symbolic[{k}][{o}][{i}]`: {error}') from error


def _build(
    arrays: _state_dicts.Arrays, layers: Sequence[_ImportedLayer],
    **options: Any) -> Imported:
  """Makes the model and its variables of its layers."""
  arrays.check_all_taken()
  orders = [layer.order for layer in layers]
  if len(set(orders)) > 1:
    raise ValueError(
        '`state_dict` has layers with splines of the orders '
        f'{", ".join(map(str, orders))}; a KAN has one for all.')
  grids = [layer.grid for layer in layers]
  sizes = [nodes.Nodes(len(layers[0].arrays['mask'])),
           *(layer.nodes for layer in layers)]
  symbolic = tuple(layer.symbolic for layer in layers)
  model = linen.KAN(
      [size.feature for size in sizes], grid=max(grids), order=orders[0],
      param_dtype=arrays.dtype, symbolic=symbolic if any(symbolic) else (),
      arity=_common([size.arities for size in sizes]), **options)
  variables = {
      kind: {f'layers_{k}': _cast(layer.arrays, kind, arrays.dtype)
             for k, layer in enumerate(layers)}
      for kind in ('params', 'grid')}
  if len(set(grids)) > 1:
    variables = edits.refine_variables(variables, max(grids))
  return model, variables


def _common(arities: Sequence[tuple[int, ...]]) -> Any:
  """Returns one number if all multiplication nodes have the same arity."""
  different = {n for layer in arities for n in layer} or {2}
  return different.pop() if len(different) == 1 else arities


def _cast(
    layer: dict[str, np.ndarray], kind: str,
    dtype: jax.typing.DTypeLike) -> dict[str, jax.Array]:
  """Returns the arrays of a layer that belong to one collection."""
  in_grid = ('knots', 'mask')
  at_least = jnp.promote_types(dtype, jnp.float32)
  return {name: _round(name, a, at_least if name == 'knots' else dtype)
          for name, a in layer.items()
          if (name in in_grid) == (kind == 'grid')}


def _round(
    name: str, array: np.ndarray, dtype: jax.typing.DTypeLike) -> jax.Array:
  """Rounds an array; raises a ValueError if a number is too large for that."""
  with np.errstate(over='ignore'):
    rounded = array.astype(dtype)
  if not np.isfinite(rounded).all():
    raise ValueError(
        f'`state_dict` has numbers that are too large for {rounded.dtype}: '
        f'{name} of a layer would be infinite.')
  return jnp.asarray(rounded)
