"""Runs that are interrupted, killed and resumed end as if they had not been.
"""

import csv
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

from absl.testing import parameterized
import chex
import numpy as np
import pytest

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from experiments.mnist import run_folder
from kan_jax import checkpoints

_ROOT = pathlib.Path(__file__).parents[2]
_ENV = os.environ | {'JAX_PLATFORMS': 'cpu'}
_CONFIG = configs.Config(
    model='kan', hidden=2, grid=2, order=1, lamb=0.001, epochs=2, batch_size=8,
    grid_update_freq=3)


def dataset():
  """Of 27 images: three batches and a short one."""
  rng = np.random.default_rng(0)
  split = sets.Split(rng.random((27, 28, 28)).astype(np.float32),
                     np.arange(27, dtype=np.int32) % 3)
  return sets.Dataset(split, split, 3)


@functools.cache
def _programs():
  return compiled.build(_CONFIG, 3)


def train(folder, *, resume=False, checkpoint_every=0, signals=None, log=print):
  """Runs what there is to run, and returns what it has reached."""
  with run_folder.open_recorder(str(folder), _CONFIG, resume) as recorder:
    job = loop.Loop(
        _CONFIG, dataset(), _programs(), log=log, recorder=recorder,
        signals=signals, checkpoint_every=checkpoint_every)
    job.run()
  return job.progress


def _rows(folder):
  """The metrics of the epochs, without their seconds."""
  with (folder / 'metrics.csv').open(newline='') as file:
    return [{name: value for name, value in row.items() if name != 'seconds'}
            for row in csv.DictReader(file)]


class SignalAt:
  """A SIGTERM that comes while the n-th line is logged."""

  def __init__(self, line):
    self.number, self.lines, self._line = 0, [], line

  def log(self, text):
    self.lines.append(text)
    if len(self.lines) == self._line:
      self.number = signal.SIGTERM


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """What an uninterrupted run reaches, and its folder."""
  folder = tmp_path_factory.mktemp('whole') / 'run'
  return train(folder, log=lambda _: None), folder


class ResumeTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, whole):
    self.path, self.whole = tmp_path, whole

  def _copy_whole(self):
    return pathlib.Path(shutil.copytree(self.whole[1], self.path / 'run'))

  def _assert_equals_whole(self, progress, folder):
    """To the last bit: parameters, grids, optimizer, key and metrics."""
    expected, whole = self.whole
    chex.assert_trees_all_equal(progress, expected, strict=True)
    self.assertLen(_rows(whole), 2)
    self.assertEqual(_rows(folder), _rows(whole))

  @parameterized.product(
      # After the first step, after the first epoch, in the second one.
      line_and_step=((1, 1), (2, 4), (3, 5)), checkpoint_every=(0, 2))
  def test_interrupted(self, line_and_step, checkpoint_every):
    (line, step), folder = line_and_step, self.path / 'run'
    signals = SignalAt(line)
    with self.assertRaisesRegex(
        cli.InterruptedRunError, rf'^interrupted after step {step}; its '
        r'checkpoint is in the workdir, --resume continues$') as caught:
      train(folder, signals=signals, log=signals.log,
            checkpoint_every=checkpoint_every)
    self.assertEqual(caught.exception.code, 128 + 15)
    self.assertEqual(checkpoints.steps(folder / 'checkpoints')[-1], step)
    lines = []
    progress = train(folder, resume=True, log=lines.append,
                     checkpoint_every=checkpoint_every)
    self.assertEqual(lines[0], f'Resuming after step {step}')
    self._assert_equals_whole(progress, folder)

  def test_interrupted_without_a_folder(self):
    signals = SignalAt(1)
    job = loop.Loop(_CONFIG, dataset(), _programs(), log=signals.log,
                    signals=signals)
    with self.assertRaisesRegex(
        cli.InterruptedRunError, 'after step 1; nothing was kept'):
      job.run()

  def test_checkpoints_change_nothing(self):
    folder = self.path / 'run'
    progress = train(folder, checkpoint_every=1, log=lambda _: None)
    self.assertEqual(checkpoints.steps(folder / 'checkpoints'), [6, 7, 8])
    self._assert_equals_whole(progress, folder)

  def test_a_whole_run_is_resumed_to_itself(self):
    folder = self._copy_whole()
    progress = train(folder, resume=True, log=lambda _: None)
    self._assert_equals_whole(progress, folder)

  def test_damage_is_told_and_nothing_deleted(self):
    folder = self._copy_whole()
    kept = folder / 'checkpoints'
    self.assertEqual(checkpoints.steps(kept), [4, 8])
    largest = max((f for f in (kept / '8').rglob('*') if f.is_file()),
                  key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])
    before = sorted(folder.rglob('*'))
    with self.assertRaisesRegex(
        cli.UsageError, r'^the run cannot be read: [^\n]*/8 is damaged[^\n]*'
        r'without it, --resume goes back to step 4$') as caught:
      train(folder, resume=True)
    self.assertEqual(caught.exception.code, 2)
    self.assertEqual(sorted(folder.rglob('*')), before)

  def test_half_a_checkpoint_is_done_again(self):
    """As a killed process leaves it: the files are there, their sums are not.
    """
    folder = self._copy_whole()
    (folder / 'checkpoints' / '8' / 'SHA256SUMS').unlink()
    lines = []
    progress = train(folder, resume=True, log=lines.append)
    self.assertEqual(lines[0], 'Resuming after step 4')
    self.assertRegex(lines[1], 'checkpoints/8 is incomplete and not used; the '
                     'last complete checkpoint is of step 4$')
    self._assert_equals_whole(progress, folder)

  @parameterized.parameters(
      ('8', None, 'no row of epoch 0'), ('4', None, 'no row of epoch 0'),
      ('8', 2, 'no row of epoch 1'))
  def test_missing_metrics_are_told(self, last, lines, message):
    """In a finished run and in an unfinished one."""
    folder = self._copy_whole()
    if last == '4':
      shutil.rmtree(folder / 'checkpoints' / '8')
    metrics = folder / 'metrics.csv'
    kept = metrics.read_text().splitlines(keepends=True)[:lines or 0]
    metrics.write_text(''.join(kept)) if lines else metrics.unlink()
    with self.assertRaisesRegex(cli.UsageError, f'metrics.csv has {message}, '):
      train(folder, resume=True)

  def test_another_architecture_is_told(self):
    folder = self._copy_whole()
    config = dataclasses.replace(_CONFIG, hidden=3)
    like = compiled.begin(
        config, compiled.build(config, 3), dataset().train.images[:1])
    with self.assertRaisesRegex(
        cli.UsageError, r'another model or optimizer: state/.*expected'):
      run_folder.Recorder(folder).last(like)


