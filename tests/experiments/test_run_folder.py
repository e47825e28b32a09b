"""The folder of a run: what is in it, and whose it is."""

import csv
import dataclasses
import errno
import json
from unittest import mock

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
from matplotlib import figure
import numpy as np
import optax
import pytest

from experiments import cli
from experiments.mnist import configs
from experiments.mnist import models
from experiments.mnist import run_folder
import kan_jax
from kan_jax import checkpoints
from kan_jax.training import train_steps

_CONFIG = configs.Config(hidden=2, grid=2, order=1, lamb=0.5, seed=3)
_IMAGES = np.random.default_rng(0).random((8, 28, 28), np.float32)
_PNG = b'\x89PNG\r\n\x1a\n'


def _row(epoch):
  return {'epoch': epoch, 'step': 5 * (epoch + 1), 'loss': 0.5 / (epoch + 1),
          'acc_train': 90.0 + epoch, 'acc_test': 89.0 + epoch}


def _progress(state):
  return run_folder.Progress(
      state, train_steps.zero_totals(), jnp.zeros(2, jnp.uint32))


@pytest.mark.parametrize('epochs', [1, 2, 30])
def test_an_axis_of_epochs_has_whole_numbers(epochs):
  ax = figure.Figure().subplots()
  run_folder.draw_loss(ax, [_row(epoch) for epoch in range(epochs)])
  low, high = ax.get_xlim()
  shown = [tick for tick in ax.get_xticks() if low <= tick <= high]
  assert shown and all(tick == round(tick) for tick in shown), shown


class RecordTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path / 'run'

  def _content(self):
    return {str(f.relative_to(self.path)): f.read_bytes()
            for f in self.path.rglob('*') if f.is_file()}

  def _open(self, config=_CONFIG, resume=False):
    """Opens and closes a recorder that keeps nothing."""
    with run_folder.open_recorder(str(self.path), config, resume) as recorder:
      self.assertIsNotNone(recorder)

  def test_whole_run(self):
    model = models.build(_CONFIG, classes=3)
    state = train_steps.create_state(
        model, optax.adam(0.1), jax.random.key(0), _IMAGES)
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      progress, rows = recorder.restore(_progress(state))
      self.assertEqual(rows, [])
      for epoch in range(2):
        state = state.replace(step=jnp.asarray(5 * (epoch + 1)))
        recorder.epoch(progress._replace(state=state), _row(epoch))
        # A run that is cut off has kept all epochs before.
        lines = (self.path / 'metrics.csv').read_text().splitlines()
        self.assertLen(lines, 2 + epoch)
      recorder.finish(model, state, _IMAGES, 'Summary: all is well')

    config = json.loads((self.path / 'config.json').read_text())
    self.assertEqual(configs.Config(**config), _CONFIG)
    with (self.path / 'metrics.csv').open(newline='') as file:
      rows = list(csv.DictReader(file))
    self.assertEqual(
        [{name: float(value) for name, value in row.items()} for row in rows],
        [_row(0), _row(1)])
    self.assertEqual(
        (self.path / 'summary.txt').read_text(), 'Summary: all is well\n')
    for picture in ('history.png', 'activations.png'):
      self.assertEqual((self.path / picture).read_bytes()[:8], _PNG)
    kan, variables = kan_jax.load(self.path / 'kan.safetensors')
    self.assertEqual(kan.features, model.kan.features)
    chex.assert_trees_all_equal(
        variables['params'], state.params['kan'])
    events = [f for f in (self.path / 'tensorboard').iterdir()
              if 'tfevents' in f.name]
    self.assertLen(events, 1)
    for name in (b'loss', b'acc_test'):
      self.assertIn(name, events[0].read_bytes())
    self.assertEqual(
        sorted(f.name for f in (self.path / 'checkpoints').iterdir()),
        ['10', '5'])
    # Whoever resumes gets the last state and the rows up to it.
    with run_folder.open_recorder(
        str(self.path), _CONFIG, resume=True) as recorder:
      restored, rows = recorder.restore(progress)
    chex.assert_trees_all_equal(restored.state, state)
    self.assertEqual(rows, [_row(0), _row(1)])

  def test_no_picture_of_edges_without_any(self):
    model = models.build(configs.CONFIGS['mlp'])
    state = train_steps.TrainState(
        step=0, params={}, grid={}, opt_state=())
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      recorder._history.append(_row(0))
      recorder.finish(model, state, _IMAGES, 'done')
    self.assertIn('history.png', self._content())
    self.assertNotIn('activations.png', self._content())

  def test_without_a_folder(self):
    with run_folder.open_recorder(None, _CONFIG) as recorder:
      self.assertIsNone(recorder)
    self.assertFalse(self.path.exists())

  def test_rows_after_the_checkpoint_are_done_again(self):
    state = train_steps.TrainState(
        step=jnp.asarray(5), params={'a': jnp.ones(2)}, grid={}, opt_state=())
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      progress, _ = recorder.restore(_progress(state))
      recorder.epoch(progress, _row(0))
      # Killed after the row of the second epoch, before its checkpoint.
      recorder._history.append(_row(1))
      recorder._write_rows()
    with run_folder.open_recorder(
        str(self.path), _CONFIG, resume=True) as recorder:
      _, rows = recorder.restore(progress)
    self.assertEqual(rows, [_row(0)])
    self.assertLen((self.path / 'metrics.csv').read_text().splitlines(), 2)

  def test_the_three_latest_checkpoints_stay(self):
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      for step in (3, 5, 5, 8, 13, 21):
        recorder.checkpoint(_progress(train_steps.TrainState(
            step=jnp.asarray(step), params={}, grid={}, opt_state=())))
    self.assertEqual(checkpoints.steps(self.path / 'checkpoints'), [8, 13, 21])

  def test_what_a_kill_left_of_old_checkpoints_goes(self):
    progress = _progress(train_steps.TrainState(
        step=jnp.asarray(5), params={}, grid={}, opt_state=()))
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      recorder.checkpoint(progress)
    folder = self.path / 'checkpoints'
    for name in ('3.deleted', '8.orbax-checkpoint-tmp'):
      (folder / name).mkdir()
      (folder / name / 'half').write_text('of it')
    with run_folder.open_recorder(
        str(self.path), _CONFIG, resume=True) as recorder:
      recorder.restore(progress)
    self.assertEqual([file.name for file in folder.iterdir()], ['5'])

  def test_a_checkpoint_that_cannot_be_written_is_one_line(self):
    progress = _progress(train_steps.TrainState(
        step=jnp.asarray(5), params={}, grid={}, opt_state=()))
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      (self.path / 'checkpoints').write_text('in the way')
      with self.assertRaisesRegex(
          cli.RunError, r'^[^\n]*/5 cannot be written: [^\n]*--resume[^\n]*$'):
        recorder.checkpoint(progress)

  def test_same_config_needs_resume(self):
    self._open()
    (self.path / 'metrics.csv').write_text('kept')
    before = self._content()
    with self.assertRaisesRegex(cli.UsageError, '--resume goes on with it'):
      self._open()
    self._open(resume=True)
    self.assertEqual(self._content(), before)

  def test_resumes_for_more_epochs_but_not_fewer(self):
    self._open()
    more = dataclasses.replace(_CONFIG, epochs=_CONFIG.epochs + 1)
    self._open(more, resume=True)
    kept = json.loads((self.path / 'config.json').read_text())
    self.assertEqual(kept['epochs'], more.epochs)
    with self.assertRaisesRegex(cli.UsageError, 'differs in epochs'):
      self._open(_CONFIG, resume=True)

  def test_resumes_a_run_from_before_a_setting_existed(self):
    self._open()
    file = self.path / 'config.json'
    kept = json.loads(file.read_text())
    del kept['precision']
    file.write_text(json.dumps(kept))
    self._open(resume=True)
    self.assertEqual(json.loads(file.read_text())['precision'], 'highest')

  def test_damaged_checkpoint_is_named(self):
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      for step in (3, 5):
        progress = _progress(train_steps.TrainState(
            step=jnp.asarray(step), params={}, grid={}, opt_state=()))
        recorder.checkpoint(progress)
      sums = self.path / 'checkpoints' / '5' / 'SHA256SUMS'
      sums.write_text('rubbish')
      with self.assertRaisesRegex(
          cli.UsageError, '/5 is damaged.*goes back to step 3'):
        recorder.restore(progress)
    self.assertEqual(sums.read_text(), 'rubbish')

  def test_another_config_is_refused_and_nothing_touched(self):
    self._open()
    (self.path / 'metrics.csv').write_text('kept')
    before = self._content()
    other = configs.Config(hidden=4, grid=2, order=1, lamb=0.5, seed=4)
    with self.assertRaisesRegex(
        cli.UsageError, r'another config \(it differs in hidden, seed\)'):
      self._open(other)
    self.assertEqual(self._content(), before)

  @parameterized.parameters('many', None)
  def test_epochs_that_are_no_number_are_another_config(self, epochs):
    self._open()
    file = self.path / 'config.json'
    file.write_text(json.dumps(json.loads(file.read_text())
                               | {'epochs': epochs}))
    with self.assertRaisesRegex(cli.UsageError, 'it differs in epochs'):
      self._open(resume=True)

  @parameterized.parameters(
      ('notes.txt', 'mine'), ('config.json', '[1, 2]'),
      ('config.json', '{broken'), ('config.json', ''))
  def test_foreign_folder_is_refused_and_nothing_touched(self, name, text):
    self.path.mkdir()
    (self.path / name).write_text(text)
    with self.assertRaisesRegex(
        cli.UsageError, 'is not empty and holds no run of this program'):
      self._open()
    self.assertEqual(self._content(), {name: text.encode()})

  def test_config_of_binary_rubbish_is_refused(self):
    self.path.mkdir()
    (self.path / 'config.json').write_bytes(b'\xff\xfe\x00\x80')
    with self.assertRaisesRegex(cli.UsageError, 'holds no run'):
      self._open()

  def test_config_nested_too_deeply_is_refused(self):
    self.path.mkdir()
    (self.path / 'config.json').write_text('[' * 100_000)
    with self.assertRaisesRegex(cli.UsageError, 'holds no run of this program'):
      self._open(resume=True)
    with self.assertRaisesRegex(cli.UsageError, 'holds no run.*recursion'):
      run_folder.read_config(self.path)

  def test_two_runs_in_one_folder(self):
    """The second one is refused; the folder is free when the first has ended.
    """
    with run_folder.open_recorder(str(self.path), _CONFIG):
      before = self._content()
      with self.assertRaisesRegex(
          cli.UsageError, '--workdir=.*/run is in use by another run'):
        self._open(resume=True)
      self.assertEqual(self._content(), before)
    self._open(resume=True)

  def test_an_incomplete_checkpoint_is_told(self):
    state = train_steps.TrainState(
        step=jnp.asarray(3), params={'a': jnp.ones(2)}, grid={}, opt_state=())
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      self.assertEqual(recorder.unfinished(), '')
      for step in (3, 5):
        recorder.checkpoint(_progress(state.replace(step=jnp.asarray(step))))
      self.assertEqual(recorder.unfinished(), '')
      sums = [self.path / 'checkpoints' / step / 'SHA256SUMS'
              for step in ('5', '3')]
      sums[0].unlink()
      self.assertRegex(recorder.unfinished(), '/checkpoints/5 is incomplete '
                       'and not used; .*checkpoint is of step 3$')
      sums[1].unlink()
      self.assertRegex(
          recorder.unfinished(), '/5 is incomplete.*checkpoint is none$')

  def test_a_full_disk_is_one_line(self):
    with run_folder.open_recorder(str(self.path), _CONFIG) as recorder:
      full = OSError(errno.ENOSPC, 'No space left on device')
      with (mock.patch.object(run_folder, '_replace', side_effect=full),
            self.assertRaisesRegex(
                cli.RunError, 'run cannot be written: No space left on device; '
                '--resume goes on from the last checkpoint$') as caught):
        recorder.epoch(_progress(None), _row(0))
      self.assertEqual(caught.exception.code, 1)
      (self.path / 'summary.txt').symlink_to('/dev/full')
      with self.assertRaisesRegex(
          cli.RunError, 'run cannot be written: No space left on device; the '
          'result is printed above$'):
        recorder.finish(None, train_steps.TrainState(
            step=0, params={}, grid={}, opt_state=()), _IMAGES, 'done')

  def test_file_in_the_place_of_the_folder(self):
    self.path.write_text('a file')
    with self.assertRaisesRegex(cli.UsageError, '--workdir=.* cannot be used'):
      self._open()
    self.assertEqual(self.path.read_text(), 'a file')
