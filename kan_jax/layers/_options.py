"""The options of a model as JSON has them: numbers, texts, and names.

What a file keeps of a model besides its arrays. Functions are kept by the names
of a table, or marked as the user's own and looked up when the model is rebuilt.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
import operator
from typing import Any
from typing import get_args

import jax
import jax.numpy as jnp

from kan_jax import checks
from kan_jax.layers import _named
from kan_jax.layers import convolution
from kan_jax.layers import functions as function_library
from kan_jax.layers import initial_values
from kan_jax.layers import linen
from kan_jax.layers import symbolic_edges

Model = linen.KAN | linen.KANLayer | convolution.KANConv
BaseFn = Callable[[jax.Array], jax.Array]
OwnFunction = function_library.Function | BaseFn

DTYPES: Mapping[str, Any] = {dtype.dtype.name: dtype for dtype in (
    jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64)}
_CLASSES: Mapping[str, type[Model]] = {
    'KAN': linen.KAN, 'KANLayer': linen.KANLayer,
    'KANConv': convolution.KANConv}
_SCHEMES: Mapping[str, type[initial_values.Scheme]] = {
    cls.__name__: cls for cls in get_args(initial_values.Scheme)}
_OWN = 'own'  # Marks a function of which only the name is known.


class OwnFunctions:
  """A user's functions by their names.

  Attributes:
    of_edges: Those for symbolic edges.
    of_bases: Those for `base_fn`.
  """

  def __init__(self, functions: Iterable[OwnFunction]):
    self.of_edges: dict[str, function_library.Function] = {}
    self.of_bases: dict[str, BaseFn] = {}
    for function in functions:
      table: dict[str, Any] = self.of_bases
      if isinstance(function, function_library.Function):
        name, table = function.name, self.of_edges
      elif callable(function) and hasattr(function, '__name__'):
        name = function.__name__
      else:
        raise ValueError(
            '`functions` holds Functions and base functions that have a name; '
            f'got {function!r}.')
      if name in table:
        raise ValueError(f'`functions` has two of the name {name!r}.')
      table[name] = function


def describe(model: Model) -> dict[str, Any]:
  """Returns the options of a model as JSON has them.

  Raises:
    ValueError: If the model is no KAN, KANLayer or KANConv itself, or one of
      its functions has no name that tells it from others.
  """
  if type(model) not in _CLASSES.values():
    raise ValueError(
        '`model` needs to be a KAN, a KANLayer or a KANConv; got a '
        f'{type(model).__name__}.')
  # Plain Python numbers: JSON knows none of NumPy's.
  options = {
      'class': type(model).__name__,
      'features': _to_lists(model.features),
      'grid': operator.index(model.grid),
      'order': operator.index(model.order),
      'grid_range': [float(end) for end in model.grid_range],
      'base_fn': _name_base_fn(model.base_fn),
      'outside': model.outside,
      'noise': float(model.noise),
      'scale_base_init': _named.find_name(
          model.scale_base_init, _named.INITIALIZERS),
      'scale_spline_init': _named.find_name(
          model.scale_spline_init, _named.INITIALIZERS),
      'bias': bool(model.bias),
      'dtype': None if model.dtype is None else _name_dtype(model.dtype),
      'param_dtype': _name_dtype(model.param_dtype),
      'precision': checks.name_precision(model.precision),
      'initial': _describe_scheme(model.initial),
      'basis': model.basis}
  if isinstance(model, convolution.KANConv):
    return options | {
        'kernel_size': _to_lists(model.kernel_size),
        'strides': _to_lists(model.strides),
        'padding': model.padding if isinstance(model.padding, str)
                   else _to_lists(model.padding),
        'kernel_dilation': _to_lists(model.kernel_dilation),
        'feature_group_count': operator.index(model.feature_group_count)}
  layers: Sequence[symbolic_edges.Groups]
  if isinstance(model, linen.KAN):
    layers = model.symbolic
    options['arity'] = _to_lists(model.arity)
  else:
    layers = (model.symbolic,)
  _check_names(layers)
  return options | {'symbolic': [_name_groups(groups) for groups in layers]}


def rebuild(options: Mapping[str, Any], own: OwnFunctions) -> Model:
  """Makes a model of what `describe` returned.

  Raises:
    ValueError: If something is missing, unknown or impossible, or a function of
      the user's is not in `own`.
  """
  # Older files do not name what came later.
  options = {'precision': linen.KAN.precision, 'initial': None,
             'basis': linen.KAN.basis} | dict(options)
  cls = _find(_CLASSES, options.pop('class', None))
  fields = {field.name for field in dataclasses.fields(cls)}
  # Neither more nor less: a later version may mean something else by it.
  differing = options.keys() ^ (fields - {'parent', 'name'})
  if differing:
    raise ValueError(
        'options of its model are missing or unknown: '
        f'{", ".join(sorted(differing))[:80]}')
  if 'symbolic' in fields:
    layers = [_find_groups(groups, own)
              for groups in _expect(options['symbolic'], list)]
    if cls is linen.KANLayer:
      options['symbolic'], = layers
    else:
      options['symbolic'] = tuple(layers)
  options['base_fn'] = _find_base_fn(options['base_fn'], own)
  options['grid_range'] = tuple(_expect(options['grid_range'], list))
  _expect(options['noise'], float)
  _expect(options['bias'], bool)
  options['param_dtype'] = _find(DTYPES, options['param_dtype'])
  if options['dtype'] is not None:
    options['dtype'] = _find(DTYPES, options['dtype'])
  options['initial'] = _rebuild_scheme(options['initial'])
  for name in ('scale_base_init', 'scale_spline_init'):
    initializer = options.pop(name)
    if initializer is not None:  # Else it has the default one.
      options[name] = _find(_named.INITIALIZERS, initializer)
  return cls(**options, parent=None)


def _to_lists(numbers: Any) -> Any:
  if isinstance(numbers, Sequence):
    return [_to_lists(number) for number in numbers]
  return operator.index(numbers)


def _expect(value: Any, kind: type[Any]) -> Any:
  if not isinstance(value, kind):
    raise ValueError(
        f'an option of its model is {str(value)[:40]!r}, not a '
        f'{kind.__name__}')
  return value


def _find(table: Mapping[str, Any], name: Any) -> Any:
  if not isinstance(name, str) or name not in table:
    raise ValueError(
        f'an option of its model is {str(name)[:40]!r}, not one of '
        f'{", ".join(table)}')
  return table[name]


def _describe_scheme(
    scheme: initial_values.Scheme | None) -> dict[str, Any] | None:
  if scheme is None:
    return None
  return {'class': type(scheme).__name__} | {
      name: value if isinstance(value, str) else float(value)
      for name, value in dataclasses.asdict(scheme).items()}


def _rebuild_scheme(described: Any) -> initial_values.Scheme | None:
  if described is None:
    return None
  fields = dict(_expect(described, dict))
  cls = _find(_SCHEMES, fields.pop('class', None))
  if fields.keys() != {field.name for field in dataclasses.fields(cls)}:
    raise ValueError(
        'options of its initial values are missing or unknown: '
        f'{", ".join(sorted(fields))[:80]}')
  for name, value in fields.items():
    _expect(value, str if name == 'mode' else float)
  return cls(**fields)


def _name_dtype(dtype: jax.typing.DTypeLike) -> str:
  name = jnp.dtype(dtype).name
  if name not in DTYPES:
    raise ValueError(
        f'`model` needs types that a file can hold, {", ".join(DTYPES)}; got '
        f'{name}.')
  return name


def _name_base_fn(base_fn: BaseFn) -> str | dict[str, str]:
  name = _named.find_name(base_fn, _named.FUNCTIONS)
  if name is not None:
    return name
  name = getattr(base_fn, '__name__', None)
  if not isinstance(name, str) or not name.isidentifier():
    raise ValueError(
        f'`model` has a base function without a name, {base_fn!r}: a file '
        'holds names, no code. Make it with def, and pass '
        'model.clone(base_fn=…).')
  return {_OWN: name}


def _find_base_fn(name: Any, own: OwnFunctions) -> BaseFn:
  if isinstance(name, dict):
    return _find_own(name, own.of_bases, 'the base function')
  return _find(_named.FUNCTIONS, name)


def _name_groups(groups: symbolic_edges.Groups) -> list[Any]:
  """Returns the symbolic edges of a layer with names for functions."""
  named = []
  for function, edges in groups:
    if isinstance(function, function_library.Function):
      function = function_library.shorten(function)
    named.append([
        function if isinstance(function, str) else {_OWN: function.name},
        _to_lists(edges)])
  return named


def _find_groups(groups: Any, own: OwnFunctions) -> symbolic_edges.Groups:
  with_functions = []
  for pair in _expect(groups, list):
    name, edges = _expect(pair, list)
    if isinstance(name, dict):
      name = _find_own(name, own.of_edges, 'the symbolic function')
    else:
      _expect(name, str)
    with_functions.append((name, edges))
  return symbolic_edges.normalize(with_functions)


def _find_own(
    marked: Mapping[str, Any], own: Mapping[str, Any], kind: str) -> Any:
  name = marked.get(_OWN)
  if not isinstance(name, str) or name not in own:
    raise ValueError(
        f'it needs {kind} {name!r}, which is not part of kan_jax: pass it in '
        f'`functions`, which has {", ".join(own) or "none of that kind"}')
  return own[name]


def _check_names(layers: Iterable[symbolic_edges.Groups]) -> None:
  """Raises a ValueError if two of the user's functions have one name."""
  own: dict[str, function_library.Function] = {}
  for groups in layers:
    for function, _ in groups:
      if isinstance(function, str) or isinstance(
          function_library.shorten(function), str):
        continue
      if own.setdefault(function.name, function) != function:
        raise ValueError(
            f'`model` has two functions with the name {function.name!r}; a '
            'file tells them apart by their names.')


def parse(structure: str) -> dict[str, Any]:
  """Reads JSON; raises a ValueError if it is none, or no object."""
  try:
    options = json.loads(structure)
  except RecursionError as error:
    raise ValueError('its options are nested too deeply') from error
  return _expect(options, dict)
