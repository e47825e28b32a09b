"""Many processes that run one program together, on one host or on many.

Each calls `join` before it computes anything. `./launch.sh --nprocs=N` starts
them on one host, and tells each its number in the environment.
"""

from collections.abc import Iterator
import contextlib
import os
import sys
import traceback

import jax
from jax.experimental import multihost_utils
import numpy as np

from experiments import cli

# Variables of jax.distributed, host:port: the address of process 0, and where
# it listens, which is everywhere by default.
ADDRESS = 'JAX_COORDINATOR_ADDRESS'
LISTEN = 'JAX_COORDINATOR_BIND_ADDRESS'
COUNT, NUMBER = 'KAN_JAX_NUM_PROCESSES', 'KAN_JAX_PROCESS_ID'

_HEARTBEAT = 30  # Seconds of silence after which a process counts as dead.
_START = 300  # Seconds to wait for the others.


def join(detect: bool = False) -> None:
  """Joins the other processes, if the environment or the caller knows of any.

  Args:
    detect: Whether JAX shall look for them. It knows Slurm, Open MPI, TPU pods
      and, with the package kubernetes, indexed jobs of Kubernetes.

  Raises:
    cli.UsageError: If the environment does not say all that is needed.
    cli.RunError: If the others cannot be reached.
  """
  known = _from_environment()
  if not known and not detect:
    return
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  _keep_chatter_out()
  try:
    jax.distributed.initialize(
        **known, heartbeat_timeout_seconds=_HEARTBEAT,
        initialization_timeout=_START, shutdown_timeout_seconds=_HEARTBEAT)
  except ValueError as error:
    raise cli.UsageError(
        'no cluster was found that JAX knows; set '
        f'{ADDRESS}, {COUNT} and {NUMBER}, or use --nodistributed') from error
  except RuntimeError as error:
    raise cli.RunError(
        f'the other processes cannot be reached: {error}') from error


def _from_environment() -> dict:
  """Returns what `jax.distributed` needs to know, if the environment does."""
  names = (ADDRESS, COUNT, NUMBER)
  given = [name for name in (COUNT, NUMBER) if name in os.environ]
  if not given:
    return {}
  missing = [name for name in names if name not in os.environ]
  if missing:
    raise cli.UsageError(f'{given[0]} is set; {", ".join(missing)} is not')
  count, number = (os.environ[name] for name in (COUNT, NUMBER))
  if not (count.isdecimal() and number.isdecimal()
          and int(number) < int(count)):
    raise cli.UsageError(
        f'{COUNT} counts processes and {NUMBER} is one of 0 to {COUNT} - 1; '
        f'got {count} and {number}')
  return {'coordinator_address': os.environ[ADDRESS],
          'num_processes': int(count), 'process_id': int(number)}


def _keep_chatter_out() -> None:
  """Leaves stdout to Python: gloo's library writes lines of its own to it."""
  sys.stdout.flush()
  own = os.dup(sys.stdout.fileno())
  silent = os.open(os.devnull, os.O_WRONLY)
  os.dup2(silent, sys.stdout.fileno())
  os.close(silent)
  sys.stdout = os.fdopen(own, 'w')


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Ends this process at once if it fails while others wait for it.

  On the usual way out of Python, JAX and orbax would wait for the others.
  """
  try:
    yield
  except cli.InterruptedRunError:
    raise  # All processes end alike.
  except Exception as error:
    if jax.process_count() == 1:
      raise
    if isinstance(error, cli.RunError):
      text, code = f'error: {error}', error.code
    elif isinstance(error, jax.errors.JaxRuntimeError) or (
        'Gloo' in str(error)):  # JAX makes other errors of some of gloo's.
      text, code = (
          f'error: process {jax.process_index()} of {jax.process_count()} '
          'cannot go on; most likely another one has died. With a --workdir, '
          f'--resume goes on from its last checkpoint. {error}'), 1
    else:
      text, code = traceback.format_exc(), 1
    print(text, file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(code)


def is_first() -> bool:
  """Whether this process is the one that logs and writes."""
  return jax.process_index() == 0


def agree(number: int) -> int:
  """Returns the largest of the numbers that the processes call this with."""
  if jax.process_count() == 1:
    return number
  return int(multihost_utils.process_allgather(np.int32(number)).max())
