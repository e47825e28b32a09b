"""Checks and times the library on the accelerator of this machine.

  python -m experiments.speed.device_check --workdir=runs/device_check

The parts run one after the other, each in a process of its own and with a limit
of time. What a part has found until then is kept when it fails or its time is
over, and the next one begins. --workdir gets device_check.md, a page to read,
device_check.json, the same numbers, and what each part printed. All of it
takes ten minutes at most. Without an accelerator it runs on the CPU; with
--quick it is small.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any
from typing import NamedTuple

from absl import flags

from experiments import cli
from experiments.speed import device_parts

_BUDGET = 600.0  # Seconds for all parts.
_GRACE = 5  # Seconds of it that a part needs to begin at all.
_PAGE, _JSON = 'device_check.md', 'device_check.json'


class Outcome(NamedTuple):
  """What has become of a part.

  Attributes:
    seconds: How long it took.
    error: Why it ended early; empty if it did not.
    rows: What it has found, as far as it came.
  """
  seconds: float
  error: str
  rows: list[dict[str, Any]]


# Runs the part of a name within some seconds; see `run_part`.
Runner = Callable[[str, float], Outcome]


def run_all(
    parts: Mapping[str, device_parts.Part], run: Runner,
    budget: float = _BUDGET) -> dict[str, Outcome]:
  """Runs each part, whatever becomes of the others, within a budget."""
  outcomes = {}
  end = time.monotonic() + budget
  for name, part in parts.items():
    left = min(part.limit, end - time.monotonic())
    print(f'{name}: {part.text}', flush=True)
    if left < min(_GRACE, part.limit):
      outcomes[name] = Outcome(0, 'no time was left for it', [])
    else:
      try:
        outcomes[name] = run(name, left)
      except Exception as error:  # Of the system, such as no more processes.
        outcomes[name] = Outcome(0, f'it could not be run: {error}', [])
    print(f'  {verdict(outcomes[name])}', flush=True)
  return outcomes


def verdict(outcome: Outcome) -> str:
  """Says in a line how a part ended."""
  return f'{outcome.seconds:.0f} s, {outcome.error or "done"}'


def run_part(
    command: Sequence[str], env: Mapping[str, str], found: pathlib.Path,
    log: pathlib.Path, limit: float) -> Outcome:
  """Runs a part in a process and ends it, with all that it started, in time.

  Args:
    command: The program and its arguments.
    env: Variables added to the environment.
    found: File to which it adds a line of JSON for each row.
    log: File that takes what it prints.
    limit: Seconds that it has.
  """
  start = time.monotonic()
  with log.open('w') as output:
    process = subprocess.Popen(
        command, env=os.environ | dict(env), stdout=output,
        stderr=subprocess.STDOUT, start_new_session=True)
    error = ''
    try:
      if code := process.wait(limit):
        error = f'failed ({_name(code)}): {_last_line(log)}'
    except subprocess.TimeoutExpired:
      error = f'its {limit:.0f} s were over'
    finally:
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
  return Outcome(time.monotonic() - start, error, _read_rows(found))


def _name(code: int) -> str:
  return signal.Signals(-code).name if code < 0 else f'exit code {code}'


def _last_line(log: pathlib.Path) -> str:
  lines = log.read_text(errors='replace').split('\n')
  return next((line.strip()[:300] for line in reversed(lines) if line.strip()),
              'it printed nothing')


def _read_rows(found: pathlib.Path) -> list[dict[str, Any]]:
  """Reads what a part has written; of a killed one, all whole lines."""
  rows = []
  for line in found.read_text().splitlines() if found.exists() else ():
    try:
      rows.append(json.loads(line))
    except ValueError:
      break
  return rows


def write_rows(part: device_parts.Part, quick: bool, path: str) -> None:
  """Runs a part in this process and keeps each row as soon as it is there."""
  with open(path, 'a') as file:
    for row in part.find(quick):
      file.write(json.dumps(row) + '\n')
      file.flush()
      print(row, flush=True)


def page(
    outcomes: Mapping[str, Outcome],
    parts: Mapping[str, device_parts.Part], note: str) -> str:
  """Returns the page, in Markdown."""
  blocks = [f'# Device check\n\n{note}']
  for name, outcome in outcomes.items():
    part = parts[name]
    blocks.append(f'## {name}\n\n{part.text} ({verdict(outcome)}.)')
    if outcome.rows:
      try:
        blocks.append(part.show(outcome.rows))
      except Exception as error:  # A page without one table is still a page.
        blocks.append(f'This table cannot be made: {error!r}')
  return '\n\n'.join(blocks) + '\n'


def _platform(outcome: Outcome) -> dict[str, str]:
  """Returns what tells the parts to use the device that the first one saw."""
  found = {row.get('what'): row.get('value') for row in outcome.rows}
  platform = found.get('platform')
  if not platform or 'JAX_PLATFORMS' in os.environ:
    return {}
  return {'JAX_PLATFORMS': platform if platform == 'cpu' else f'{platform},cpu'}


def main() -> None:
  """Runs what the flags say."""
  quick = flags.FLAGS.quick
  if flags.FLAGS.part:
    cli.choose('part', [flags.FLAGS.part], device_parts.PARTS)
    write_rows(device_parts.PARTS[flags.FLAGS.part], quick, flags.FLAGS.rows)
    return
  folder = cli.new_folder(flags.FLAGS.workdir)
  if folder is None:
    raise cli.UsageError('--workdir is needed: a folder for the page')
  chosen = cli.choose('parts', flags.FLAGS.parts, device_parts.PARTS)
  parts = {name: device_parts.PARTS[name] for name in chosen}
  env: dict[str, str] = {}

  def run(name, limit):
    found = folder / f'{name}.jsonl'
    outcome = run_part(
        [sys.executable, '-m', 'experiments.speed.device_check',
         f'--part={name}', f'--rows={found}', f'--quick={quick}'],
        env, found, folder / f'{name}.log', limit)
    if name == 'device':
      env.update(_platform(outcome))
    return outcome

  outcomes = run_all(parts, run)
  note = (f'*{datetime.date.today()}, `./launch.sh device_check'
          f'{" --quick" if quick else ""}`, '
          f'{sum(outcome.seconds for outcome in outcomes.values()):.0f} s.*')
  text = page(outcomes, parts, note)
  print(text)
  with cli.writing(folder):
    (folder / _PAGE).write_text(text)
    (folder / _JSON).write_text(json.dumps(
        {name: outcome._asdict() for name, outcome in outcomes.items()},
        indent=1) + '\n')
  failed = [name for name, outcome in outcomes.items() if outcome.error]
  if failed:
    raise cli.RunError(
        f'{len(failed)} of {len(outcomes)} parts did not end well: '
        f'{", ".join(failed)}; {folder} has all that was found')


if __name__ == '__main__':
  flags.DEFINE_bool(
      'quick', False, 'Whether to run small versions of the parts.')
  flags.DEFINE_list(
      'parts', [], f'Which of {", ".join(device_parts.PARTS)}; all by default.')
  flags.DEFINE_string(
      'workdir', 'runs/device_check', 'Folder for the page; it must not hold '
      'anything yet.')
  flags.DEFINE_string(
      'part', None, 'A part to run in this process, for the program itself.')
  flags.DEFINE_string('rows', os.devnull, 'File for the rows of --part.')
  cli.run(main)
