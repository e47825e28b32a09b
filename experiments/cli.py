"""What all programs share at the command line: one-line errors, --help."""

from collections.abc import Callable
import sys

from absl import app
from absl import flags
from absl import logging


class UsageError(Exception):
  """A mistake of the user's: shown as one line, exit code 2, no traceback."""


def run(main: Callable[[], None]) -> None:
  """Parses the flags, runs `main` and exits.

  The exit code is 0 for success and `--help`, 2 for a `UsageError` and for
  flags that do not parse. Other exceptions are faults of the program and keep
  their traceback.
  """
  app.run(lambda _: _guarded(main), flags_parser=_parse)


def _guarded(main: Callable[[], None]) -> None:
  logging.set_verbosity(logging.WARNING)  # The libraries' progress is not ours.
  try:
    main()
  except UsageError as error:
    _fail(error)


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


def _fail(error: Exception | str) -> None:
  print('error:', ' '.join(str(error).split()), file=sys.stderr)
  sys.exit(2)
