"""What all programs share at the command line: flags, errors, signals, --help.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import contextlib
import math
import os
import pathlib
import signal
import sys
import tempfile
from typing import Any
from typing import NoReturn

from absl import app
from absl import flags
from absl import logging
import jax

from kan_jax import compiling

# The largest whole number of a flag: devices count in 32 bits.
LARGEST = 2**31 - 1
LARGEST_SEED = 2**32 - 1

# Flags belong to the program that asks for them: its --help lists them.
flags.disclaim_key_flags()


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
  """Whether a signal asks the run to end.

  Attributes:
    number: The signal's number; 0 while there is none.
  """

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
  """Returns the names that a flag gives, or all known ones if it gives none.

  Raises:
    UsageError: If one is not known.
  """
  known = list(known)
  unknown = sorted(set(names).difference(known))
  if unknown:
    raise UsageError(
        f'--{flag} knows {", ".join(known)}; got {", ".join(unknown)}')
  return names or known


def check_number(
    value: float, low: float = -math.inf, high: float = math.inf,
    above: float = -math.inf) -> None:
  """Raises a ValueError unless a number is finite and within its limits.

  Args:
    value: The number. `LARGEST` is the limit of a whole one without `high`.
    low: Least value.
    high: Greatest value.
    above: A value that is just too small.
  """
  if isinstance(value, int) and high == math.inf and abs(value) > LARGEST:
    raise ValueError(f'it must be {LARGEST} or less')
  if not (low <= value <= high and value > above and math.isfinite(value)):
    raise ValueError(describe(low, high, above))


def describe(
    low: float = -math.inf, high: float = math.inf,
    above: float = -math.inf) -> str:
  """Says in words which numbers `check_number` allows."""
  if high < math.inf and above > low:
    return f'allowed are values above {above:g} and up to {high:g}'
  if high < math.inf:
    return f'allowed are values from {low:g} to {high:g}'
  if above > low:
    return f'it must be greater than {above:g}'
  return f'it must be {low:g} or more' if low > -math.inf else (
      'it must be a finite number')


def define_number(
    name: str, default: int | float, text: str, **limits: float) -> None:
  """Defines a flag for a number; it is whole where the default is.

  Args:
    name: Name of the flag.
    default: Its default.
    text: Its help.
    **limits: `low`, `high` and `above`, as in `check_number`.
  """
  def check(value):
    try:
      check_number(value, **limits)
    except ValueError as error:
      raise flags.ValidationError(str(error)) from error
    return True

  if isinstance(default, int):
    flags.DEFINE_integer(name, default, text)
  else:
    flags.DEFINE_float(name, default, text)
  flags.register_validator(name, check)


def define_seed(text: str) -> None:
  """Defines the flag --seed."""
  define_number('seed', 0, text, low=0, high=LARGEST_SEED)


def new_folder(
    name: str | None, flag: str = 'workdir') -> pathlib.Path | None:
  """Makes a folder for results before the work begins; None without a name.

  Raises:
    UsageError: If it holds anything already or cannot be written to.
  """
  if not name:
    return None
  folder = pathlib.Path(name)
  try:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
      raise UsageError(f'--{flag}={folder} is not an empty folder')
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
      pass
  except OSError as error:
    raise _not_writable(flag, folder, error) from error
  return folder


def new_file(
    name: str, flag: str, otherwise: str = 'name a new file',
    overwrite: bool = False) -> pathlib.Path:
  """Returns the path of a file for results, before the work begins.

  Args:
    name: The file.
    flag: Flag that names it.
    otherwise: What to do if the file is there already.
    overwrite: Whether it may be there.

  Raises:
    UsageError: If it is there and must not be, or cannot be written.
  """
  path = pathlib.Path(name)
  try:
    if not path.exists():
      with path.open('x'):  # Only the system knows whether this is possible.
        pass
      path.unlink()
    elif not overwrite:
      raise UsageError(f'--{flag}={path} is there already; {otherwise}')
    else:
      with path.open('a'):
        pass
  except OSError as error:
    raise _not_writable(flag, path, error) from error
  return path


def _not_writable(
    flag: str, path: pathlib.Path, error: OSError) -> UsageError:
  return UsageError(
      f'--{flag}={path} cannot be written: {error.strerror or error}')


@contextlib.contextmanager
def writing(path: pathlib.Path | str) -> Iterator[None]:
  """Makes one line of what the system says when results cannot be written.

  Programs print their results first, so that these are not lost.

  Raises:
    RunError: For an OSError within the context.
  """
  try:
    yield
  except OSError as error:
    raise RunError(
        f'{path} cannot be written: {error.strerror or error}; the result is '
        'printed above') from error


def compile_quickly() -> None:
  """Has XLA write code for CPUs in its older way, which takes half the time.

  For programs that compile for longer than they run, before they compute
  anything. The user's own XLA_FLAGS win.
  """
  own = [f'--{name}={str(value).lower()}'
         for name, value in compiling.OLDER_CPU.items()]
  os.environ['XLA_FLAGS'] = ' '.join([*own, os.environ.get('XLA_FLAGS', '')])


def enough_threads() -> None:
  """Gives devices that share a CPU enough threads, before JAX sees them.

  By default, XLA has one thread for each device. A sum over devices waits in
  the threads of all of them; a device without a free thread then cannot compute
  what the others wait for, and all stand still. The user's own NPROC, the
  number of threads, wins.
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

  The exit code is 0 for success and `--help`, that of a `RunError`, 2 for flags
  that do not parse, and 128 plus the number of the signal for Ctrl-C and for a
  reader, such as `head`, that wants no more lines. Other exceptions are faults
  of the program and keep their traceback.
  """
  # While the imports ran, Ctrl-C ended the process at once; see __init__.
  if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
    signal.signal(signal.SIGINT, signal.default_int_handler)
  try:
    try:
      app.run(lambda _: _guarded(main), flags_parser=_parse)
    finally:
      sys.stdout.flush()
  except BrokenPipeError:
    # What is left in the buffer must not meet the closed pipe once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(128 + signal.SIGPIPE)


def _guarded(main: Callable[[], None]) -> None:
  logging.set_verbosity(logging.ERROR)  # What libraries do is not our output.
  try:
    main()
  except RunError as error:
    _fail(error, error.code)
  except KeyboardInterrupt:
    _fail('interrupted', 128 + signal.SIGINT)
  except (MemoryError, jax.errors.JaxRuntimeError) as error:
    if not isinstance(error, MemoryError) and (
        'RESOURCE_EXHAUSTED' not in str(error)):
      raise
    _fail(f'there is not enough memory: {str(error)[:200]}', 1)


def _parse(argv: list[str]) -> list[str]:
  if any(arg in ('--help', '-help', '-h') for arg in argv[1:]):
    print(sys.modules['__main__'].__doc__)
    print(flags.FLAGS.main_module_help())
    sys.exit(0)
  try:
    rest = flags.FLAGS(argv)[1:]
  except (flags.Error, ValueError) as error:  # The latter for --noflag=value.
    _fail(error)
  if rest:
    _fail(f'unexpected argument {rest[0]!r}; every setting is a --flag')
  return argv[:1]


def _fail(error: Exception | str, code: int = 2) -> NoReturn:
  print('error:', ' '.join(str(error).split()), file=sys.stderr)
  sys.exit(code)
