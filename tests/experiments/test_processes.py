"""One job in several processes: the same result, also after one has died."""

import contextlib
import io
import os
import signal
import sys
import types
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import numpy as np
import pytest

from experiments import cli
from experiments.data import sets
from experiments.data import sources
from experiments.devices import launch
from experiments.devices import processes
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from experiments.mnist import run_folder
from kan_jax import checkpoints
from kan_jax.training import sharding

# Each process compiles it anew, so it is the least there is.
_CONFIG = configs.Config(
    model='kan', hidden=2, grid=2, order=1, update_grid=False, epochs=2,
    batch_size=8)
_ROWS = 24  # Three batches.

# What each process runs: a folder, how it has its data, and which process dies
# after which line.
_JOB = '''
import sys
sys.path[:0] = 'tests', 'tests/experiments'
import test_processes
test_processes.work(*sys.argv[1:])
'''


def _set():
  rng = np.random.default_rng(0)
  source = sources.Arrays(sets.Split(
      rng.random((_ROWS, 28, 28)).astype(np.float32),
      np.arange(_ROWS, dtype=np.int32) % 3))
  return sources.Set(source, source, 3, (28, 28), 'float32')


def _train(folder, placement, log, signals=None, loader='memory'):
  found = _set()
  with run_folder.open_recorder(str(folder), _CONFIG, True) as recorder:
    job = loop.Loop(
        _CONFIG,
        sets.read(found, placement.local_rows) if loader == 'memory' else found,
        compiled.build(_CONFIG, 3, placement=placement), log=log,
        recorder=recorder, signals=signals, checkpoint_every=1)
    job.run()
  return placement.fetch(job.progress)


def work(folder, loader, dies='', after='0'):
  """Trains in one of several processes; one of them may die on the way."""
  processes.join()
  lines = []

  def log(line):
    lines.append(line)
    if str(jax.process_index()) == dies and len(lines) == int(after):
      os.kill(os.getpid(), signal.SIGKILL)

  with processes.together():
    _train(folder, sharding.Placement(
        sharding.make_mesh(f'data:{jax.device_count()}')), log, loader=loader)


def _alone(folder, log=lambda _: None, signals=None):
  """Trains in this process alone."""
  return _train(
      folder, sharding.Placement(sharding.make_mesh('data:1')), log, signals)


def _launch(count, *arguments):
  """Returns the exit code, and the lines of the launcher's errors."""
  errors = io.StringIO()
  with contextlib.redirect_stderr(errors):
    code = launch.launch(
        count, [sys.executable, '-c', _JOB, *map(str, arguments)])
  return code, errors.getvalue().splitlines()


class ProcessesTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def test_one_then_two_of_which_one_dies_then_four(self):
    """Each goes on from the checkpoint of the one before; the four read their
    rows as they go."""
    folder = self.path / 'run'
    with self.assertRaisesRegex(cli.InterruptedRunError, 'after step 1'):
      _alone(folder, signals=types.SimpleNamespace(number=signal.SIGTERM))
    code, errors = _launch(2, folder, 'memory', 1, 2)  # After the first epoch.
    self.assertEqual(code, 128 + signal.SIGKILL)
    self.assertEqual(
        errors, ['error: process 1 of 2 ended with SIGKILL; the others were '
                 'ended. With a --workdir, --resume goes on from its last '
                 'checkpoint'])
    self.assertEqual(checkpoints.steps(folder / 'checkpoints'), [1, 2])
    self.assertEqual(_launch(4, folder, 'grain'), (0, []))
    self.assertEqual(checkpoints.steps(folder / 'checkpoints'), [4, 5, 6])
    # Sums over rows are added in another order, and Adam divides by what may
    # be small.
    chex.assert_trees_all_close(
        _alone(folder), _alone(self.path / 'whole'), atol=1e-5)
    self.assertLen((folder / 'metrics.csv').read_text().splitlines(), 3)


class EnvironmentTest(parameterized.TestCase):

  @parameterized.parameters(
      ({'KAN_JAX_NUM_PROCESSES': '2'}, 'KAN_JAX_PROCESS_ID is not'),
      ({'KAN_JAX_NUM_PROCESSES': '2', 'KAN_JAX_PROCESS_ID': '2',
        'JAX_COORDINATOR_ADDRESS': 'localhost:1'}, 'got 2 and 2'),
      ({'KAN_JAX_NUM_PROCESSES': 'two', 'KAN_JAX_PROCESS_ID': '0',
        'JAX_COORDINATOR_ADDRESS': 'localhost:1'}, 'got two and 0'))
  def test_what_is_missing_is_named(self, given, message):
    with pytest.MonkeyPatch.context() as patch:
      for name, value in given.items():
        patch.setenv(name, value)
      with self.assertRaisesRegex(cli.UsageError, message):
        processes.join()

  def test_alone(self):
    processes.join()
    self.assertTrue(processes.is_first())
    self.assertEqual(processes.agree(15), 15)


class TogetherTest(parameterized.TestCase):

  @parameterized.parameters(
      (cli.UsageError('no such folder'), 2, '^error: no such folder\n$'),
      (jax.errors.JaxRuntimeError('Gloo: closed'), 1,
       r'^error: process 0 of 2 cannot go on.*--resume.*Gloo: closed\n$'),
      (ValueError('UNKNOWN: Gloo AllGather failed'), 1,
       r'^error: process 0 of 2 cannot go on.*--resume.*AllGather failed\n$'),
      (KeyError('a fault'), 1, r'^Traceback[\s\S]*KeyError'))
  def test_ends_at_once(self, error, code, message):
    """Others wait for this process and must not be waited for."""
    errors = io.StringIO()
    with (mock.patch.object(jax, 'process_count', return_value=2),
          mock.patch.object(os, '_exit') as end,
          contextlib.redirect_stderr(errors), processes.together()):
      raise error
    end.assert_called_once_with(code)
    self.assertRegex(errors.getvalue(), message)

  def test_alone_an_error_is_an_error(self):
    with self.assertRaises(KeyError), processes.together():
      raise KeyError('a fault')


class LaunchTest(parameterized.TestCase):

  def test_an_error_of_a_later_process_is_shown(self):
    job = ('import os, sys; sys.exit("no disk" if os.environ'
           '["KAN_JAX_PROCESS_ID"] == "1" else None)')
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
      code = launch.launch(3, [sys.executable, '-c', job])
    self.assertEqual(code, 1)
    first, second = errors.getvalue().splitlines()
    self.assertEqual(first, 'process 1: no disk')
    self.assertStartsWith(
        second, 'error: process 1 of 3 ended with exit code 1; ')

  def test_an_error_of_all_is_shown_once(self):
    """The first process has told it to the terminal already."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
      code = launch.launch(2, [sys.executable, '-c', 'import sys; sys.exit(2)'])
    self.assertEqual((code, errors.getvalue()), (2, ''))
