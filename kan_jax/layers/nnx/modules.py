"""KAN layers for Flax NNX: modules that hold arrays, and compute as Linen's do.

`kan_jax.nnx.KANLayer`, `KAN` and `KANConv` take the options of the modules for
Linen, begin with the same numbers and compute by the same functions. A grid
update changes a model in place; functions that return a model return a new one.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any
from typing import overload
from typing import TypedDict
from typing import Unpack

from flax import linen as nn
from flax import nnx
import jax
import jax.numpy as jnp

from kan_jax import checks
from kan_jax.layers import _forward
from kan_jax.layers import convolution
from kan_jax.layers import edges
from kan_jax.layers import initial_values
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.splines import bases
from kan_jax.splines import bsplines
from kan_jax.splines import grids

_GRID_UPDATE = grids.GridUpdate()
_Variables = Mapping[str, Any]


class Grid(nnx.Variable):
  """Knots and masks, which no optimizer trains.

  `update_grids` and pruning change them; `nnx.Param` selects what is trained.
  """


class _SharedOptions(TypedDict, total=False):
  """Options that all modules have."""
  grid: int
  order: int
  grid_range: tuple[float, float]
  base_fn: edges.BaseFn
  outside: bsplines.Outside
  noise: float
  scale_base_init: nn.initializers.Initializer
  scale_spline_init: nn.initializers.Initializer
  bias: bool
  dtype: jax.typing.DTypeLike | None
  param_dtype: jax.typing.DTypeLike
  precision: edges.Precision
  initial: initial_values.Scheme | None
  basis: bases.Name


class LayerOptions(_SharedOptions, total=False):
  """Options of a layer, as in `kan_jax.KANLayer`, where their defaults are."""
  symbolic: Any


class ConvOptions(_SharedOptions, total=False):
  """Options of a convolution, as in `kan_jax.KANConv`."""
  strides: convolution.Sizes
  padding: convolution.Padding
  kernel_dilation: convolution.Sizes
  feature_group_count: int


class Options(LayerOptions, total=False):
  """Options of a network, as in `kan_jax.KAN`."""
  arity: int | Sequence[Sequence[int]]


Visit = Callable[['KANLayer', jax.Array], None]


class KANLayer(nnx.Module):
  """Sums a learned function of each input into each output.

  What `kan_jax.KANLayer` is for Linen, with all its options:

    layer = kan_jax.nnx.KANLayer(2, 3, grid=8, rngs=nnx.Rngs(0))
    y = layer(x)  # [..., 2] -> [..., 3]

  Attributes:
    options: The same layer for Linen, which holds the options and no arrays.
    knots: `Grid` of [in, grid + 2 * order + 1].
    mask: `Grid` of [in, features]; 0 removes an edge.
    coef: Parameter, [in, grid + order, features].
    scale_base: Parameter, [in, features].
    scale_spline: Parameter, [in, features].
    affine: Parameter, [edges, 4]; None without symbolic edges.
    node_bias: Parameter, [features]; None without biases.
    before: Function that is called with the layer and its inputs before it
      computes; None but during `update_grids` and `penalty`.
  """

  def __init__(
      self, in_features: int, features: int, *, rngs: nnx.Rngs | None = None,
      variables: _Variables | None = None, **options: Unpack[LayerOptions]):
    """Makes a layer.

    Args:
      in_features: Number of inputs.
      features: Number of outputs.
      rngs: Random numbers, of which `rngs.params()` is taken, once. It is the
        key: the layer is that of `kan_jax.KANLayer(...).init(key, x)`.
      variables: Variables of the same layer for Linen, in place of `rngs`.
      **options: Options, as in `kan_jax.KANLayer`.
    """
    size = checks.check_whole('in_features', in_features, 1)
    # Checks of options, defaults and initial values are those of Linen.
    self.options = linen.KANLayer(features, **options, parent=None)
    variables = _start(self.options, (size,), rngs, variables)
    self.knots, self.mask = (
        Grid(variables['grid'][name]) for name in ('knots', 'mask'))
    # By name, so that a file or another API may hold them in any order.
    params = {name: nnx.Param(array)
              for name, array in variables['params'].items()}
    self.coef = params['coef']
    self.scale_base = params['scale_base']
    self.scale_spline = params['scale_spline']
    self.affine = params.get('affine')
    self.node_bias = params.get('node_bias')
    self.before: Visit | None = None

  def __call__(self, x: jax.Array) -> jax.Array:  # [..., in] -> [..., features]
    x = _forward.as_input(x, self.knots.shape[0])
    if self.before is not None:
      self.before(self, x)
    return _forward.outputs(x, self.arrays, self.options)

  @property
  def arrays(self) -> _forward.Arrays:
    """The arrays of all variables."""
    return _forward.Arrays(
        edges.Edges(
            self.knots[...], self.mask[...], self.coef[...],
            self.scale_base[...], self.scale_spline[...]),
        None if self.affine is None else self.affine[...],
        None if self.node_bias is None else self.node_bias[...])

  def update_grid(
      self, x: jax.Array, *,
      grid_update: grids.GridUpdate = _GRID_UPDATE) -> None:
    """Replaces knots and coefficients by those that suit the inputs `x`.

    `update_grids` does it for all the layers of a model.

    Args:
      x: Inputs, [..., in].
      grid_update: How the knots are placed, and how far they move.
    """
    knots, coef = grids.update_grid(
        x.reshape(-1, x.shape[-1]), self.knots[...], self.coef[...],
        self.options.order, outside=self.options.outside,
        grid_update=grid_update, basis=self.options.basis)
    self.knots.set_value(knots)
    self.coef.set_value(coef)


class KAN(nnx.Module):
  """KAN layers in a row: KAN([2, 5, 1], rngs=nnx.Rngs(0)) has 2 inputs.

  What `kan_jax.KAN` is for Linen, with all its options.

  Attributes:
    options: The same network for Linen, which holds the options and no arrays.
    layers_0: The first `KANLayer`; the others follow as layers_1 and so on.
  """

  def __init__(
      self, features: Sequence[int | Sequence[int]], *,
      rngs: nnx.Rngs | None = None, variables: _Variables | None = None,
      **options: Unpack[Options]):
    """Makes a network.

    Args:
      features: Number of inputs, of nodes in each layer, and of outputs.
      rngs: Random numbers, of which `rngs.params()` is taken, once. It is the
        key: the network is that of `kan_jax.KAN(...).init(key, x)`.
      variables: Variables of the same network for Linen, in place of `rngs`.
      **options: Options, as in `kan_jax.KAN`.
    """
    self.options = linen.KAN(features, **options, parent=None)
    size = self.options.nodes[0].size
    variables = _start(self.options, (size,), rngs, variables)
    for k in range(len(self.options.features) - 1):
      # Attributes, not a list: their paths are then those of Linen's variables.
      name = f'layers_{k}'
      setattr(self, name, _layer_from(
          self.options.make_layer(k, parent=None),
          {kind: variables[kind][name] for kind in ('params', 'grid')}))

  def __call__(self, x: jax.Array) -> jax.Array:  # [..., in] -> [..., out]
    inputs, *layers = self.options.nodes
    x = _forward.as_input(x, inputs.size)
    for layer, layer_nodes in zip(self.layers, layers, strict=True):
      x = nodes.combine(layer(x), layer_nodes)
    return x

  @property
  def layers(self) -> tuple[KANLayer, ...]:
    """The layers in order."""
    return tuple(getattr(self, f'layers_{k}')
                 for k in range(len(self.options.features) - 1))


class KANConv(nnx.Module):
  """A convolution whose kernel is made of learned functions.

  What `kan_jax.KANConv` is for Linen, with all its options:

    layer = kan_jax.nnx.KANConv(1, 8, (3, 3), strides=2, rngs=nnx.Rngs(0))
    y = layer(images)  # [n, 28, 28, 1] -> [n, 14, 14, 8]

  Attributes:
    options: The same layer for Linen, which holds the options and no arrays.
    edges: The `KANLayer` that is applied to patches; with groups, there are
      edges_0, edges_1 and so on.
  """

  def __init__(
      self, in_features: int, features: int, kernel_size: convolution.Sizes, *,
      rngs: nnx.Rngs | None = None, variables: _Variables | None = None,
      **options: Unpack[ConvOptions]):
    """Makes a layer.

    Args:
      in_features: Number of channels that come in.
      features: Number of outputs, of all groups together.
      kernel_size: Size of a patch along each axis of space.
      rngs: Random numbers, of which `rngs.params()` is taken, once. It is the
        key: the layer is that of `kan_jax.KANConv(...).init(key, x)`.
      variables: Variables of the same layer for Linen, in place of `rngs`.
      **options: Options, as in `kan_jax.KANConv`.
    """
    size = checks.check_whole('in_features', in_features, 1)
    self.options = convolution.KANConv(
        features, kernel_size, **options, parent=None)
    variables = _start(
        self.options, (*self.options.reach, size), rngs, variables)
    for name in self.options.layer_names:
      setattr(self, name, _layer_from(
          self.options.make_layer(parent=None),
          {kind: variables[kind][name] for kind in ('params', 'grid')}))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [..., *space, features] for inputs [..., *space, in]."""
    layers = self.layers
    patches = self.options.patches(x, layers[0].mask.shape[-2])
    return jnp.concatenate([
        layer(rows) for layer, rows in zip(layers, patches, strict=True)], -1)

  @property
  def layers(self) -> tuple[KANLayer, ...]:
    """The layer of each group."""
    return tuple(getattr(self, name) for name in self.options.layer_names)