# A job that is nearly always writing a checkpoint.
_JOB = '''
import sys
import jax
jax.config.update('jax_numpy_rank_promotion', 'raise')
sys.path[:0] = 'tests', 'tests/experiments'
import test_resume
test_resume.train(sys.argv[1], resume=True, checkpoint_every=1)
'''


class KillTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, whole):
    self.path, self.whole = tmp_path, whole

  def test_killed_while_it_writes_a_checkpoint(self):
    step, folder = 6, self.path / 'run'  # In the second epoch.
    with subprocess.Popen(
        [sys.executable, '-c', _JOB, str(folder)], cwd=_ROOT, env=_ENV,
        stdout=subprocess.DEVNULL) as process:
      # A checkpoint begins under another name than it ends with.
      while process.poll() is None and not any(
          (folder / 'checkpoints').glob(f'{step}*')):
        time.sleep(0.001)
      process.kill()
    self.assertEqual(process.returncode, -signal.SIGKILL)
    complete = checkpoints.steps(folder / 'checkpoints')
    self.assertLess(complete[-1], 8)
    progress = train(
        folder, resume=True, checkpoint_every=1, log=lambda _: None)
    chex.assert_trees_all_equal(progress, self.whole[0], strict=True)
    self.assertEqual(_rows(folder), _rows(self.whole[1]))


class CommandLineTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def _start(self, *args):
    return subprocess.Popen(
        [sys.executable, '-m', 'experiments.mnist', '--config=mlp',
         '--epochs=1', '--batch_size=40', f'--workdir={self.path / "run"}',
         *args], cwd=_ROOT, env=_ENV, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)

  def test_sigterm(self):
    with self._start('--resume') as process:
      self.assertEqual(
          process.stdout.readline(),
          f'Nothing to resume in {self.path / "run"}: the run begins there\n')
      self.assertStartsWith(process.stdout.readline(), 'Epoch: 0 [40/60000]')
      process.send_signal(signal.SIGTERM)
      _, errors = process.communicate(timeout=120)
    self.assertEqual(process.returncode, 143)
    first, second = errors.splitlines()
    self.assertEqual(
        first, 'SIGTERM: ending after this step; once more ends at once')
    self.assertRegex(
        second, r'^error: interrupted after step \d+; its checkpoint is in the '
        r'workdir, --resume continues$')
    step = int(re.search(r'step (\d+)', second)[1])
    with self._start('--resume') as process:
      output, errors = process.communicate(timeout=120)
    self.assertEqual((process.returncode, errors), (0, ''))
    lines = output.splitlines()
    self.assertEqual(lines[0], f'Resuming after step {step}')
    self.assertRegex(lines[-1], r'^Summary: mlp seed 0: .*Acc\(Test\): 9\d\.')
    self.assertEqual(
        checkpoints.steps(self.path / 'run' / 'checkpoints'), [step, 1500])
