"""Models for inference alone: what never changes is computed once.

`freeze` folds mask, scales and coefficients of each layer and looks at its
knots. Where they are equally spaced, as before any grid update or with
`GridUpdate(eps=1)`, all B-splines of an input are one curve, moved (Schoenberg,
Contributions to the problem of approximation of equidistant data by analytic
functions, 1946): a few products in place of a choice among polynomials. Where
there are many intervals, a sample looks up the polynomials of its own.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import math
from typing import Any
from typing import Literal
from typing import NamedTuple

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import checks
from kan_jax import compiling
from kan_jax.layers import _by_input
from kan_jax.layers import _forward
from kan_jax.layers import convolution
from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept
from kan_jax.splines import _backends
from kan_jax.splines import _intervals
from kan_jax.splines import bases
from kan_jax.splines import bsplines

# How far from equal spacing knots may be, in intervals: the rounding of 50
# intervals in float32. A function changes by less than this part of its range.
_EQUAL = 2e-6
_PROGRAMS = 64  # Most that are kept for models to come.
# Most entries of a layer's table of polynomials, of which there are order + 1
# times as many as coefficients: 64 MiB in float32.
_ENTRIES = 2**24

_Path = tuple[str, ...]
_Form = Literal['moved', 'own', 'looked up', 'counted', 'sparse']
_Forms = tuple[tuple[_Path, linen.KANLayer, _Form], ...]


class _Folded(NamedTuple):
  """What is left of a layer.

  Attributes:
    coef: Weights of the B-splines, [out, in, grid + order], or the polynomials
      of an `_intervals.Table`.
    base: Weights of the base functions, [out, in].
    places: Arrays that say where the B-splines are, [in, ...], or the rest of
      the table.
    affine: Numbers of the symbolic edges, if there are any.
    node_bias: [out], if there are biases.
  """
  coef: jax.Array
  base: jax.Array
  places: tuple[jax.Array, ...]
  affine: jax.Array | None
  node_bias: jax.Array | None


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Frozen:
  """A model that computes its outputs and nothing else; see `freeze`.

  Attributes:
    model: The model that it was made of.
    arrays: All the arrays that it needs, in a row: a call would take a while to
      walk through a tree of them.
    forms: How its layers compute splines, by path. 'moved': all B-splines are
      one curve. 'own': each is a function of its own. Where there are many, the
      polynomials of a sample's interval are 'looked up', or 'counted' if all
      intervals are of equal size; 'sparse': so many that B-splines themselves
      are, as in `apply`, in less memory.
  """
  model: nn.Module
  arrays: tuple[jax.Array, ...]
  forms: Mapping[_Path, _Form]
  _program: Callable[..., Any]

  def __call__(self, *args: Any) -> Any:
    """Returns what `model.apply(variables, *args)` does."""
    return self._program(self.arrays, *args)

  def __repr__(self) -> str:
    return f'Frozen({type(self.model).__name__})'


@accept.takes_nnx
def freeze(
    model: nn.Module, variables: Mapping[str, Any], *args: Any) -> Frozen:
  """Makes a function for inference of a model that is trained no further.

    frozen = kan_jax.freeze(model, variables)
    y = frozen(x)

  The function is compiled. Models with the same options share their programs.

  Args:
    model: A `KAN`, a `KANLayer`, or any Flax module that holds KAN layers.
      Layers within a transform, as of `nn.scan`, are left as they are.
    variables: Its variables, as arrays: not within `jax.jit`.
    *args: What the model is applied to, of which only the shapes matter. A
      KAN, a KANLayer and a KANConv need nothing.

  Returns:
    A function of inputs. It equals `model.apply` to about 1e-6 of its range, in
    float32.

  Raises:
    ValueError: If the variables are traced, or inputs are missing.
  """
  checks.check_model(model)
  if any(isinstance(leaf, jax.core.Tracer)
         for leaf in jax.tree.leaves(variables)):
    raise ValueError(
        '`variables` are traced, and `freeze` looks at their values: freeze '
        'outside of `jax.jit`, and call the frozen model within.')
  layers, forms = {}, []
  for path, options in _find_layers(model, variables, args).items():
    layers[path], form = _fold(options, *(
        _at(variables.get(kind, {}), path) for kind in ('params', 'grid')))
    forms.append((path, options, form))
  arrays, structure = jax.tree.flatten((_without(variables, layers), layers))
  return Frozen(model, tuple(arrays), {path: form for path, _, form in forms},
                _make_program(model, tuple(forms), structure))


def _find_layers(
    model: nn.Module, variables: Mapping[str, Any],
    args: tuple[Any, ...]) -> dict[_Path, linen.KANLayer]:
  """Returns the options of the layers that can be frozen, by path."""
  if not args and isinstance(model, linen.KANLayer):
    return {(): model}
  if not args and isinstance(model, linen.KAN):
    return {(f'layers_{i}',): model.make_layer(i, parent=None)
            for i in range(len(model.features) - 1)}
  if not args and isinstance(model, convolution.KANConv):
    return {(name,): model.make_layer(parent=None)
            for name in model.layer_names}
  if not args:
    raise ValueError(
        'inputs are missing: the layers of a model of your own are found by '
        'applying it. Pass some, as in freeze(model, variables, x[:1]).')
  found: dict[_Path, linen.KANLayer] = {}

  def look(module: linen.KANLayer, x: Any, proceed: Callable[[], Any]) -> Any:
    knots: Any = module.get_variable('grid', 'knots')
    # In a transform, or stacked by one, it stays as it is.
    if not isinstance(knots, jax.core.Tracer) and np.ndim(knots) == 2:
      found[module.path] = module.clone(parent=None, name=None)
    return proceed()

  with nn.intercept_methods(traversal.around_layers(look)):
    jax.eval_shape(functools.partial(model.apply, variables), *args)
  return found


def _at(variables: Mapping[str, Any], path: _Path) -> Mapping[str, Any]:
  return functools.reduce(lambda tree, name: tree[name], path, variables)


def _without(
    variables: Mapping[str, Any], paths: Mapping[_Path, Any]) -> dict[str, Any]:
  """Returns the variables of all but some layers."""
  return {kind: traverse_util.unflatten_dict({
      path: array for path, array in traverse_util.flatten_dict(tree).items()
      if path[:-1] not in paths}) for kind, tree in variables.items()}


# What a layer is made into.


def _fold(
    options: linen.KANLayer, params: Mapping[str, Any],
    grid: Mapping[str, Any]) -> tuple[_Folded, _Form]:
  """Returns what a layer is made into, and where its B-splines come from."""
  # On the host, where nothing is compiled.
  arrays: dict[str, Any] = {
      name: np.asarray(array) for name, array in {**grid, **params}.items()}
  coef = (arrays['mask'] * arrays['scale_spline'])[:, None] * arrays['coef']
  base = arrays['mask'] * arrays['scale_base']
  # Outputs first, in memory, too: products of this form take two thirds to
  # three quarters of the time. To turn the arrays at each call would cost that.
  base = np.ascontiguousarray(base.T)
  form, coef, places = _fold_splines(arrays['knots'], coef, options)
  # `jnp.asarray` would compile a program for each shape.
  return _Folded(*jax.device_put((
      coef, base, places, arrays.get('affine'), arrays.get('node_bias')))), form


def _fold_splines(
    knots: np.ndarray, coef: np.ndarray, options: linen.KANLayer
    ) -> tuple[_Form, Any, tuple[Any, ...]]:
  """Returns the form of some splines and what `_Folded` keeps of them."""
  order, outside = options.order, options.outside
  _, size, outputs = coef.shape
  if options.basis == 'bspline' and coef.size * (order + 1) <= _ENTRIES:
    even = _intervals.are_even(knots, order, outside)
    choices = _backends.choices()
    most = choices.counted if even else choices.looked_up
    if size > most * (order + 1):
      polynomials, *places = _intervals.tabulate(
          knots, coef, order, outside, even)
      return 'counted' if even else 'looked up', polynomials, tuple(places)
  turned = np.ascontiguousarray(np.moveaxis(coef, -1, 0))
  if edges.lookup_pays(size, outputs, options.basis):
    return 'sparse', turned, (knots,)
  equal = _equal_places(knots, options)
  if equal:
    return 'moved', turned, equal
  return 'own', turned, _places(knots, order, options.basis)


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


# What takes the place of a layer's own sums.


@functools.lru_cache(maxsize=_PROGRAMS)
def _make_program(
    model: nn.Module, forms: _Forms, structure: Any) -> Callable[..., Any]:
  """Returns the compiled function of arrays and inputs."""
  known = {path: (options, form) for path, options, form in forms}

  def run(arrays, *args):
    variables, layers = jax.tree.unflatten(structure, arrays)

    def compute(module, x, proceed):
      if module.path not in layers:
        return proceed()
      options, form = known[module.path]
      folded = layers[module.path]
      arrays = _forward.Arrays(
          _as_edges(folded), folded.affine, folded.node_bias)
      return _forward.outputs(
          _forward.as_input(x, folded.base.shape[1]), arrays, options,
          functools.partial(_sums, folded=folded, form=form))

    with nn.intercept_methods(traversal.around_layers(compute)):
      return model.apply(variables, *args)

  return jax.jit(run)


def _as_edges(folded: _Folded) -> edges.Edges:
  """Returns the edges of a layer; those looked up have nothing but the types.
  """
  ones = jnp.ones_like(folded.base[0])[:, None]
  coef = jnp.moveaxis(folded.coef, 0, -1).astype(folded.base.dtype)
  return edges.Edges(folded.places[0], ones, coef, folded.base.T, ones)


def _sums(
    rows: jax.Array, splines: edges.Edges, options: _forward.Options,
    dtype: jax.typing.DTypeLike, *, folded: _Folded, form: _Form) -> jax.Array:
  """Sums over inputs, in the way that suits knots and sizes.

  Args:
    rows: Inputs, [n, in].
    splines: What `_as_edges` made.
    options: The layer.
    dtype: Type of the matrix products.
    folded: The layer's arrays.
    form: Where the B-splines come from.
  """
  if form == 'sparse':
    return _forward.node_sums(rows, splines, options, dtype)
  looked_up = form in ('looked up', 'counted')
  outputs, _, size = folded.coef.shape

  def by_curve(x, middle, inverse):
    u = ((x - middle[:, None]) * inverse[:, None])[:, None]
    return _equal_basis(u, size, options)

  evaluate: Callable[..., jax.Array] = by_curve if form == 'moved' else (
      functools.partial(bases.find(options.basis).values, order=options.order,
                        outside=options.outside))
  if not looked_up and edges.count_parts(rows, splines.coef) > 1:
    return edges.sum_features(
        rows, evaluate, folded.places, splines.scale_base, splines.coef,
        options.base_fn, dtype, options.precision)
  x = _by_input.turn(rows)
  multiply = functools.partial(
      jnp.matmul, precision=options.precision,
      preferred_element_type=jnp.promote_types(dtype, jnp.float32))
  base = multiply(folded.base.astype(dtype), options.base_fn(x).astype(dtype))
  if looked_up:
    table = _intervals.Table(folded.coef, *folded.places)
    return (base.T + _intervals.sums(
        x, table, options.order, form == 'counted')).astype(dtype)
  values = evaluate(x, *folded.places).reshape(len(x) * size, x.shape[1])
  return (base + multiply(folded.coef.reshape(outputs, -1).astype(dtype),
                          values.astype(dtype))).T.astype(dtype)


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
