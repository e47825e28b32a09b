"""Starts one program in several processes on this host, and watches them.

  python -m experiments.devices.launch 2 mnist --config=kan

`./launch.sh --nprocs=2 mnist --config=kan` runs this. When one process dies,
the others cannot go on; they are ended, and the error says which one died.
"""

import collections
from collections.abc import Sequence
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from experiments.devices import processes

_GRACE = 10  # Seconds in which the others may end by themselves.
_LINES = 30  # Of the errors of a process other than the first.


class _Child:
  """A process; the first one has the terminal, the others are listened to."""

  def __init__(self, command: Sequence[str], env: dict[str, str], number: int):
    self.number = number
    self.lines: collections.deque[str] = collections.deque(maxlen=_LINES)
    self.process = subprocess.Popen(
        command, env=env, text=True,
        stdout=None if number == 0 else subprocess.DEVNULL,
        stderr=None if number == 0 else subprocess.PIPE,
        # Signals of a terminal come from here, once.
        start_new_session=True)
    self._reader = threading.Thread(target=self._listen, daemon=True)
    self._reader.start()

  def _listen(self) -> None:
    if self.process.stderr:
      with self.process.stderr as lines:
        self.lines.extend(lines)

  def errors(self) -> str:
    """What a process other than the first wrote, with its number."""
    self._reader.join(timeout=1)
    return ''.join(f'process {self.number}: {line}' for line in self.lines)


def launch(count: int, command: Sequence[str]) -> int:
  """Runs a command in several processes, which `processes.join` each other.

  Args:
    count: Number of processes.
    command: Program and arguments.

  Returns:
    The exit code: 0, that of the first process that fails, or 128 and the
    number of the signal that ended it.
  """
  with socket.socket() as free:
    free.bind(('localhost', 0))
    address = f'localhost:{free.getsockname()[1]}'
  children = [
      _Child(command, os.environ | {
          processes.ADDRESS: address, processes.LISTEN: address,
          processes.COUNT: str(count), processes.NUMBER: str(number)}, number)
      for number in range(count)]

  def forward(number, frame):
    del frame
    _signal(children, number)

  names = (signal.SIGINT, signal.SIGTERM)
  before = [signal.signal(name, forward) for name in names]
  try:
    return _watch(children)
  finally:
    _signal(children, signal.SIGKILL)
    for child in children:
      child.process.wait()
    for name, handler in zip(names, before, strict=True):
      signal.signal(name, handler)


def _signal(children: Sequence[_Child], number: int) -> None:
  for child in children:
    if child.process.poll() is None:
      child.process.send_signal(number)


def _watch(children: Sequence[_Child]) -> int:
  """Waits for all, or for the first that fails; returns the exit code."""
  while not _failed(children) and any(
      child.process.poll() is None for child in children):
    time.sleep(0.05)
  failed = _failed(children)
  if failed is None:
    return 0
  # A process that a signal ended leaves no message. One that ends with an error
  # does; the others then meet the same error, or the loss of that process.
  code = failed.process.returncode
  if code > 0:
    _wait(children, _GRACE)
  _signal(children, signal.SIGKILL)
  first = children[0].process
  if first.wait() != code or code < 0:
    sys.stderr.write(failed.errors())
    print(f'error: process {failed.number} of {len(children)} ended with '
          f'{_describe(code)}; the others were ended. With a --workdir, '
          '--resume goes on from its last checkpoint', file=sys.stderr)
  return code if code > 0 else 128 - code


def _failed(children: Sequence[_Child]) -> _Child | None:
  """Returns a process that failed, if any: first one that a signal ended.

  The others may have failed because that one was missing.
  """
  return min((child for child in children if child.process.poll()),
             key=lambda child: child.process.returncode, default=None)


def _wait(children: Sequence[_Child], seconds: float) -> None:
  end = time.monotonic() + seconds
  while time.monotonic() < end and any(
      child.process.poll() is None for child in children):
    time.sleep(0.05)


def _describe(code: int) -> str:
  return (signal.Signals(-code).name if code < 0 else f'exit code {code}')


if __name__ == '__main__':
  if len(sys.argv) < 3 or not (sys.argv[1].isdecimal() and int(sys.argv[1])):
    sys.exit('usage: ./launch.sh --nprocs=N PROGRAM [--flags], N >= 1')
  sys.exit(launch(int(sys.argv[1]), [
      sys.executable, '-m', f'experiments.{sys.argv[2]}', *sys.argv[3:]]))
