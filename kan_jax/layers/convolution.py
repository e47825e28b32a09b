"""Convolutions with a learned function on each entry of a patch.

As in Bodner et al., Convolutional Kolmogorov-Arnold Networks (arXiv
2406.13155): where a convolution multiplies an entry of a patch by a weight, an
edge applies its function. A patch is a row of inputs of a `KANLayer`, so grids,
penalties, pruning and pictures are those of any layer.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import itertools
import math
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp

from kan_jax import checks
from kan_jax.layers import _hints
from kan_jax.layers import _named
from kan_jax.layers import edges
from kan_jax.layers import initial_values
from kan_jax.layers import linen
from kan_jax.splines import bases
from kan_jax.splines import bsplines

Sizes = int | Sequence[int]
Padding = str | int | Sequence[int | tuple[int, int]]
_Padding = str | tuple[tuple[int, int], ...]  # As it is kept.


@_hints.say_the_way
class KANConv(nn.Module):
  """A convolution whose kernel is made of learned functions.

  The arguments are those of Flax's `Conv`, then those of `KANLayer`:

    layer = kan_jax.KANConv(8, (3, 3), strides=2, grid=8)
    variables = layer.init(key, images)  # [n, 28, 28, 1]
    y = layer.apply(variables, images)  # [n, 14, 14, 8]

  Each entry of a patch, position by position and channel by channel, has a grid
  of its own: at the rim of an image, and for another channel, values differ.
  Padded entries are zeros, of which a function may make something else.

  Variables: those of a `KANLayer` named `edges`, with prod(kernel_size) * in
  inputs; with groups, of `edges_0`, `edges_1` and so on.

  Attributes:
    features: Number of outputs, of all groups together.
    kernel_size: Size of a patch along each axis of space; their number decides
      whether the inputs are [..., length, in], [..., height, width, in] or
      have more axes of space. A single number means one axis.
    strides: Steps from patch to patch, for each axis or for all.
    padding: 'SAME', 'VALID', 'CIRCULAR', or how many zeros come before and
      after, for each axis or for all: a number or a pair.
    kernel_dilation: Steps from entry to entry in a patch.
    feature_group_count: Number of groups, into which inputs and outputs are
      dealt; outputs see the inputs of their own group alone.
    grid: Number of intervals; see `KANLayer` for this and all that follow.
    order: Degree of the splines.
    grid_range: Where the grids begin and end before any grid update.
    base_fn: Function beside the spline on every edge.
    outside: What a spline does beyond its grid.
    noise: Size of the initial splines.
    scale_base_init: Initializer of scale_base.
    scale_spline_init: Initializer of scale_spline.
    bias: Whether each output has a trainable bias.
    dtype: Type of the matrix products.
    param_dtype: Type of the parameters.
    precision: Precision of the matrix products.
    initial: Scheme for the initial values; a patch counts as the inputs.
    basis: What splines are made of.
  """
  features: int
  kernel_size: Sizes
  strides: Sizes = 1
  padding: Padding = 'SAME'
  kernel_dilation: Sizes = 1
  feature_group_count: int = 1
  grid: int = linen.KANLayer.grid
  order: int = linen.KANLayer.order
  grid_range: tuple[float, float] = linen.KANLayer.grid_range
  base_fn: edges.BaseFn = linen.KANLayer.base_fn
  outside: bsplines.Outside = linen.KANLayer.outside
  noise: float = linen.KANLayer.noise
  scale_base_init: nn.initializers.Initializer = linen.KANLayer.scale_base_init
  scale_spline_init: nn.initializers.Initializer = (
      linen.KANLayer.scale_spline_init)
  bias: bool = linen.KANLayer.bias
  dtype: jax.typing.DTypeLike | None = linen.KANLayer.dtype
  param_dtype: jax.typing.DTypeLike = linen.KANLayer.param_dtype
  precision: edges.Precision = linen.KANLayer.precision
  initial: initial_values.Scheme | None = linen.KANLayer.initial
  basis: bases.Name = linen.KANLayer.basis

  def __post_init__(self):
    checks.check_whole('features', self.features, 1)
    checks.check_whole('feature_group_count', self.feature_group_count, 1)
    if self.features % self.feature_group_count:
      raise ValueError(
          f'`features` needs to be a multiple of the '
          f'{self.feature_group_count} groups; got {self.features}.')
    # Tuples, as modules are hashed.
    self.kernel_size, self.strides, self.kernel_dilation, self.padding = (
        self._geometry)
    # Checks the options of a layer, and names its precision.
    self.precision = self.make_layer(parent=None).precision
    super().__post_init__()

  def __reduce__(self):
    return _named.reduce(self)

  @property
  def _geometry(self) -> tuple[
      tuple[int, ...], tuple[int, ...], tuple[int, ...], _Padding]:
    """Size of a patch, strides, dilation and padding, for each axis."""
    kernel = _each('kernel_size', self.kernel_size)
    axes = len(kernel)
    return (kernel, _each('strides', self.strides, axes),
            _each('kernel_dilation', self.kernel_dilation, axes),
            _normalize(self.padding, axes))

  @property
  def layer_names(self) -> tuple[str, ...]:
    """Names of the KAN layers, one for each group."""
    count = self.feature_group_count
    return ('edges',) if count == 1 else tuple(
        f'edges_{k}' for k in range(count))

  @property
  def entries(self) -> int:
    """Number of entries of a patch, each with all channels of its group."""
    return math.prod(self._geometry[0])

  @property
  def reach(self) -> tuple[int, ...]:
    """How many entries of each axis of space a patch extends over."""
    kernel, _, dilation, _ = self._geometry
    return _reach(kernel, dilation)

  @nn.nowrap
  def count_channels(self, inputs: int) -> int:
    """Returns the channels of `x`, if each layer has so many inputs."""
    return inputs // self.entries * self.feature_group_count

  @nn.nowrap
  def make_layer(self, **options: Any) -> linen.KANLayer:
    """Returns a module like the layer of one group, unbound.

    Args:
      **options: Fields that are its own, such as `name`.
    """
    return linen.KANLayer(
        self.features // self.feature_group_count,
        **linen.shared_options(self), **options)

  @nn.nowrap
  def patches(
      self, x: jax.typing.ArrayLike,
      inputs: int | None = None) -> list[jax.Array]:
    """Returns what the layer of each group sees.

    Args:
      x: Inputs, [..., *space, in].
      inputs: Number of inputs of each layer, if it is known.

    Returns:
      For each group [..., *places, prod(kernel_size) * in / groups]: the
      channels of an entry side by side, entry by entry.

    Raises:
      ValueError: If the inputs do not suit.
    """
    kernel, strides, dilation, padding = self._geometry
    x = self._check(x, len(kernel))
    channels = None if inputs is None else self.count_channels(inputs)
    if channels not in (None, x.shape[-1]):
      raise ValueError(
          f'`x` needs {channels} channels, its last axis; got {x.shape}.')
    seen = extract_patches(
        x, kernel, strides=strides, padding=padding, dilation=dilation)
    return [group.reshape(*group.shape[:-2], -1)
            for group in jnp.split(seen, self.feature_group_count, -1)]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns [..., *space, features] for inputs [..., *space, in]."""
    names = self.layer_names
    stored = self.variables.get('grid', {}).get(names[0], {}).get('mask')
    patches = self.patches(x, None if stored is None else stored.shape[-2])
    return jnp.concatenate([
        self.make_layer(name=name)(rows)
        for name, rows in zip(names, patches, strict=True)], -1)

  @nn.nowrap
  def _check(self, x: jax.typing.ArrayLike, axes: int) -> jax.Array:
    """Returns the inputs; raises a ValueError if they do not suit."""
    x = jnp.asarray(x)
    if x.ndim < axes + 1 or 0 in x.shape[-axes - 1:]:
      raise ValueError(
          f'`x` needs {axes} axes of space and one of channels at its end, for '
          f'a kernel {self.kernel_size}; got {x.shape}.')
    if x.shape[-1] % self.feature_group_count:
      raise ValueError(
          f'`x` needs channels for {self.feature_group_count} groups; got '
          f'{x.shape[-1]}.')
    return x


