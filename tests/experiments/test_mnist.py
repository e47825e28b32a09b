"""The MNIST program: its schedule, its lines, its command line."""

import collections
import dataclasses
import functools
import os
import random
import re
from typing import NamedTuple
from unittest import mock

from absl.testing import parameterized
import chex
from helpers import command
import jax
import numpy as np

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from kan_jax.training import sharding

_SMALL = configs.Config(
    hidden=4, grid=2, order=1, lamb=0.001, epochs=2, batch_size=32,
    grid_update_freq=5, learning_rate=0.02)


def _stripes(size, seed):
  """Noisy images of three classes that differ in the bright rows."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, size).astype(np.int32)
  images = rng.random((size, 28, 28), np.float32) / 2
  for image, label in zip(images, labels, strict=True):
    image[8 * label:8 * label + 8] += 0.5
  return sets.Split(images, labels)


_DATA = sets.Dataset(_stripes(150, 0), _stripes(60, 1), 3)


@functools.cache
def _programs():
  return compiled.build(_SMALL, 3)


@functools.cache
def _run(seed, attempt=0):
  """The result of a run and its log; `attempt` asks for one more of it."""
  del attempt
  lines = []
  result = loop.Loop(
      dataclasses.replace(_SMALL, seed=seed), _DATA, _programs(),
      log=lines.append).run()
  return result, lines


class FakeState(NamedTuple):
  step: int = 0
  variables: tuple = ()
  grid: tuple = ()
  others: tuple = ()


class Fake:
  """Programs that only keep account of what they are asked to do."""

  def __init__(self, loss=0.625, accuracy=0.9755):
    self.placement = sharding.Placement(sharding.make_mesh('data:1'))
    self.loss, self.accuracy = loss, accuracy
    self.batches, self.updates = [], []

  def init(self, key, x):
    del key
    assert x.shape[0] == 1
    return FakeState()

  def run_steps(self, state, totals, examples, rows, start, stop):
    del examples
    self.batches.extend(np.asarray(rows[i]) for i in range(start, stop))
    totals = totals | {'loss': totals['loss'] + self.loss * (stop - start)}
    return state._replace(step=state.step + stop - start), totals

  def update_grids(self, state, images, rows, i):
    del images
    self.updates.append((state.step, len(rows[i])))
    return state

  def evaluate(self, variables, split, size):
    del variables, split
    # Training and test set differ in size here.
    return {'accuracy': self.accuracy - 0.0002 * (size == 1)}


def _train_fake(config, size, **options):
  """Trains fake programs on `size` empty images; returns them and the log."""
  fake, lines = Fake(**options), []
  split = sets.Split(
      np.zeros((size, 1, 1), np.float32), np.zeros(size, np.int32))
  loop.Loop(
      config, sets.Dataset(split, sets.Split(*(a[:1] for a in split)), 3),
      fake, log=lines.append).run()
  return fake, lines


class ScheduleTest(parameterized.TestCase):

  @parameterized.parameters((10, 3), (9, 3), (3, 10), (1, 1), (301, 2))
  def test_every_example_once_an_epoch(self, size, batch):
    """Case T04: the short batch at the end included."""
    fake, _ = _train_fake(
        configs.Config(epochs=2, batch_size=batch), size)
    steps = -(-size // batch)
    self.assertLen(fake.batches, 2 * steps)
    first, second = (
        np.concatenate(part)
        for part in (fake.batches[:steps], fake.batches[steps:]))
    for order in (first, second):
      np.testing.assert_array_equal(np.sort(order), np.arange(size))
    if size > 9:
      self.assertFalse(np.array_equal(first, second))
    self.assertEqual({len(b) for b in fake.batches[:size // batch]} or {batch},
                     {batch})

  @parameterized.parameters(1, 4, 7, 100)
  def test_grid_updates(self, freq):
    """Every `freq` steps, counted over the epochs, with the batch to come."""
    fake, _ = _train_fake(configs.Config(
        epochs=3, batch_size=4, grid_update_freq=freq), 50)
    sizes = [len(batch) for batch in fake.batches]
    self.assertLen(sizes, 3 * 13)
    self.assertEqual(
        fake.updates, [(i, sizes[i]) for i in range(0, 39, freq)])

  def test_grid_updates_of_the_first_epochs(self):
    fake, _ = _train_fake(configs.Config(
        epochs=3, batch_size=4, grid_update_freq=5, grid_update_epochs=2), 50)
    self.assertEqual([i for i, _ in fake.updates], [*range(0, 26, 5)])

  def test_no_grid_updates(self):
    fake, _ = _train_fake(configs.Config(update_grid=False, epochs=1), 300)
    self.assertEqual(fake.updates, [])

  def test_log_lines(self):
    """After step 1 and each 100 more; then the epoch, with both accuracies."""
    _, lines = _train_fake(configs.Config(epochs=5), 60_000)
    self.assertLen(lines, 5 * 6)
    self.assertEqual(lines[:6], [
        'Epoch: 0 [128/60000] Loss: 0.625000',
        'Epoch: 0 [12928/60000] Loss: 0.625000',
        'Epoch: 0 [25728/60000] Loss: 0.625000',
        'Epoch: 0 [38528/60000] Loss: 0.625000',
        'Epoch: 0 [51328/60000] Loss: 0.625000',
        'Epoch: 0 [60000/60000] Loss: 0.625000 '
        'Acc(Train): 97.55 Acc(Test): 97.53'])
    self.assertEqual(lines[-1], lines[5].replace('Epoch: 0', 'Epoch: 4'))


class PrepareTest(parameterized.TestCase):

  def test_a_run_compiles_what_was_prepared_and_no_more(self):
    """Each large program once for each of its shapes."""
    counts = collections.Counter()

    def listen(event, seconds, **kwargs):
      del seconds
      if event.endswith('backend_compile_duration'):
        counts[kwargs['fun_name']] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    self.addCleanup(jax.monitoring.unregister_event_duration_listener, listen)
    config = dataclasses.replace(_SMALL, epochs=1)
    programs = compiled.build(config, 3)
    programs.prepare(config, _DATA.shape, (150, 60))
    loop.Loop(config, _DATA, programs, log=lambda _: None).run()
    prepared = {
        'jit(create_state)': 1, 'jit(update_grids)': 1, 'jit(run_steps)': 2,
        'jit(evaluate)': 2, 'jit(_drop_edges)': 1}
    self.assertEqual({name: counts[name] for name in prepared}, prepared)


class TrainTest(parameterized.TestCase):

  def test_learns(self):
    result, lines = _run(0)
    self.assertEqual(result.state.step, 2 * 5)  # 150 / 32, rounded up.
    self.assertLen(result.epoch_seconds, 2)
    losses = [float(line.split('Loss: ')[1].split()[0])
              for line in lines if 'Acc' in line]
    self.assertLess(losses[1], losses[0])
    self.assertEqual(f'{result.loss:.6f}', f'{losses[1]:.6f}')
    outputs = jax.jit(_programs().model.apply)(
        result.state.variables, _DATA.test.images)
    correct = outputs.argmax(-1) == _DATA.test.labels
    np.testing.assert_allclose(result.acc_test, 100 * correct.mean(), rtol=1e-5)

  def test_same_seed_same_bits(self):
    first, again, other = _run(0), _run(0, attempt=1), _run(1)
    self.assertEqual(first[1], again[1])
    chex.assert_trees_all_equal(first[0].state, again[0].state)
    self.assertEqual(first[0].loss, again[0].loss)
    self.assertNotEqual(first[1], other[1])
    self.assertNotEqual(first[0].loss, other[0].loss)

  def test_leaves_global_random_state_alone(self):
    np.random.seed(5)
    random.seed(5)
    before = np.random.get_state()[1].copy(), random.getstate()
    _run(0, attempt=2)
    np.testing.assert_array_equal(np.random.get_state()[1], before[0])
    self.assertEqual(random.getstate(), before[1])

  def test_summary_names_the_edges(self):
    result, _ = _run(0)
    self.assertEqual(result.edges, 16 * 4 + 4 * 3)
    self.assertRegex(
        loop.summary(result, 'kan_reg'),
        r'^Summary: kan_reg seed 0: Loss: \d\.\d{6} Acc\(Train\): \d+\.\d\d '
        r'Acc\(Test\): \d+\.\d\d, \d+\.\d s; \d+ of 76 edges score 0\.01 or '
        r'more, Acc\(Test\) with these alone: \d+\.\d\d$')

  def test_summary_without_penalty_has_no_edges(self):
    result = _run(0)[0]._replace(edges=None, edges_left=None, acc_pruned=None)
    self.assertRegex(loop.summary(result, 'kan'), r'\d s$')

  def test_penalty_is_for_kan_alone(self):
    """An MLP has no edges to score, whatever --lamb says."""
    config = dataclasses.replace(_SMALL, model='conv_mlp')
    result = loop.Loop(
        dataclasses.replace(config, epochs=1), _DATA,
        compiled.build(config, 3), log=lambda _: None).run()
    self.assertEqual(result.state.grid, {})
    self.assertIsNone(result.edges)


class CommandLineTest(parameterized.TestCase):

  def _call(self, *args):
    return command.call('mnist', *args)

  def test_help(self):
    done = self._call('--help')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    for name in ('config', 'workdir', 'data_dir', *(
        field.name for field in dataclasses.fields(configs.Config))):
      self.assertTrue(
          re.search(rf'^ +--(\[no\])?{name}:', done.stdout, re.MULTILINE), name)
    self.assertIn('python -m experiments.mnist', done.stdout)

  @parameterized.parameters(
      ('--config=nope', '--config=nope is not known; allowed are mlp, kan'),
      ('--lamb=-1', '--lamb=-1.0 is not possible; it must be 0 or more'),
      ('--grid=abc', '--grid'), ('stray', "unexpected argument 'stray'"))
  def test_one_line_for_a_mistake(self, arg, message):
    done = self._call(arg)
    self.assertEqual(done.returncode, 2)
    self.assertEqual(done.stdout, '')
    lines = done.stderr.splitlines()
    self.assertLen(lines, 1)
    self.assertStartsWith(lines[0], 'error: ')
    self.assertIn(message, lines[0])

  def test_a_sweep_that_cannot_be_written_does_not_begin(self):
    done = command.call('mnist.sweep', '--csv=nowhere/sweep.csv')
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertEqual(
        done.stderr, 'error: --csv=nowhere/sweep.csv cannot be written: No '
        'such file or directory\n')

  @parameterized.parameters(
      (8, {}, '32'), (8, {'NPROC': '5'}, '5'), (1, {}, None), (-1, {}, None))
  def test_devices_that_share_a_cpu_get_threads(self, devices, given, wanted):
    """With one for each, sums over eight devices never came to an end."""
    with (mock.patch.dict(os.environ, given),
          mock.patch.object(cli.jax, 'config', mock.Mock(
              jax_num_cpu_devices=devices))):
      if not given:
        os.environ.pop('NPROC', None)
      cli.enough_threads()
      self.assertEqual(os.environ.get('NPROC'), wanted)
