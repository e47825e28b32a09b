"""Kills runs of MNIST at random; checks that resuming is exact.

  python -m experiments.mnist.crash --kills=30

Each run is ended with SIGKILL, often while it writes a checkpoint, and resumed
to its end. Parameters, grids, optimizer and metrics must then equal, to the
last bit, those of a run that was left alone.
"""

import csv
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from absl import flags
import jax
import numpy as np

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import run_folder
from kan_jax import checkpoints

# A short job that writes a checkpoint nearly all the time.
_JOB = ('--config=kan_reg', '--epochs=2', '--batch_size=1000',
        '--checkpoint_every=6')


def crash(kills: int, seed: int, log=print) -> int:
  """Kills and resumes runs one after another; returns how many ended equal."""
  with tempfile.TemporaryDirectory() as folder:
    root = pathlib.Path(folder)
    # The first run fills a cache of compiled programs for the others.
    env = {'JAX_COMPILATION_CACHE_DIR': str(root / 'jax'),
           'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0', **os.environ}
    _finish(root / 'whole', env)
    seconds = _run(root / 'timed', env, None)
    like = _begin()
    expected = _outcome(root / 'whole', like)
    equal, draw = 0, random.Random(seed)
    for i in range(kills):
      workdir = root / f'killed{i}'
      _run(workdir, env, seconds * draw.random())
      cut = _is_cut(workdir)
      _finish(workdir, env)
      same = _equal(_outcome(workdir, like), expected)
      equal += same
      log(f'kill {i + 1} of {kills}: '
          f'{"inside a checkpoint" if cut else "between checkpoints"}, '
          f'{"equal" if same else "DIFFERENT"}')
      shutil.rmtree(workdir)
    return equal


def _start(workdir: pathlib.Path, env: dict[str, str]) -> subprocess.Popen:
  resume = ['--resume'] if workdir.exists() else []
  return subprocess.Popen(
      [sys.executable, '-m', 'experiments.mnist', *_JOB, *resume,
       f'--workdir={workdir}'], env=env, stdout=subprocess.PIPE, text=True)


def _run(
    workdir: pathlib.Path, env: dict[str, str],
    kill_after: float | None) -> float:
  """Runs a job from its first log line on; returns the seconds it took."""
  with _start(workdir, env) as process:
    assert process.stdout
    process.stdout.readline()
    start = time.perf_counter()
    if kill_after is not None:
      time.sleep(kill_after)
      process.send_signal(signal.SIGKILL)
    process.communicate()
    return time.perf_counter() - start


def _finish(workdir: pathlib.Path, env: dict[str, str]) -> None:
  """Runs or resumes a job to its end."""
  with _start(workdir, env) as process:
    process.communicate()
  if process.returncode:
    raise cli.RunError(f'the job ended with exit code {process.returncode}')


def _is_cut(workdir: pathlib.Path) -> bool:
  """Whether a checkpoint was cut off before its last file was written."""
  folder = workdir / 'checkpoints'
  return len(list(folder.glob('*'))) > len(checkpoints.steps(folder))


def _begin() -> run_folder.Progress:
  """Returns a state with the structure of the job's checkpoints."""
  config = configs.CONFIGS['kan_reg']
  programs = compiled.build(config, 10)
  return compiled.begin(config, programs, np.zeros((1, 28, 28), np.float32))


def _outcome(
    workdir: pathlib.Path,
    like: run_folder.Progress) -> tuple[run_folder.Progress, list[list[str]]]:
  """Returns the last checkpoint, and the metrics without their seconds."""
  with (workdir / 'metrics.csv').open(newline='') as file:
    rows = [row[:-1] for row in csv.reader(file)]
  return run_folder.Recorder(workdir).last(like), rows


def _equal(outcome: tuple, expected: tuple) -> bool:
  return outcome[1] == expected[1] and jax.tree.all(
      jax.tree.map(np.array_equal, outcome[0], expected[0]))


def main() -> None:
  """Runs what the flags say."""
  kills = flags.FLAGS.kills
  sets.load('mnist')  # Fails here rather than in every child.
  equal = crash(kills, flags.FLAGS.seed)
  print(f'{equal} of {kills} resumed runs ended equal to the last bit')
  if equal < kills:
    raise cli.RunError('a resumed run ended otherwise')


if __name__ == '__main__':
  cli.define_number('kills', 30, 'Runs to kill.', low=1)
  cli.define_seed('Decides the moments.')
  cli.run(main)