def _start(
    options: linen.KAN | linen.KANLayer | convolution.KANConv,
    shape: tuple[int, ...], rngs: nnx.Rngs | None,
    variables: _Variables | None) -> _Variables:
  """Returns the first variables: those that are given, or random ones."""
  if (rngs is None) == (variables is None):
    raise ValueError(
        'one of `rngs` and `variables` is needed, like rngs=nnx.Rngs(0); got '
        f'{"neither" if rngs is None else "both"}.')
  if rngs is None:
    assert variables is not None
    return variables
  made: _Variables = options.init(rngs.params(), jnp.zeros((1, *shape)))
  return made


def _layer_from(options: linen.KANLayer, variables: _Variables) -> KANLayer:
  return KANLayer(
      len(variables['grid']['knots']), variables=variables,
      **_fields(options))


def _fields(options: nn.Module) -> dict[str, Any]:
  """Returns the options of a module for Linen by name."""
  return {field.name: getattr(options, field.name)
          for field in dataclasses.fields(options)
          if field.name not in ('parent', 'name')}


@overload
def from_linen(model: linen.KAN, variables: _Variables) -> KAN: ...


@overload
def from_linen(model: linen.KANLayer, variables: _Variables) -> KANLayer: ...


@overload
def from_linen(
    model: convolution.KANConv, variables: _Variables) -> KANConv: ...


