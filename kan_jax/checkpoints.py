"""Checkpoints: a pytree of arrays to a folder and back, through orbax.

A checkpoint is a folder named by its step. Beside the files of orbax it holds
their checksums, which are written last: without them it does not count.
"""

import asyncio
from collections.abc import Iterator
import contextlib
import gc
import hashlib
import inspect
import logging
import os
import pathlib
import shutil
import sys
import threading
import time
import types
from typing import Any

import jax
from jax.experimental import multihost_utils
import jax.numpy as jnp
import numpy as np
from orbax.checkpoint import v1 as ocp

_Path = str | pathlib.Path
_SUMS = 'SHA256SUMS'
_DELETED = '.deleted'
_CLOSED = 'Event loop is closed'  # Of tensorstore, whose reader gave up.
# What killed processes leave; the second name is orbax's.
_LEFTOVERS = (f'*{_DELETED}', '*.orbax-checkpoint-tmp*', f'*.{_SUMS}')


class CheckpointError(ValueError):
  """A checkpoint that cannot be used: not there, damaged, or of another run.

  Also one that cannot be written, for example as the disk is full.
  """


def save(directory: _Path, step: int, state: Any) -> None:
  """Writes a checkpoint and waits until it is complete.

  It counts as one when its last file, the checksums of the others, is there: a
  process that dies on the way leaves nothing that `steps` lists. Of several
  processes, all call this at once, and each writes what it holds.

  Args:
    directory: Folder of a run's checkpoints, the same for all processes; made
      where it is missing.
    step: Name of the checkpoint.
    state: Pytree of arrays, typed keys such as `jax.random.key(0)` among them.

  Raises:
    ValueError: If there is something of that name already, or a leaf is no
      array that `load` could give back: a Python number, say. Only what a
      killed process left there, a checkpoint without checksums, is replaced.
    CheckpointError: If it cannot be written, for example as the disk is full.
      Older checkpoints stay as they are.
  """
  path = _path(directory, step)
  incomplete = (path / '_CHECKPOINT_METADATA').exists()
  if (path / _SUMS).exists() or (path.exists() and not incomplete):
    raise ValueError(f'`step` {step} is there already: {path}.')
  _check_leaves(state)
  try:
    if jax.process_index() == 0:
      _try_folder(path)
    with _quiet():
      _write(path, state, incomplete)
    if jax.process_index() == 0:
      _write_checksums(path)
  except Exception as error:  # Of orbax, tensorstore or the disk.
    if jax.process_index() == 0:
      _remove_partial(path)
    raise CheckpointError(
        f'{path} cannot be written: {_first_line(error)}') from error
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
    CheckpointError: If there is none, it is damaged, a leaf of it differs from
      that of `like`, or needs 64 bits where JAX has 32.
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
  with _readable(path):
    stored = ocp.metadata(path).metadata
    if stored is None:  # What orbax makes of metadata that it cannot read.
      raise ValueError('its metadata are damaged')
    _check_stored(path, stored)
    if like is None:
      return _read(path, jax.tree.map(
          lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), stored))
    raw = _raw_keys(like)
    _compare(path, stored, raw)
    # As it is there: `like` may have got parts without leaves since.
    loaded = _arrange(_read(path, _arrange(raw, stored)), like)
    _compare(path, loaded, like)  # Whether a key is typed is seen only now.
  return loaded


def delete(directory: _Path, step: int) -> None:
  """Deletes a checkpoint.

  It gets another name first: whoever is killed on the way leaves no half of a
  checkpoint under the name of a whole one. `clean` removes what is left then.
  Of several processes, one calls this.

  Args:
    directory: The folder that `save` wrote to.
    step: Which checkpoint, a complete one.

  Raises:
    CheckpointError: If there is no complete checkpoint of that name, or it
      cannot be deleted.
  """
  path = _path(directory, step)
  if not (path / _SUMS).exists():
    raise CheckpointError(f'{path} is not a complete checkpoint')
  renamed = path.with_name(path.name + _DELETED)
  try:
    if renamed.exists():
      shutil.rmtree(renamed)
    path.rename(renamed)
    shutil.rmtree(renamed)
  except OSError as error:
    raise CheckpointError(
        f'{path} cannot be deleted: {error.strerror}') from error


def clean(directory: _Path) -> None:
  """Removes what killed processes left of checkpoints in a folder.

  That is what `delete` and `save` did not finish, never a whole checkpoint.
  For the start of a run, when no other process saves into the folder.
  """
  for pattern in _LEFTOVERS:
    for path in pathlib.Path(directory).glob(pattern):
      if path.name.split('.')[0].isdecimal():
        _remove(path)


