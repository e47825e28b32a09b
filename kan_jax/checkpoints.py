"""Checkpoints: a pytree of arrays to a folder and back, through orbax."""

import pathlib
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp


def save(directory: str | pathlib.Path, step: int, state: Any) -> None:
  """Writes a checkpoint and waits until it is complete.

  Args:
    directory: Folder of a run's checkpoints; made where it is missing.
    step: Name of this one; a checkpoint of the same step is replaced.
    state: Pytree of arrays.
  """
  path = pathlib.Path(directory).absolute() / str(step)
  ocp.save(path, state, overwrite=True)


def load(directory: str | pathlib.Path, step: int, like: Any) -> Any:
  """Reads a checkpoint.

  Args:
    directory: The folder that `save` wrote to.
    step: Which checkpoint.
    like: A state of the same structure, shapes and dtypes. Arrays go to the
      devices of its arrays, whatever devices they were saved from.
  """
  default = jax.sharding.SingleDeviceSharding(jax.devices()[0])

  def describe(shape, array):
    return jax.ShapeDtypeStruct(
        shape.shape, shape.dtype,
        sharding=getattr(array, 'sharding', None) or default)

  path = pathlib.Path(directory).absolute() / str(step)
  return ocp.load(
      path, jax.tree.map(describe, jax.eval_shape(lambda: like), like))
