"""One file for a trained model: what it is made of, its arrays, its history.

The format is that of safetensors (https://huggingface.co/docs/safetensors):
arrays by their paths, such as 'params/layers_0/coef', and the options of the
model as JSON in the metadata. There is no code in a file, and loading runs
none; it need not be trusted. Needs safetensors.
"""

from collections.abc import Iterable
from collections.abc import Mapping
import contextlib
import hashlib
import json
import operator
import os
import pathlib
from typing import Any
from typing import TYPE_CHECKING
import uuid

from flax import core
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors import numpy as safetensors_numpy

from kan_jax.layers import _options
from kan_jax.layers import _plain
from kan_jax.layers import convolution
from kan_jax.layers import linen
from kan_jax.layers import symbolic_edges
from kan_jax.layers.nnx import accept
from kan_jax.training import fitting

if TYPE_CHECKING:
  from kan_jax.layers.nnx import modules

_FORMAT, _VERSION = 'kan_jax model', '1'
_FITTED = 'Fitted'  # Kind of a file that has a history.
_TEXTS = ('model', 'more')  # What a file has besides arrays.
_Shape = tuple[int, ...]


class ModelFileError(ValueError):
  """A file of a model that cannot be read or written."""


def save(
    path: str | os.PathLike[str],
    model: '_options.Model | modules.KAN | modules.KANLayer | '
           'modules.KANConv | fitting.Fitted[Any]',
    variables: Mapping[str, Any] | None = None, *,
    overwrite: bool = False) -> None:
  """Writes a model into one file that `load` reads.

      kan_jax.save('model.safetensors', fitted.model, fitted.variables)
      model, variables = kan_jax.load('model.safetensors')

  The file is there whole or not at all. Of functions that are not part of JAX
  or of `LIBRARY`, it keeps the names. Initializers matter for `init` only:
  those other than the default ones, zeros and ones are not kept.

  Args:
    path: The file.
    model: A KAN, a KANLayer or a KANConv, of any options; pruned or symbolic,
      too. Or one of `kan_jax.nnx`, or what `fit` returned, both without
      `variables`; see `load_fitted`.
    variables: Its variables, `params` and `grid`.
    overwrite: Whether to replace a file that is there.

  Raises:
    ValueError: If the model is of another class, the variables are not those of
      it, or a function of one's own has no name: a lambda, say.
    ModelFileError: If there is a file already, or none can be written.
  """
  more: dict[str, Any] = {}
  if isinstance(model, fitting.Fitted):
    more = {'kind': _FITTED, 'history': model.history, 'reason': model.reason}
    pair = accept.without_arrays(model.model), model.variables
  else:
    pair = accept.as_linen(model, variables)
  write(path, *pair, more, overwrite=overwrite)


def load(
    path: str | os.PathLike[str],
    functions: Iterable[_options.OwnFunction] = (),
) -> tuple[_options.Model, dict[str, Any]]:
  """Reads a model that `save` wrote.

  Args:
    path: The file, also one of `Fitted` or of an estimator.
    functions: One's own functions that the model uses, found by their names:
      a `Function` for symbolic edges, and for `base_fn` what `def` made.

  Returns:
    The model, with the default initializers where the file has none, and its
    variables on the default device. `kan_jax.nnx.from_linen` makes one for NNX
    of them.

  Raises:
    ModelFileError: If there is no such file, it is damaged, of another format
      or version, needs a function that is not in `functions`, or has arrays of
      64 bits where JAX has 32.
    ValueError: If `functions` holds something else, or a name twice.
  """
  model, variables, _ = read(path, functions)
  return model, variables


def load_fitted(
    path: str | os.PathLike[str],
    functions: Iterable[_options.OwnFunction] = (),
) -> 'fitting.Fitted[_options.Model]':
  """Reads what `fit` returned, with its history, from a file of `save`.

  Args:
    path: The file.
    functions: As for `load`.

  Raises:
    ModelFileError: As `load`, and if the file has a model but no history.
  """
  model, variables, more = read(path, functions)
  if more.get('kind') != _FITTED:
    raise ModelFileError(
        f'{path} holds a model alone, not what `fit` returned; use `load`')
  history, reason = more.get('history'), more.get('reason')
  if not isinstance(history, dict) or not isinstance(reason, str):
    raise ModelFileError(f'{path} cannot be used: its history is damaged')
  return fitting.Fitted(model, variables, history, reason)


