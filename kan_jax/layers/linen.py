"""KAN layers for Flax: thin modules over the pure functions of `edges`."""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from kan_jax import checks
from kan_jax.layers import _forward
from kan_jax.layers import _hints
from kan_jax.layers import _named
from kan_jax.layers import edges
from kan_jax.layers import initial_values
from kan_jax.layers import nodes
from kan_jax.layers import symbolic_edges
from kan_jax.splines import bases
from kan_jax.splines import bsplines
from kan_jax.splines import grids

_GRID_UPDATE = grids.GridUpdate()
_SCALE_BASE_INIT = _named.INITIALIZERS['fan_in_normal']


def _check_options(module: Any) -> None:
  """Checks the fields that a layer and a network have in common."""
  module.precision = checks.name_precision(module.precision)
  bsplines.check_grid(module.grid)
  bsplines.check_order(module.order)
  bsplines.check_range(module.grid_range)
  bases.check(module.basis, module.outside)
  if module.initial is None:
    return
  if not isinstance(module.initial, initial_values.Scheme):
    raise ValueError(
        '`initial` is None, a `VarianceScaling` or a `PowerLaw`; got '
        f'{module.initial!r}.')
  if module.scale_base_init is not _SCALE_BASE_INIT:
    raise ValueError(
        '`initial` decides the base functions, too; got `scale_base_init` '
        'besides.')


# Compiled also where `init` is not; see `_forward`.
_init_knots = jax.jit(
    bsplines.uniform_knots, static_argnums=range(5), inline=True)


@functools.partial(jax.jit, static_argnums=range(1, 8), inline=True)
def _init_coef(
    key: jax.Array, shape: tuple[int, int], grid: int, order: int,
    grid_range: tuple[float, float], noise: float,
    dtype: jax.typing.DTypeLike, basis: bases.Name) -> jax.Array:
  """Fits uniform noise at the knots of the grid, or what stands for them."""
  functions = bases.find(basis)
  knots = bsplines.uniform_knots(
      1, grid, order, grid_range, jnp.promote_types(dtype, jnp.float32))
  points = functions.points(knots, order).T
  values = jax.random.uniform(
      key, (len(points), 1, shape[0] * shape[1]), knots.dtype, -0.5, 0.5)
  values *= noise / grid
  coef = functions.fit(points, values, knots, order)
  return coef.reshape(-1, *shape).swapaxes(0, 1).astype(dtype)


def _floats(grid_range: tuple[float, float]) -> tuple[float, float]:
  low, high = map(float, grid_range)
  return low, high


