"""Checkpoints: a pytree of arrays to a folder and back, through orbax."""

import hashlib
import os
import pathlib
from typing import Any

import jax
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

_Path = str | pathlib.Path
_SUMS = 'SHA256SUMS'


class CheckpointError(ValueError):
  """A checkpoint that cannot be used: not there, damaged, or of another run."""


def save(directory: _Path, step: int, state: Any) -> None:
  """Writes a checkpoint and waits until it is complete.

  It counts as one when its last file, the checksums of the others, is there: a
  process that dies on the way leaves nothing that `steps` lists. Of several
  processes, all call this at once, and each writes what it holds.

  Args:
    directory: Folder of a run's checkpoints, the same for all processes; made
      where it is missing.
    step: Name of this one.
    state: Pytree of arrays.

  Raises:
    ValueError: If there is something of that name already. Only what a killed
      process left there, a checkpoint without checksums, is replaced.
  """
  path = _path(directory, step)
  left = (path / '_CHECKPOINT_METADATA').exists()
  if (path / _SUMS).exists() or (path.exists() and not left):
    raise ValueError(f'`step` {step} is there already: {path}.')
  ocp.save(path, state, overwrite=left)
  if jax.process_index() == 0:
    partial = path.with_name(f'{path.name}.{_SUMS}')
    partial.write_text(_checksums(path))
    os.replace(partial, path / _SUMS)
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(f'{path} is complete')


def steps(directory: _Path) -> list[int]:
  """Returns the steps of a folder's complete checkpoints, ascending."""
  return sorted(int(file.parent.name)
                for file in pathlib.Path(directory).glob(f'*/{_SUMS}')
                if file.parent.name.isdecimal())


def load(directory: _Path, step: int, like: Any = None) -> Any:
  """Reads a checkpoint. No code in it is run: it holds numbers and names.

  Args:
    directory: The folder that `save` wrote to.
    step: Which checkpoint.
    like: A state with the structure, shapes, dtypes and devices that are
      expected; None takes what is there, in dicts and lists.

  Raises:
    CheckpointError: If there is none, it is damaged, or a leaf of it differs
      from that of `like`.
  """
  path = _path(directory, step)
  try:
    # Before orbax sees it: what that says of a damaged one fills the screen.
    intact = (path / _SUMS).read_text() == _checksums(path)
  except (OSError, ValueError) as error:
    raise CheckpointError(f'{path} is not a complete checkpoint') from error
  if not intact:
    raise CheckpointError(
        f'{path} is damaged: its files do not match its {_SUMS}')
  stored = ocp.metadata(path).metadata
  if like is None:
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored)
  _compare(path, stored, like)
  return ocp.load(path, jax.tree.map(_abstract, like))


def _path(directory: _Path, step: int) -> pathlib.Path:
  return pathlib.Path(directory).absolute() / str(step)


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
  sharding = getattr(leaf, 'sharding', None)  # Where it says, or here.
  return jax.ShapeDtypeStruct(
      leaf.shape, leaf.dtype,
      sharding=sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0]))


def _checksums(path: pathlib.Path) -> str:
  """Returns a line for each file of a checkpoint, as sha256sum writes them."""
  files = sorted(file for file in path.rglob('*')
                 if file.is_file() and file.name != _SUMS)
  return ''.join(
      f'{hashlib.sha256(file.read_bytes()).hexdigest()}  '
      f'{file.relative_to(path)}\n' for file in files)


def _compare(path: pathlib.Path, stored: Any, like: Any) -> None:
  """Raises a CheckpointError that names the first leaf that differs."""
  there, wanted = _describe(stored), _describe(like)
  for name in sorted(there.keys() | wanted.keys()):
    if there.get(name) != wanted.get(name):
      raise CheckpointError(
          f'{path} is of another model or optimizer: {name} is '
          f'{there.get(name, "missing")} there, expected is '
          f'{wanted.get(name, "no such leaf")}')


def _describe(tree: Any) -> dict[str, str]:
  """Returns dtype and shape of each leaf, by its path."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'):
          f'{leaf.dtype}{list(leaf.shape)}'
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