def write(
    path: str | os.PathLike[str], model: _options.Model,
    variables: Mapping[str, Any], more: Mapping[str, Any], *,
    overwrite: bool = False) -> None:
  """Writes a model and further values, as `save` does.

  Args:
    path: The file.
    model: A KAN, a KANLayer or a KANConv.
    variables: Its variables.
    more: Numbers, texts, numpy arrays, and lists and dicts of them.
    overwrite: Whether to replace a file that is there.
  """
  target = pathlib.Path(path).resolve()  # A link is not replaced by a file.
  if os.path.exists(target) and not overwrite:
    raise ModelFileError(
        f'{target} is there already; `overwrite=True` replaces it.')
  texts = {'model': json.dumps(_options.describe(model))}
  if more:
    texts['more'] = _plain.dump(more)
  arrays = _flatten(variables)
  _check_arrays('`variables`', model, arrays)
  content = safetensors_numpy.save(arrays, {
      'format': _FORMAT, 'version': _VERSION, **texts,
      'sha256': _checksum(texts, arrays)})
  _write(target, content)


def read(
    path: str | os.PathLike[str],
    functions: Iterable[_options.OwnFunction] = (),
) -> tuple[_options.Model, dict[str, Any], dict[str, Any]]:
  """Reads what `write` wrote: the model, its variables and further values."""
  own = _options.OwnFunctions(functions)
  path = pathlib.Path(path)
  texts, arrays = _read(path)
  try:
    options = _options.parse(texts['model'])
    _check_counts(options, arrays)
    model = _options.rebuild(options, own)
    _check_arrays('its arrays', model, arrays)
    more = _plain.parse(texts['more']) if 'more' in texts else {}
  except (ValueError, TypeError, OverflowError) as error:
    raise ModelFileError(
        f'{path} cannot be used: {str(error)[:400]}') from error
  variables = traverse_util.unflatten_dict(
      {name: jnp.array(array) for name, array in arrays.items()}, sep='/')
  return model, variables, more if isinstance(more, dict) else {}