class Group(NamedTuple):
  """A group of a convolution as a KAN layer of its own.

  Attributes:
    layer: The layer.
    variables: Its variables.
    rows: The patches that it sees, [patches, in].
  """
  layer: linen.KANLayer
  variables: dict[str, Any]
  rows: jax.Array


def split_groups(
    model: KANConv, variables: Mapping[str, Any],
    x: jax.typing.ArrayLike) -> list[Group]:
  """Returns a convolution as KAN layers whose rows are patches.

  For whatever takes a layer but no convolution, as scores and formulas do:

    layer, part, rows = convolution.split_groups(model, variables, x)[0]
    scores = kan_jax.attribution(layer, part, rows)

  Args:
    model: The convolution.
    variables: Its variables.
    x: Inputs, [..., *space, in].

  Returns:
    A layer for each group; one if there are no groups.
  """
  return [
      Group(model.make_layer(parent=None),
            {kind: variables[kind][name] for kind in ('params', 'grid')},
            rows.reshape(-1, rows.shape[-1]))
      for name, rows in zip(
          model.layer_names, model.patches(x), strict=True)]


def extract_patches(
    x: jax.Array, kernel_size: tuple[int, ...], *, strides: tuple[int, ...],
    padding: _Padding,
    dilation: tuple[int, ...]) -> jax.Array:
  """Returns what a kernel sees at each of its places.

  Args:
    x: Inputs, [..., *space, in].
    kernel_size: Size of a patch along each axis of space.
    strides: Steps from patch to patch along each axis.
    padding: 'SAME', 'VALID', 'CIRCULAR', or a pair of sizes for each axis.
    dilation: Steps from entry to entry along each axis.

  Returns:
    [..., *places, prod(kernel_size), in].

  Raises:
    ValueError: If a kernel does not fit into its axis.
  """
  axes = len(kernel_size)
  reach = _reach(kernel_size, dilation)
  pads = jax.lax.padtype_to_pads(
      x.shape[-axes - 1:-1], reach, strides,
      padding.replace('CIRCULAR', 'SAME')) if isinstance(
          padding, str) else padding
  padded = jnp.pad(
      x, [*[(0, 0)] * (x.ndim - axes - 1), *pads, (0, 0)],
      mode='wrap' if padding == 'CIRCULAR' else 'constant')
  places = [(size - window) // stride + 1 for size, window, stride in zip(
      padded.shape[-axes - 1:-1], reach, strides, strict=True)]
  if min(places) < 1:
    raise ValueError(
        f'`kernel_size` {kernel_size} reaches over {reach} entries, '
        f'more than `x` has, {x.shape}, with its padding.')

  def see(entry: tuple[int, ...]) -> jax.Array:
    windows = [
        slice(index * gap, index * gap + (count - 1) * stride + 1, stride)
        for index, gap, count, stride in zip(
            entry, dilation, places, strides, strict=True)]
    return padded[(..., *windows, slice(None))]

  # A slice for each entry of the kernel: exact, and so is its gradient. Layers
  # evaluate their B-splines entry by entry: on a CPU, to move them from pixels
  # to entries takes as long.
  entries = itertools.product(*map(range, kernel_size))
  return jnp.stack([see(entry) for entry in entries], -2)