@_hints.say_the_way
class KANLayer(nn.Module):
  """Sums a learned function of each input into each output.

  An edge computes mask * (scale_base * base_fn(x) + scale_spline * spline(x)),
  an output is the sum of its edges plus a bias (arXiv 2404.19756, section 2.2).

  Variables: `params` holds coef [in, grid + order, features], scale_base and
  scale_spline [in, features], node_bias [features]. `grid` holds knots
  [in, grid + 2 * order + 1] and mask [in, features]; no gradient reaches it,
  `update_grids` and pruning change it. With symbolic edges, which add to the
  outputs and whose mask should be 0, `params` holds affine, too, a row a, b, c,
  d for each of them: c * f(a * x + b) + d. Applied with `mutable='edges'`, the
  layer also returns its `EdgeStats` on the batch; with
  `mutable='intermediates'`, its `inputs`.

  Attributes:
    features: Number of outputs.
    grid: Number of intervals of each spline, >= 1.
    order: Degree of the splines, 0 to 5.
    grid_range: Where the grid begins and ends before any grid update.
    base_fn: Function beside the spline on every edge, elementwise.
    outside: What a spline does beyond its grid: 'zero', 'clamp', 'linear' or
      'polynomial'; see `splines.basis`.
    noise: Initial splines pass through uniform noise on +-noise / (2 * grid)
      at the knots; other functions at points that suit them.
    scale_base_init: Initializer of scale_base, given the shape [in, features];
      by default normal, with variance 1 / in.
    scale_spline_init: Initializer of scale_spline.
    bias: Whether each output has a trainable bias.
    dtype: Type of the matrix product and the output; None promotes the input's
      and the parameters'. The basis takes float32 at least.
    param_dtype: Type of the parameters. Knots take float32 at least.
    precision: Of the matrix products: 'highest', 'high', 'default' or a
      `jax.lax.Precision`, kept by its name. With 'highest', float32 is float32
      on every device; with less, accelerators round to TF32 or bfloat16, which
      is faster and leaves errors near 1e-3. None takes what
      `jax.default_matmul_precision` says. Refits and fits of functions always
      take 'highest'.
    symbolic: Edges that carry a function: pairs of a function, by name or as a
      `symbolic.Function`, and its edges (input, output). `symbolic.fix` sets it
      along with the variables that belong to it.
    initial: Scheme for the initial values of scale_base and coef, in place of
      `scale_base_init` and `noise`: a `VarianceScaling` or a `PowerLaw`, for
      deep networks to try; see `initial_values`.
    basis: What splines are made of: 'bspline', 'chebyshev' for Chebyshev
      polynomials, or 'radial' for Gaussians, grid + order of them in each case;
      see `splines.bases`.
  """
  features: int
  grid: int = 5
  order: int = 3
  grid_range: tuple[float, float] = (-1.0, 1.0)
  base_fn: edges.BaseFn = nn.silu
  outside: bsplines.Outside = 'zero'
  noise: float = 0.1
  scale_base_init: nn.initializers.Initializer = _SCALE_BASE_INIT
  scale_spline_init: nn.initializers.Initializer = nn.initializers.ones
  bias: bool = True
  dtype: jax.typing.DTypeLike | None = None
  param_dtype: jax.typing.DTypeLike = jnp.float32
  precision: edges.Precision = 'highest'
  symbolic: symbolic_edges.Groups = ()
  initial: initial_values.Scheme | None = None
  basis: bases.Name = 'bspline'

  def __post_init__(self):
    checks.check_whole('features', self.features, 1)
    _check_options(self)
    self.symbolic = symbolic_edges.normalize(self.symbolic)
    super().__post_init__()

  def __reduce__(self):
    return _named.reduce(self)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [..., in] -> [..., features]
    stored: jax.Array | None = self.get_variable('grid', 'knots')
    x = _forward.as_input(x, None if stored is None else stored.shape[0])
    arrays = self._arrays(x.shape[-1])
    self.sow('intermediates', 'inputs', x)
    if self.is_mutable_collection('edges') and not self.is_initializing():
      self.sow('edges', 'stats', _forward.statistics(x, arrays, self))
    return _forward.outputs(x, arrays, self)

  @nn.nowrap
  def _init_coef(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    if self.initial is None:
      return _init_coef(
          key, shape, self.grid, self.order, _floats(self.grid_range),
          float(self.noise), self.param_dtype, self.basis)
    size = self.grid + self.order
    return nn.initializers.normal(self._deviations(shape).spline)(
        key, (shape[0], size, shape[1]), self.param_dtype)

  @nn.nowrap
  def _init_base(self, key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    init = self.scale_base_init
    if self.initial is not None:
      init = nn.initializers.normal(self._deviations(shape).base)
    return init(key, shape, self.param_dtype)

  @nn.nowrap
  def _deviations(self, shape: tuple[int, int]) -> initial_values.Deviations:
    assert self.initial is not None
    return self.initial(initial_values.Sizes(
        *shape, self.grid, self.order, _floats(self.grid_range), self.base_fn,
        self.basis))

  def _arrays(self, size: int) -> _forward.Arrays:
    """Declares all variables; their order decides the initial values."""
    shape = (size, self.features)
    symbolic_edges.check_shape(self.symbolic, shape)
    dtype = jnp.promote_types(self.param_dtype, jnp.float32)
    knots = self.variable(
        'grid', 'knots', _init_knots, size, self.grid, self.order,
        _floats(self.grid_range), dtype)
    mask = self.variable('grid', 'mask', jnp.ones, shape, self.param_dtype)
    splines = edges.Edges(
        knots.value, mask.value,
        self.param('coef', self._init_coef, shape),
        self.param('scale_base', self._init_base, shape),
        self.param(
            'scale_spline', self.scale_spline_init, shape, self.param_dtype))
    affine = self.param(
        'affine', symbolic_edges.init_affine, self.symbolic,
        self.param_dtype) if self.symbolic else None
    node_bias = self.param(
        'node_bias', nn.initializers.zeros, shape[1:],
        self.param_dtype) if self.bias else None
    return _forward.Arrays(splines, affine, node_bias)

  def update_grid(
      self, x: jax.Array, *,
      grid_update: grids.GridUpdate = _GRID_UPDATE) -> None:
    """Replaces knots and coefficients by those that suit the inputs `x`.

    For a bound module whose `grid` and `params` are mutable; `update_grids`
    does it for all the layers of a model.

    Args:
      x: Inputs, [..., in].
      grid_update: How the knots are placed, and how far they move.
    """
    knots, coef = grids.update_grid(
        x.reshape(-1, x.shape[-1]), self.get_variable('grid', 'knots'),
        self.get_variable('params', 'coef'), self.order, outside=self.outside,
        grid_update=grid_update, basis=self.basis)
    self.put_variable('grid', 'knots', knots)
    self.put_variable('params', 'coef', coef)


@_hints.say_the_way
class KAN(nn.Module):
  """KAN layers in a row: KAN([2, 5, 1]) has 2 inputs, 5 nodes and 1 output.

  Attributes:
    features: Number of inputs, of nodes in each layer, and of outputs. A pair
      counts nodes that add and nodes that multiply: the layer of 5 and 2 in
      KAN([2, [5, 2], 1]) has 5 + 2 * `arity` terms, see `nodes`.
    grid: Number of intervals of each spline; see `KANLayer` for this and all
      the other options.
    order: Degree of the splines.
    grid_range: Where the grids begin and end before any grid update.
    base_fn: Function beside the spline on every edge.
    outside: What a spline does beyond its grid.
    noise: Size of the initial splines.
    scale_base_init: Initializer of scale_base.
    scale_spline_init: Initializer of scale_spline.
    bias: Whether each node has a trainable bias.
    dtype: Type of the matrix products.
    param_dtype: Type of the parameters.
    precision: Precision of the matrix products.
    symbolic: Symbolic edges: empty, or an entry for each layer.
    arity: How many terms a multiplication node multiplies: a number for all of
      them, or for the inputs and each layer a sequence of numbers.
    initial: Scheme for the initial values, for deep networks to try.
    basis: What splines are made of.
  """
  features: Sequence[int | Sequence[int]]
  grid: int = 5
  order: int = 3
  grid_range: tuple[float, float] = (-1.0, 1.0)
  base_fn: edges.BaseFn = nn.silu
  outside: bsplines.Outside = 'zero'
  noise: float = 0.1
  scale_base_init: nn.initializers.Initializer = _SCALE_BASE_INIT
  scale_spline_init: nn.initializers.Initializer = nn.initializers.ones
  bias: bool = True
  dtype: jax.typing.DTypeLike | None = None
  param_dtype: jax.typing.DTypeLike = jnp.float32
  precision: edges.Precision = 'highest'
  symbolic: tuple[symbolic_edges.Groups, ...] = ()
  arity: int | Sequence[Sequence[int]] = 2
  initial: initial_values.Scheme | None = None
  basis: bases.Name = 'bspline'

  def __post_init__(self):
    all_nodes = nodes.from_features(self.features, self.arity)
    self.features = tuple(layer.feature for layer in all_nodes)
    if isinstance(self.arity, Sequence):
      self.arity = tuple(layer.arities for layer in all_nodes)
    _check_options(self)
    self.symbolic = tuple(
        symbolic_edges.normalize(layer) for layer in self.symbolic)
    if self.symbolic and len(self.symbolic) != len(self.features) - 1:
      raise ValueError(
          '`symbolic` is empty or has an entry for each of the '
          f'{len(self.features) - 1} layers; got {len(self.symbolic)}.')
    super().__post_init__()

  def __reduce__(self):
    return _named.reduce(self)

  @property
  def nodes(self) -> tuple[nodes.Nodes, ...]:
    """The inputs and the nodes of every layer."""
    return nodes.from_features(self.features, self.arity)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [..., in] -> [..., out]
    inputs, *layers = self.nodes
    x = _forward.as_input(x, inputs.size)
    for i, layer in enumerate(layers):
      x = nodes.combine(self.make_layer(i, name=f'layers_{i}')(x), layer)
    return x

  @nn.nowrap
  def make_layer(self, i: int, **options: Any) -> KANLayer:
    """Returns a module like the layer at index `i`, from 0.

    Args:
      i: Index of the layer.
      **options: Fields that are its own, such as `name`.
    """
    return KANLayer(
        self.nodes[i + 1].terms, **shared_options(self),
        symbolic=self.symbolic[i] if self.symbolic else (), **options)


def shared_options(module: Any) -> dict[str, Any]:
  """Returns the options that a module hands on to each of its KAN layers."""
  own = ('features', 'symbolic', 'parent', 'name')
  return {field.name: getattr(module, field.name)
          for field in dataclasses.fields(KANLayer) if field.name not in own}