def _flatten(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """Returns the arrays by their paths."""
  if not isinstance(variables, Mapping):
    raise ValueError(
        '`variables` maps collections to arrays; got a '
        f'{type(variables).__name__}.')
  arrays = {}
  for path, leaf in traverse_util.flatten_dict(
      core.unfreeze(dict(variables))).items():
    name, array = '/'.join(map(str, path)), np.asarray(leaf)
    dtype = _options.DTYPES.get(array.dtype.name)
    if dtype is None:
      raise ValueError(
          f'`variables` needs arrays of {", ".join(_options.DTYPES)}; {name} '
          f'is {array.dtype}.')
    arrays[name] = np.ascontiguousarray(array, dtype)
  return arrays


def _check_counts(
    options: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
  """Raises a ValueError if there are more nodes than the arrays can have.

  Before the model is made, which takes memory for each of them.
  """
  entries = sum(array.size for array in arrays.values())
  sizes = options.get('features')
  sizes = sizes if isinstance(sizes, list) else [sizes]
  counts = [n for size in sizes
            for n in (size if isinstance(size, list) else [size])]
  if any(not isinstance(n, int) or not 0 <= n <= entries for n in counts) or (
      sum(counts) > 2 * entries):
    raise ValueError('its numbers of nodes do not fit its arrays')


def _check_arrays(
    what: str, model: _options.Model, arrays: Mapping[str, np.ndarray]) -> None:
  """Raises a ValueError unless the arrays are those of the model."""
  prefix = f'{model.layer_names[0]}/' if isinstance(
      model, convolution.KANConv) else ''
  mask = arrays.get(f'grid/{prefix}mask')
  shapes = _shapes(model, len(mask) if mask is not None and mask.ndim else 1)
  for name in sorted(shapes.keys() | arrays.keys()):
    shape = arrays[name].shape if name in arrays else None
    if shapes.get(name) != shape:
      raise ValueError(
          f'{what} are not those of the model: {name} is '
          f'{"missing" if shape is None else list(shape)}, expected is '
          f'{list(shapes[name]) if name in shapes else "no such array"}.')


def _shapes(model: _options.Model, inputs: int) -> dict[str, _Shape]:
  """Returns the shapes of a model's variables; `inputs` are those of a layer.

  A KAN knows its own.
  """
  if isinstance(model, linen.KANLayer):
    return _layer_shapes(
        model, '', (inputs, operator.index(model.features)), model.symbolic)
  shapes: dict[str, _Shape] = {}
  if isinstance(model, convolution.KANConv):
    # Whole channels; of one at least.
    shape = (model.entries * max(inputs // model.entries, 1),
             model.features // model.feature_group_count)
    for name in model.layer_names:
      shapes |= _layer_shapes(model, f'{name}/', shape, ())
    return shapes
  before, *layers = model.nodes
  for k, layer in enumerate(layers):
    shapes |= _layer_shapes(
        model, f'layers_{k}/', (before.size, layer.terms),
        model.symbolic[k] if model.symbolic else ())
    before = layer
  return shapes


def _layer_shapes(
    model: _options.Model, prefix: str, shape: tuple[int, int],
    groups: symbolic_edges.Groups) -> dict[str, _Shape]:
  """Returns the shapes of a layer's variables; see `KANLayer`."""
  symbolic_edges.check_shape(groups, shape)
  size, features = shape
  shapes: dict[str, _Shape] = {
      f'grid/{prefix}knots': (size, model.grid + 2 * model.order + 1),
      f'grid/{prefix}mask': shape,
      f'params/{prefix}coef': (size, model.grid + model.order, features),
      f'params/{prefix}scale_base': shape,
      f'params/{prefix}scale_spline': shape}
  if model.bias:
    shapes[f'params/{prefix}node_bias'] = (features,)
  if groups:
    shapes[f'params/{prefix}affine'] = (len(symbolic_edges.pairs(groups)), 4)
  return shapes


def _checksum(
    texts: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> str:
  """Returns the SHA-256 of all that is in a file."""
  digest = hashlib.sha256('\n'.join(
      texts[name] for name in _TEXTS if name in texts).encode())
  for name, array in sorted(arrays.items()):
    digest.update(
        f'\n{name} {array.dtype.name} {array.shape}\n'.encode())
    digest.update(array.tobytes())
  return digest.hexdigest()


def _write(target: pathlib.Path, content: bytes) -> None:
  """Writes a file that is there whole or not at all."""
  partial = target.with_name(f'.{uuid.uuid4().hex}.partial')
  try:
    with partial.open('xb') as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())  # Else a crash may leave the name without it.
    os.replace(partial, target)
  except OSError as error:
    raise ModelFileError(
        f'{target} cannot be written: {error.strerror}') from error
  finally:
    with contextlib.suppress(OSError):  # Renamed, or never there.
      partial.unlink()


def _read(
    path: pathlib.Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
  """Returns the texts, as JSON, and the arrays of a file that is intact."""
  if not os.path.isfile(path):
    raise ModelFileError(f'{path} is not a file')
  try:
    with safetensors.safe_open(path, framework='numpy') as file:
      metadata = file.metadata() or {}
      _check_format(path, metadata)
      names: list[str] = file.keys()
      arrays = {name: file.get_tensor(name) for name in names}
  except ModelFileError:
    raise
  except Exception as error:  # Of safetensors, numpy or the disk.
    raise ModelFileError(
        f'{path} is no model file, or damaged: '
        f'{str(error).splitlines()[0][:200] if str(error) else error!r}'
    ) from error
  texts = {'model': ''} | {
      name: metadata[name] for name in _TEXTS if name in metadata}
  if metadata.get('sha256') != _checksum(texts, arrays):
    raise ModelFileError(f'{path} is damaged: its checksum does not match')
  _check_dtypes(path, arrays)
  return texts, arrays


def _check_format(path: pathlib.Path, metadata: Mapping[str, str]) -> None:
  if metadata.get('format') != _FORMAT:
    raise ModelFileError(
        f'{path} is no model file: it holds arrays, but not of `kan_jax.save`')
  if metadata.get('version') != _VERSION:
    raise ModelFileError(
        f'{path} has version {metadata.get("version", "")[:20]!r} of the '
        f'format; this kan_jax reads version {_VERSION!r}')


def _check_dtypes(
    path: pathlib.Path, arrays: Mapping[str, np.ndarray]) -> None:
  for name, array in arrays.items():
    if array.dtype.name not in _options.DTYPES:
      raise ModelFileError(
          f'{path} cannot be used: {name[:80]!r} is {array.dtype}, not of '
          f'{", ".join(_options.DTYPES)}')
    if jax.dtypes.canonicalize_dtype(array.dtype) != array.dtype:
      raise ModelFileError(
          f'{path} holds {array.dtype}, which JAX rounds to 32 bits: call '
          "jax.config.update('jax_enable_x64', True) first")
