"""Checks of what a user hands in: the argument, what came, what is allowed."""

from collections.abc import Sequence
import operator
from typing import Any
from typing import overload

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np


@overload
def check_whole(name: str, value: Any, least: int) -> int: ...


@overload
def check_whole(
    name: str, value: Any, least: int, *, optional: bool) -> int | None: ...


def check_whole(
    name: str, value: Any, least: int, *,
    optional: bool = False) -> int | None:
  """Returns a whole number as an int.

  Args:
    name: What the caller calls the number.
    value: A Python or numpy integer; True and False are none.
    least: The least that is allowed.
    optional: Whether None is allowed, too, and returned.

  Raises:
    ValueError: If the value is anything else.
  """
  if optional and value is None:
    return None
  try:
    number = operator.index(value)
  except TypeError:
    number = least - 1
  if number < least or isinstance(value, bool | np.bool_):
    raise ValueError(f'`{name}` is a whole number >= {least}; got {value!r}.')
  return number


def name_precision(precision: Any) -> str | None:
  """Returns a precision of matrix products by its name in lower case.

  Args:
    precision: A `jax.lax.Precision`, its name, or None, as Flax's `Dense` takes
      it.

  Raises:
    ValueError: If it is anything else.
  """
  names = [known.name.lower() for known in jax.lax.Precision]
  name = getattr(precision, 'name', precision)
  if name is None or (isinstance(name, str) and name.lower() in names):
    return None if name is None else name.lower()
  raise ValueError(
      f'`precision` is one of {", ".join(names)}, a jax.lax.Precision or None; '
      f'got {precision!r}.')


def as_numbers(name: str, rows: Any) -> Any:
  """Returns `rows` as an array of numbers, or as it is where it is traced.

  Args:
    name: What the caller calls the array.
    rows: An array or what numpy makes one of, such as a DataFrame. Objects, as
      in a DataFrame with columns of several types, may be numbers.

  Raises:
    ValueError: If there is anything but numbers.
  """
  if isinstance(rows, jax.Array):
    return rows
  try:
    array = np.asarray(rows)
    kind = array.dtype
    if kind.kind == 'O':
      array = np.array(array.tolist())
  except ValueError as error:
    raise ValueError(
        f'`{name}` needs numbers, with as many in each row.') from error
  if not (jnp.issubdtype(array.dtype, jnp.number) or array.dtype == bool):
    raise ValueError(
        f'`{name}` needs numbers; got the type {kind}. Convert text, and fill '
        'in what is missing or leave its rows out.')
  return array


def check_rows(name: str, rows: Any) -> None:
  """Raises a ValueError unless there are rows, all of them finite.

  Args:
    name: What the caller calls the array.
    rows: An array of any shape, rows first, or what `as_numbers` makes one of.
      Where it is traced only its shape is known, and nothing else is checked.
  """
  rows = as_numbers(name, rows)
  if not rows.ndim or not rows.shape[0]:
    raise ValueError(
        f'`{name}` needs at least one row; got the shape {rows.shape}.')
  if isinstance(rows, jax.core.Tracer):
    return
  # In numpy: a constant under a jit would give a traced answer.
  finite = np.isfinite(np.asarray(rows))
  if finite.all():
    return
  bad = np.unique(np.nonzero(~finite)[0])
  raise ValueError(
      f'`{name}` needs finite numbers; {bad.size} of its {len(finite)} rows '
      f'have NaN or infinity, the first is row {bad[0]}.')


def check_arguments(args: Sequence[Any]) -> None:
  """Checks the rows of everything floating that a model is applied to.

  Args:
    args: Positional arguments of `model.apply`: arrays, or trees of them such
      as dicts, named tuples and None. What is not floating may be anything.

  Raises:
    ValueError: As `check_rows`; single numbers need to be finite.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(tuple(args)):
    name = f'args{jax.tree_util.keystr(path)}'
    # Only numpy knows the type of a DataFrame, and jax that of a random key.
    array = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
    if not jnp.issubdtype(array.dtype, jnp.floating):
      continue
    if array.ndim:
      check_rows(name, array)
    elif not isinstance(array, jax.core.Tracer) and not np.isfinite(array):
      raise ValueError(f'`{name}` needs to be finite; got {array!r}.')


def check_model(model: Any) -> None:
  """Raises a ValueError unless `model` is a module of Flax Linen."""
  if isinstance(model, nn.Module):
    return
  raise ValueError(
      '`model` needs to be a module of Flax Linen, such as '
      f'kan_jax.KAN([2, 5, 1]); got {name_model(model)}.')


def name_model(model: Any) -> str:
  """Returns the kind of a model, for errors; with the way for one of NNX."""
  kind = type(model)
  if isinstance(model, type):
    return f'the class {model.__name__}'
  if any(base.__module__.startswith('flax.nnx') for base in kind.__mro__):
    return (f'a {kind.__name__}, an NNX module. Train that with nnx.Optimizer; '
            'kan_jax.nnx has KANLayer, update_grids and a penalty for it')
  return f'a {kind.__name__}'


def check_labels(name: str, labels: np.ndarray, classes: int) -> None:
  """Raises a ValueError unless all labels are whole numbers below `classes`.

  JAX gives NaN or the last class for a label out of range, and says nothing.

  Args:
    name: What the caller calls the array.
    labels: [n].
    classes: How many classes there are.
  """
  labels = np.asarray(labels)
  if labels.ndim != 1 or not labels.size or (
      not np.issubdtype(labels.dtype, np.integer)):
    raise ValueError(
        f'`{name}` needs whole numbers of the shape [n], n >= 1; got '
        f'{labels.dtype} {labels.shape}.')
  if labels.min() < 0 or labels.max() >= classes:
    raise ValueError(
        f'`{name}` needs labels from 0 to {classes - 1}; got {labels.min()} to '
        f'{labels.max()}.')