def _path(directory: _Path, step: int) -> pathlib.Path:
  return pathlib.Path(directory).absolute() / str(step)


def _check_leaves(state: Any) -> None:
  """Raises a ValueError that names a leaf which `load` could not give back."""
  for name, leaf in _leaves(state).items():
    if not isinstance(leaf, jax.Array | np.ndarray):
      raise ValueError(
          f'`state` needs arrays; {name} is a {type(leaf).__name__}. '
          'jax.numpy.asarray makes one of a number.')
    if not leaf.size:
      raise ValueError(f'`state` needs arrays with entries; {name} has none.')
    if not _is_of_jax(leaf.dtype):
      raise ValueError(
          f'`state` needs arrays that JAX can hold; {name} is {leaf.dtype}'
          f'{_way_out(leaf.dtype)}.')


def _is_of_jax(dtype: Any) -> bool:
  """Whether arrays of a dtype can be on a device, without being rounded."""
  try:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.extended) or (  # A key's; or
        jax.dtypes.canonicalize_dtype(dtype) == dtype  # not rounded, and
        and jnp.result_type(dtype) == dtype)  # of a kind that JAX has.
  except TypeError:  # Text, objects, dates.
    return False


def _way_out(dtype: Any) -> str:
  wide = getattr(dtype, 'name', '') in (
      'float64', 'int64', 'uint64', 'complex128')
  return " (jax.config.update('jax_enable_x64', True) lets it)" if wide else ''


def _try_folder(path: pathlib.Path) -> None:
  """Raises an OSError if nothing can be written beside a checkpoint.

  orbax does not say so for minutes: its threads wait for the one that failed.
  """
  trial = path.with_name(path.name + _DELETED)  # `clean` knows it.
  trial.mkdir(parents=True, exist_ok=True)
  (trial / 'trial').write_bytes(bytes(4096))
  shutil.rmtree(trial)


def _write(path: pathlib.Path, state: Any, overwrite: bool) -> None:
  """Lets orbax write a state; where that fails, its other threads end, too."""
  before = set(threading.enumerate())
  try:
    ocp.save(path, state, overwrite=overwrite)
  except Exception:
    for thread in set(threading.enumerate()) - before:
      if type(thread).__module__.startswith('orbax'):
        threading.Thread.join(thread, timeout=10)  # Its own raises.
    time.sleep(1)  # Writes that tensorstore has begun, not to be joined.
    raise


def _write_checksums(path: pathlib.Path) -> None:
  partial = path.with_name(f'{path.name}.{_SUMS}')
  partial.write_text(_checksums(path))
  os.replace(partial, path / _SUMS)


def _remove_partial(path: pathlib.Path) -> None:
  """Removes what an attempt to write a checkpoint left beside it."""
  for pattern in _LEFTOVERS:
    for partial in path.parent.glob(path.name + pattern.removeprefix('*')):
      _remove(partial)


def _remove(path: pathlib.Path) -> None:
  """Removes a file or a folder, as far as that is possible."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path, ignore_errors=True)
  else:
    path.unlink(missing_ok=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps orbax from printing, with tracebacks, the error that it raises."""
  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  hooks = sys.unraisablehook, sys.excepthook

  def is_of_another(record: logging.LogRecord) -> bool:
    return ('orbax' not in record.pathname
            and 'never retrieved' not in record.getMessage())

  def report(unraisable: Any) -> None:
    if str(unraisable.exc_value) != _CLOSED and not _is_of_orbax(
        unraisable.object):
      hooks[0](unraisable)

  def report_error(kind: Any, error: Any, traceback: Any) -> None:
    if str(error) != _CLOSED:
      hooks[1](kind, error, traceback)

  for logger in loggers:
    logger.addFilter(is_of_another)
  sys.unraisablehook, sys.excepthook = report, report_error
  try:
    yield
  except Exception:
    time.sleep(0.2)  # Reads that have begun find that nobody waits for them.
    _forget_tasks()
    raise
  finally:
    for logger in loggers:
      logger.removeFilter(is_of_another)
    sys.unraisablehook, sys.excepthook = hooks


def _forget_tasks() -> None:
  """Looks at the errors of tasks that nobody can wait for any more.

  orbax ends at the first error and leaves its other tasks, some not begun.
  Python would complain of each when it is collected, be it much later.
  """
  for thing in gc.get_objects():
    if _is_of_orbax(thing):
      if inspect.getcoroutinestate(thing) == inspect.CORO_CREATED:
        thing.close()
    elif issubclass(type(thing), asyncio.Future) and thing.done() and (
        thing.get_loop().is_closed() and not thing.cancelled()):
      thing.exception()


