"""Models for inference alone: what never changes is computed once.

`freeze` folds each layer of a model, see `_folded`, and compiles what is left.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any

from flax import linen as nn
from flax import traverse_util
import jax
import numpy as np

from kan_jax import checks
from kan_jax.layers import _folded
from kan_jax.layers import convolution
from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept

_PROGRAMS = 64  # Most that are kept for models to come.

_Path = tuple[str, ...]
_Forms = tuple[tuple[_Path, linen.KANLayer, _folded.Form], ...]


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
  forms: Mapping[_Path, _folded.Form]
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
    layers[path], form = _folded.fold(options, *(
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
      return _folded.outputs(x, layers[module.path], *known[module.path])

    with nn.intercept_methods(traversal.around_layers(compute)):
      return model.apply(variables, *args)

  return jax.jit(run)
