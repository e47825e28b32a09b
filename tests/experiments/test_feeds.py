"""Runs that read their data as they go are the runs from memory, to the bit.
"""

import csv
import functools
import json
import os
import signal
import sys
import types
from unittest import mock

from absl.testing import parameterized
import chex
from helpers import command
import jax
import numpy as np
import pytest

from experiments import cli
from experiments.data import feeds
from experiments.data import records
from experiments.data import sets
from experiments.data import sources
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from experiments.mnist import run_folder
from kan_jax import training
from kan_jax.training import nonfinite
from kan_jax.training import sharding
from kan_jax.training import streaming

_CONFIG = configs.Config(
    model='kan', hidden=2, grid=2, order=1, lamb=0.001, epochs=2, batch_size=4,
    grid_update_freq=3)
_ROWS = 27  # Two chunks of three batches each, and a short batch.


def _table(inputs=5, rows=_ROWS):
  """A table with a column of large numbers."""
  rng = np.random.default_rng(0)
  x = rng.normal(size=(rows, inputs)).astype(np.float32) * [[1] * (
      inputs - 1) + [100]]
  split = sets.Split(x.astype(np.float32), np.arange(rows, dtype=np.int32) % 3)
  return sources.Set(sources.Arrays(split), sources.Arrays(split), 3,
                     (inputs,), 'float32')


@functools.cache
def _programs():
  return compiled.build(_CONFIG, 3, (5,))


def _few():
  """Has four batches make up a chunk, of rows of 20 bytes."""
  return mock.patch.object(feeds, '_BYTES', 4 * _CONFIG.batch_size * 20)


def _train(folder, dataset, *, resume=False, log=None, signals=None):
  lines = []
  with (_few(),
        run_folder.open_recorder(str(folder), _CONFIG, resume) as recorder):
    job = loop.Loop(_CONFIG, dataset, _programs(), log=log or lines.append,
                    recorder=recorder, signals=signals)
    job.run()
  with (folder / 'metrics.csv').open(newline='') as file:
    rows = [row[:-1] for row in csv.reader(file)]  # Without the seconds.
  return job.progress, rows, lines


@pytest.fixture(scope='module')
def kept(tmp_path_factory):
  """A set as arrays and as files, and a run from memory."""
  path = tmp_path_factory.mktemp('feeds')
  found = _table()
  records.write_set(path / 'set', found)
  return sets.open_set(str(path / 'set')), _train(
      path / 'whole', sets.read(found))


class LoopTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, kept):
    self.path = tmp_path
    self.streamed, self.whole = kept

  def _assert_equals_whole(self, found):
    chex.assert_trees_all_equal(found[0], self.whole[0], strict=True)
    # Accuracies are sums over chunks, rounded in another order.
    for row, expected in zip(found[1][1:], self.whole[1][1:], strict=True):
      np.testing.assert_allclose(
          [float(value) for value in row],
          [float(value) for value in expected], rtol=1e-6)

  def test_files_give_the_run_from_memory(self):
    found = _train(self.path / 'run', self.streamed)
    self._assert_equals_whole(found)
    self.assertEqual(found[2], self.whole[2])  # The same log lines.
    self.assertLen(found[2], 4)

  @parameterized.parameters(
      (1, 1),  # Within the first chunk.
      (3, 8))  # In the second epoch.
  def test_interrupted_and_resumed_from_either(self, line, step):
    class Signals:
      number = 0

    signals, lines = Signals(), []

    def log(text):
      lines.append(text)
      if len(lines) == line:
        signals.number = signal.SIGTERM

    with self.assertRaisesRegex(
        cli.InterruptedRunError, f'after step {step};'):
      _train(self.path / 'run', self.streamed, log=log, signals=signals)
    again = self.streamed if line == 1 else sets.read(_table())
    self._assert_equals_whole(_train(self.path / 'run', again, resume=True))

  def test_a_bad_row_ends_the_run_when_it_is_read(self):
    split = _table().train.split
    split.images[20] = np.nan
    bad = _table()._replace(train=sources.Arrays(split))
    with _few(), self.assertRaisesRegex(
        cli.UsageError, 'training images.*1 of its 12 rows'):
      loop.Loop(_CONFIG, bad, _programs(), log=lambda _: None).run()

  def test_a_step_that_is_not_finite_is_read_once_more(self):
    """Its batch is looked at, though its chunk may be gone."""
    rows = np.full((_ROWS, 5), 3e38, np.float32)  # Whose sums overflow.
    split = sets.Split(rows, np.arange(_ROWS, dtype=np.int32) % 3)
    huge = _table()._replace(train=sources.Arrays(split))
    with (_few(), mock.patch.object(
        nonfinite, 'find_nonfinite', return_value='a word') as find,
          self.assertRaisesRegex(cli.RunError, '^step 0 was not .*: a word')):
      loop.Loop(_CONFIG, huge, _programs(), log=lambda _: None).run()
    x, labels = find.call_args.args[-1]
    np.testing.assert_array_equal(x, rows[:_CONFIG.batch_size])
    key = jax.random.split(jax.random.key(_CONFIG.seed))[1]
    order = jax.random.permutation(jax.random.fold_in(key, 0), _ROWS)
    np.testing.assert_array_equal(labels, order[:_CONFIG.batch_size] % 3)