def _reach(
    kernel_size: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[int, ...]:
  """Returns how many entries a patch extends over, holes included."""
  return tuple((size - 1) * gap + 1
               for size, gap in zip(kernel_size, dilation, strict=True))


def _each(name: str, sizes: Any, count: int | None = None) -> tuple[int, ...]:
  """Returns whole numbers >= 1 as a tuple, of the length `count`."""
  if not isinstance(sizes, Sequence):
    sizes = (sizes,) * (count or 1)
  if not sizes or len(sizes) != (count or len(sizes)):
    raise ValueError(
        f'`{name}` is a whole number or one for each axis of `kernel_size`; '
        f'got {sizes!r}.')
  return tuple(checks.check_whole(name, size, 1) for size in sizes)


def _normalize(padding: Any, axes: int) -> _Padding:
  """Returns the name of a padding, or a pair for each axis."""
  if isinstance(padding, str) and padding.upper() in (
      'SAME', 'VALID', 'CIRCULAR'):
    return padding.upper()
  sizes = padding if isinstance(padding, Sequence) else (padding,) * axes
  pads: list[Any] = [
      (size, size) if isinstance(size, int) else size for size in sizes]
  if isinstance(padding, str) or len(pads) != axes or not all(
      isinstance(pad, Sequence) and len(pad) == 2 and all(
          isinstance(size, int) and size >= 0 for size in pad) for pad in pads):
    raise ValueError(
        "`padding` is 'SAME', 'VALID', 'CIRCULAR', a whole number >= 0, or a "
        f'number or a pair of them for each of {axes} axes; got {padding!r}.')
  return tuple((int(low), int(high)) for low, high in pads)