def _is_of_orbax(thing: Any) -> bool:
  # By type: `isinstance` looks into weak references, dead ones too.
  return (type(thing) is types.CoroutineType
          and 'orbax' in thing.cr_code.co_filename)


@contextlib.contextmanager
def _readable(path: pathlib.Path) -> Iterator[None]:
  """Makes a CheckpointError of whatever orbax raises at strange files."""
  try:
    with _quiet():
      yield
  except CheckpointError:
    raise
  except Exception as error:
    raise CheckpointError(
        f'{path} cannot be read: {_first_line(error)}') from error


def _first_line(error: Exception) -> str:
  """Returns what an error says, or where that is nothing, its type."""
  text = str(error).strip() or type(error).__name__
  missing = isinstance(error, KeyError)  # Its text is the key alone.
  return text.splitlines()[0] + (' is missing' if missing else '')


def _raw_keys(tree: Any) -> Any:
  """Returns a state with the shapes of typed keys' data in their place."""
  def raw(leaf):
    dtype = getattr(leaf, 'dtype', float)
    if not jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
      return leaf
    data = jax.eval_shape(jax.random.key_data, leaf)
    return jax.ShapeDtypeStruct(
        data.shape, data.dtype, sharding=getattr(leaf, 'sharding', None))

  return jax.tree.map(raw, tree)


def _read(path: pathlib.Path, like: Any) -> Any:
  """Lets orbax read a state; a leaf without a sharding to the first device."""
  first = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shardings = jax.tree.map(
      lambda leaf: getattr(leaf, 'sharding', None) or first, like)
  loaded = ocp.load(path, jax.tree.map(_abstract, like, shardings))
  return jax.tree.map(
      lambda leaf, sharding: jax.device_put(leaf, sharding)
      if isinstance(leaf, np.ndarray) else leaf, loaded, shardings)


def _abstract(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct | np.ndarray:
  """Returns what orbax is to read for a leaf."""
  if jnp.dtype(leaf.dtype).itemsize < 8:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
  # As numpy: orbax reads in other threads, for which `jax.enable_x64` of this
  # one does not count, and they would round.
  return np.broadcast_to(np.empty((), leaf.dtype), leaf.shape)


def _checksums(path: pathlib.Path) -> str:
  """Returns a line for each file of a checkpoint, as sha256sum writes them."""
  files = sorted(file for file in path.rglob('*')
                 if file.is_file() and file.name != _SUMS)
  return ''.join(
      f'{hashlib.sha256(file.read_bytes()).hexdigest()}  '
      f'{file.relative_to(path)}\n' for file in files)


def _check_stored(path: pathlib.Path, stored: Any) -> None:
  """Raises a CheckpointError that names a leaf which cannot be read here."""
  for name, leaf in _leaves(stored).items():
    if not hasattr(leaf, 'dtype') or not _is_of_jax(leaf.dtype):
      dtype = getattr(leaf, 'dtype', None)
      raise CheckpointError(
          f'{path} cannot be read: {name} is {_describe(leaf)}, which is no '
          f'array that JAX holds{_way_out(dtype)}')


def _compare(path: pathlib.Path, stored: Any, like: Any) -> None:
  """Raises a CheckpointError that names the first leaf that differs."""
  there, expected = (
      {name: _describe(leaf) for name, leaf in _leaves(tree).items()}
      for tree in (stored, like))
  for name in sorted(there.keys() | expected.keys()):
    if there.get(name) != expected.get(name):
      raise CheckpointError(
          f'{path} is of another model or optimizer: {name} is '
          f'{there.get(name, "missing")} there, expected is '
          f'{expected.get(name, "no such leaf")}')


def _leaves(tree: Any) -> dict[str, Any]:
  """Returns the leaves of a pytree by their paths."""
  return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf
          for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _arrange(tree: Any, like: Any) -> Any:
  """Returns the leaves of a tree, by their paths, as another one has them."""
  leaves = _leaves(tree)
  return jax.tree.unflatten(
      jax.tree.structure(like), [leaves[name] for name in _leaves(like)])


def _describe(leaf: Any) -> str:
  """Returns dtype and shape of an array, the type of anything else."""
  return (f'{leaf.dtype.name}{list(leaf.shape)}' if hasattr(leaf, 'dtype')
          else f'a {type(leaf).__name__}')
