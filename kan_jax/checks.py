"""Checks of what a user hands in: the argument, what came, what is allowed."""

import operator
from typing import Any
from typing import Literal
from typing import overload

import jax
import numpy as np


def check_rows(name: str, rows: jax.typing.ArrayLike) -> None:
  """Raises a ValueError unless there are rows, all of them finite.

  Args:
    name: What the caller calls the array.
    rows: Any shape, rows first. Where it is traced only its shape is known,
      and nothing else is checked.
  """
  if not np.ndim(rows) or not np.shape(rows)[0]:
    raise ValueError(
        f'`{name}` needs at least one row; got the shape {np.shape(rows)}.')
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


@overload
def check_whole(
    name: str, value: Any, least: int, *,
    optional: Literal[False] = False) -> int:
  ...


@overload
def check_whole(
    name: str, value: Any, least: int, *, optional: bool) -> int | None:
  ...


def check_whole(
    name: str, value: Any, least: int, *,
    optional: bool = False) -> int | None:
  """Returns a whole number as an int; raises a ValueError for anything else.

  Args:
    name: What the caller calls the number.
    value: An int or a numpy integer.
    least: Least value that is allowed.
    optional: Whether None is allowed, and returned, as well.
  """
  if optional and value is None:
    return None
  try:
    whole = operator.index(value)
  except TypeError:
    whole = None
  if whole is None or isinstance(value, bool | np.bool_) or whole < least:
    raise ValueError(f'`{name}` is a whole number >= {least}; got {value!r}.')
  return whole


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
