"""Values as JSON has them, and back: numbers, texts, arrays, lists and dicts.

What a file keeps beside a model. Nothing else can be written, so that reading
makes nothing else.
"""

from collections.abc import Mapping
import json
from typing import Any

import numpy as np

# Kinds of numpy arrays: truth values, whole numbers, floating numbers, texts.
_KINDS = 'biufU'


def dump(value: Any) -> str:
  """Writes a value as JSON.

  Raises:
    ValueError: If there is something in it that JSON cannot hold.
  """
  return json.dumps(_pack(value))


def parse(text: str) -> Any:
  """Reads what `dump` wrote, floats and arrays to the last bit.

  Raises:
    ValueError: If it is something else.
  """
  try:
    return _unpack(json.loads(text))
  except (AttributeError, KeyError, OverflowError, RecursionError, TypeError,
          ValueError) as error:
    raise ValueError(f'its further values are damaged: {error}') from error


def _pack(value: Any) -> Any:
  if isinstance(value, np.generic):
    value = value.item()
  if value is None or isinstance(value, bool | int | float | str):
    return value
  if isinstance(value, list | tuple):
    return {type(value).__name__: [_pack(entry) for entry in value]}
  if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
    return {'dict': {key: _pack(entry) for key, entry in value.items()}}
  if isinstance(value, np.ndarray):
    texts = value.dtype == object and all(
        isinstance(entry, str) for entry in value.flat)
    if value.dtype.kind in _KINDS or texts:
      return {'array': value.reshape(-1).tolist(), 'dtype': value.dtype.str,
              'shape': list(value.shape)}
  raise ValueError(
      'a file holds numbers, texts, arrays, lists and dicts; got a '
      f'{type(value).__name__}: {str(value)[:80]}.')


def _unpack(packed: Any) -> Any:
  if packed is None or isinstance(packed, bool | int | float | str):
    return packed
  if 'array' in packed:
    return _unpack_array(
        packed['array'], np.dtype(str(packed['dtype']))).reshape(
            packed['shape'])
  (kind, entries), = packed.items()
  if kind == 'dict':
    return {key: _unpack(entry) for key, entry in entries.items()}
  return {'list': list, 'tuple': tuple}[kind](map(_unpack, entries))


def _unpack_array(entries: Any, dtype: np.dtype[Any]) -> np.ndarray:
  if dtype.kind not in f'{_KINDS}O':
    raise ValueError(f'an array is of {dtype}')
  # Texts are as long as they are, whatever a file says.
  array = np.array(entries, 'U' if dtype.kind == 'U' else dtype)
  if dtype.kind == 'O' and not all(
      isinstance(entry, str) for entry in array.flat):
    raise ValueError('an array of texts has something else')
  return array