class ChunkTest(parameterized.TestCase):

  @parameterized.product(
      rows=(1, 8, 27, 32), batch=(4, 40), done=(0, 1, 3))
  def test_both_feeds_give_the_same_batches(self, rows, batch, done):
    found, steps = _table(rows=rows), -(-rows // batch)
    done = min(done, steps - 1)
    order = np.random.default_rng(1).permutation(rows)
    placement = _programs().placement
    with mock.patch.object(feeds, '_BYTES', 3 * 4 * 20):
      streamed = feeds.Streamed('training', found.train, 3, placement)
    batches = [
        [tuple(part[chunk.rows[i - chunk.start]] for part in chunk.data)
         for chunk in feed.chunks(order, batch, done)
         for i in range(max(chunk.start, done), chunk.stop)]
        for feed in (feeds.Held(found.train.split, rows, placement), streamed)]
    self.assertLen(batches[0], steps - done)
    chex.assert_trees_all_equal(*batches)
    for (x, y), i in zip(
        batches[1], range(done * batch, rows, batch), strict=True):
      numbers = order[i:i + batch]
      np.testing.assert_array_equal(x, found.train.split.images[numbers])
      np.testing.assert_array_equal(y, found.train.split.labels[numbers])

  def test_a_process_may_have_no_rows_of_a_batch(self):
    """Of three rows over four devices, the last one has none."""
    last = types.SimpleNamespace(
        local_rows=lambda size: slice(size, size),
        put_rows=lambda local, size, axis=0: local)
    source = mock.Mock(wraps=_table().train, __len__=lambda _: _ROWS)
    feed = feeds.Streamed('training', source, 3, last)
    (chunk,) = feed.chunks(np.arange(3), 4)
    self.assertEqual([part.shape for part in chunk.data], [(0, 5), (0,)])
    source.read.assert_called_once_with(np.arange(1))  # To know the shape.


class RecordsTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def test_bytes_come_back_as_they_were(self):
    pixels = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    split = sources.as_split(pixels, np.array([3, 1]))
    found = sources.Set(
        sources.Arrays(split), sources.Arrays(split), 4, (28, 28), 'uint8')
    records.write_set(self.path / 'set', found)
    loaded = sets.load(str(self.path / 'set'))
    chex.assert_trees_all_equal(loaded.train, split, strict=True)
    chex.assert_trees_all_equal(loaded.test, split, strict=True)
    self.assertEqual(loaded.classes, 4)

  def test_several_files_of_other_writers(self):
    from array_record.python import array_record_module
    for part in range(3):
      writer = array_record_module.ArrayRecordWriter(
          str(self.path / f'train-{part}.array_record'), 'group_size:1')
      writer.write(np.int32(part).tobytes() + np.float32([part, 7]).tobytes())
      writer.close()
    os.link(self.path / 'train-0.array_record',
            self.path / 'test.array_record')
    (self.path / 'info.json').write_text(
        '{"shape": [2], "dtype": "float32", "classes": 3}')
    found = sets.open_set(str(self.path))
    split = found.train.read(np.array([2, 0]))
    np.testing.assert_array_equal(split.images, [[2, 7], [0, 7]])
    np.testing.assert_array_equal(split.labels, [2, 0])

  @parameterized.parameters(
      ('{', 'Expecting'), ('{"shape": [5], "dtype": "float32"}', 'classes'),
      ('{"shape": [5], "dtype": "object", "classes": 3}', 'dtype is object'),
      ('{"shape": 5, "dtype": "float32", "classes": 3}', 'not iterable'))
  def test_broken_info(self, info, message):
    records.write_set(self.path / 'set', _table())
    (self.path / 'set' / 'info.json').write_text(info)
    with self.assertRaisesRegex(
        cli.UsageError, f'no folder of ArrayRecord files.*{message}'):
      sets.open_set(str(self.path / 'set'))

  def test_broken_files(self):
    folder = self.path / 'set'
    records.write_set(folder, _table())
    info = json.loads((folder / 'info.json').read_text())
    (folder / 'info.json').write_text(json.dumps(info | {'shape': [6]}))
    with self.assertRaisesRegex(cli.UsageError, 'a record of 24 bytes; .* 28'):
      sets.read(sets.open_set(str(folder)))
    file = folder / 'train.array_record'
    content = bytearray(file.read_bytes())
    at = content.index(_table().train.split.images[3].tobytes())
    content[at] ^= 1
    file.write_bytes(content)
    with self.assertRaisesRegex(cli.UsageError, 'train cannot be read'):
      sets.read(sets.open_set(str(folder)))
    (folder / 'test.array_record').write_bytes(b'not a record')
    with self.assertRaisesRegex(cli.UsageError, 'no folder of ArrayRecord'):
      sets.open_set(str(folder))
    (folder / 'test.array_record').unlink()
    with self.assertRaisesRegex(cli.UsageError, 'there is no test'):
      sets.open_set(str(folder))

  def test_no_examples(self):
    records.write_set(self.path / 'set', _table(rows=0))
    with self.assertRaisesRegex(cli.UsageError, 'no training examples'):
      feeds.open_feeds(sets.open_set(str(self.path / 'set')),
                       _programs().placement)

  def test_nothing_is_overwritten(self):
    (self.path / 'notes.txt').write_text('mine')
    with self.assertRaisesRegex(cli.UsageError, 'is not an empty folder'):
      records.write_set(self.path, _table())
    self.assertEqual([p.name for p in self.path.iterdir()], ['notes.txt'])

  def test_without_grain(self):
    records.write_set(self.path / 'set', _table())
    with (mock.patch.dict('sys.modules', {'grain': None}),
          mock.patch.object(training, 'streaming', streaming)):
      del sys.modules['kan_jax.training.streaming']
      del training.streaming
      placement = sharding.Placement(sharding.make_mesh('data:1'))
      for call in (lambda: feeds.open_feeds(_table(), placement),
                   lambda: sets.open_set(str(self.path / 'set'))):
        with self.assertRaisesRegex(
            cli.UsageError, r"pip install -e '\.\[grain\]'"):
          call()

  def test_a_network_for_images_is_told_the_shape(self):
    with self.assertRaisesRegex(
        cli.UsageError, r'--model=conv_kan is for images of \[28, 28\]'):
      compiled.build(configs.Config(), 3, (5,))

  def test_command_line(self):
    records.write_set(self.path / 'set', _table())
    done = command.call(
        'mnist', '--config=kan_full', f'--dataset={self.path / "set"}',
        '--loader=grain', '--hidden=2', '--epochs=1', '--noupdate_grid')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertRegex(
        done.stdout, r'Epoch: 0 \[27/27\] .*\nSummary: kan_full seed 0: ')


def test_tfds_sources_are_read_by_number():
  """As `Builder` of test_data, with a table instead of images."""
  rows = [{'features': np.full(4, i, np.float32), 'label': i} for i in range(6)]
  source = sources._Tfds('some_set', rows, 'features', (4,))
  assert len(source) == 6
  split = source.read(np.array([4, 1]))
  np.testing.assert_array_equal(split.images, [[4] * 4, [1] * 4])
  np.testing.assert_array_equal(split.labels, [4, 1])