def from_linen(
    model: linen.KAN | linen.KANLayer | convolution.KANConv,
    variables: _Variables) -> KAN | KANLayer | KANConv:
  """Returns the same model for NNX, with the same arrays.

  Args:
    model: A `kan_jax.KAN`, a `kan_jax.KANLayer` or a `kan_jax.KANConv`.
    variables: Its variables, `params` and `grid`.

  Raises:
    ValueError: If the model is of another class.
  """
  if isinstance(model, linen.KANLayer):
    return _layer_from(model, variables)
  if isinstance(model, linen.KAN):
    return KAN(variables=variables, **_fields(model))
  if isinstance(model, convolution.KANConv):
    knots = variables['grid'][model.layer_names[0]]['knots']
    return KANConv(
        model.count_channels(len(knots)), variables=variables, **_fields(model))
  raise ValueError(
      '`model` needs to be a KAN, a KANLayer or a KANConv for Linen; got a '
      f'{type(model).__name__}.')


@overload
def to_linen(model: KAN) -> tuple[linen.KAN, dict[str, Any]]: ...


@overload
def to_linen(model: KANLayer) -> tuple[linen.KANLayer, dict[str, Any]]: ...


@overload
def to_linen(
    model: KANConv) -> tuple[convolution.KANConv, dict[str, Any]]: ...


def to_linen(model: KAN | KANLayer | KANConv) -> tuple[
    linen.KAN | linen.KANLayer | convolution.KANConv, dict[str, Any]]:
  """Returns the same model for Linen and its variables, the same arrays.

  Args:
    model: A `KAN`, a `KANLayer` or a `KANConv` of `kan_jax.nnx`.

  Raises:
    ValueError: If the model is of another class.
  """
  if isinstance(model, KANLayer):
    return model.options, _collections(model)
  if isinstance(model, KAN):
    return model.options, _join({
        f'layers_{k}': layer for k, layer in enumerate(model.layers)})
  if isinstance(model, KANConv):
    return model.options, _join(dict(zip(
        model.options.layer_names, model.layers, strict=True)))
  raise ValueError(
      '`model` needs to be a KAN, a KANLayer or a KANConv of kan_jax.nnx; got '
      f'{checks.name_model(model)}.')


def _join(layers: Mapping[str, KANLayer]) -> dict[str, Any]:
  """Returns the variables of a model of layers, by their names."""
  collections = {name: _collections(layer) for name, layer in layers.items()}
  return {kind: {name: layer[kind] for name, layer in collections.items()}
          for kind in ('params', 'grid')}


def _collections(layer: KANLayer) -> dict[str, dict[str, jax.Array]]:
  splines, affine, node_bias = layer.arrays
  params = splines._asdict() | {'affine': affine, 'node_bias': node_bias}
  grid = {name: params.pop(name) for name in ('knots', 'mask')}
  return {'params': {name: array for name, array in params.items()
                     if array is not None}, 'grid': grid}
