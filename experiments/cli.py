"""What all programs share at the command line: errors, signals, --help."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import os
import pathlib
import signal
import sys
from typing import Any

from absl import app
from absl import flags
from absl import logging
import jax

from kan_jax import compiling


class RunError(Exception):
  """A run that cannot go on: shown as one line, no traceback.

  Attributes:
    code: The exit code.
  """

  code = 1


class UsageError(RunError):
  """A mistake of the user's."""

  code = 2


class InterruptedRunError(RunError):
  """A run that a signal ended; the exit code is 128 + its number."""

  def __init__(self, message: str, number: int):
    super().__init__(message)
    self.code = 128 + number


class Signals:
  """Whether a signal asks the run to end; 0 while none does."""

  number = 0

  def take(self, number: int, frame: Any) -> None:
    """Handles a signal: the first one is noted, a second one ends at once."""
    del frame
    self.number = number
    for name in (signal.SIGINT, signal.SIGTERM):
      signal.signal(name, signal.SIG_DFL)
    print(f'{signal.Signals(number).name}: ending after this step; once more '
          'ends at once', file=sys.stderr, flush=True)


def choose(
    flag: str, names: list[str], known: Iterable[str]) -> list[str]:
  """Returns the names that a flag gives, or without any all that are known.

  Raises:
    UsageError: If one is not known.
  """
  known = list(known)
  unknown = sorted(set(names).difference(known))
  if unknown:
    raise UsageError(
        f'--{flag} knows {", ".join(known)}; got {", ".join(unknown)}')
  return names or known


def new_folder(name: str | None) -> pathlib.Path | None:
  """Returns --workdir, if it is given, as a path.

  Raises:
    UsageError: If it is there and is not an empty folder.
  """
  if not name:
    return None
  folder = pathlib.Path(name)
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise UsageError(f'--workdir={folder} is not an empty folder')
  return folder


def compile_quickly() -> None:
  """Has XLA write code for CPUs in its older way, which takes half the time.

  For programs that compile for longer than they run, before they compute
  anything. The user's own XLA_FLAGS win.
  """
  own = [f'--{name}={str(value).lower()}'
         for name, value in compiling.OLDER_CPU.items()]
  os.environ['XLA_FLAGS'] = ' '.join([*own, os.environ.get('XLA_FLAGS', '')])


def enough_threads() -> None:
  """Lets devices that share a CPU wait for one another, before JAX sees them.

  XLA has one thread for each. Where sums over devices wait in all of them, some
  device finds no thread for what the others wait for, and all stand still. The
  user's own NPROC, the number of threads, wins.
  """
  config: Any = jax.config  # Its attributes are not typed.
  devices = config.jax_num_cpu_devices
  if devices > 1:
    os.environ.setdefault('NPROC', str(4 * devices))


@contextlib.contextmanager
def signals() -> Iterator[Signals]:
  """Notes Ctrl-C and SIGTERM instead of dying, so that a run can end well."""
  noted = Signals()
  names = (signal.SIGINT, signal.SIGTERM)
  before = [signal.signal(name, noted.take) for name in names]
  try:
    yield noted
  finally:
    for name, handler in zip(names, before, strict=True):
      signal.signal(name, handler)


def run(main: Callable[[], None]) -> None:
  """Parses the flags, runs `main` and exits.

  The exit code is 0 for success and `--help`, that of a `RunError`, and 2 for
  flags that do not parse. Other exceptions are faults of the program and keep
  their traceback.
  """
  app.run(lambda _: _guarded(main), flags_parser=_parse)


def _guarded(main: Callable[[], None]) -> None:
  logging.set_verbosity(logging.ERROR)  # What libraries do is not our output.
  try:
    main()
  except RunError as error:
    _fail(error, error.code)


def _parse(argv: list[str]) -> list[str]:
  if any(arg in ('--help', '-help', '-h') for arg in argv[1:]):
    print(sys.modules['__main__'].__doc__)
    print(flags.FLAGS.main_module_help())
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)[1:]
  except flags.Error as error:
    _fail(error)
  if rest:
    _fail(f'unexpected argument {rest[0]!r}; every setting is a --flag')
  return argv[:1]


def _fail(error: Exception | str, code: int = 2) -> None:
  print('error:', ' '.join(str(error).split()), file=sys.stderr)
  sys.exit(code)
