"""Chunks that are read ahead: which they are does not depend on who reads them.
"""

import threading

from absl.testing import parameterized
import chex
import jax
import numpy as np

from kan_jax.training import sharding
from kan_jax.training import streaming

_TABLE = np.arange(20).reshape(10, 2)
_ORDER = np.random.default_rng(0).permutation(10)


def _read(numbers):
  return {'rows': _TABLE[numbers], 'numbers': numbers}


class ChunksTest(parameterized.TestCase):

  @parameterized.product(size=(3, 5, 12), threads=(1, 4), ahead=(1, 3))
  def test_all_rows_in_order(self, size, threads, ahead):
    found = list(streaming.chunks(
        _read, _ORDER, size, threads=threads, ahead=ahead))
    self.assertEqual(
        [len(chunk['rows']) for chunk in found],
        [len(_ORDER[i:i + size]) for i in range(0, 10, size)])
    for chunk in found:
      self.assertIsInstance(chunk['rows'], jax.Array)
    np.testing.assert_array_equal(
        np.concatenate([chunk['numbers'] for chunk in found]), _ORDER)
    np.testing.assert_array_equal(
        np.concatenate([chunk['rows'] for chunk in found]), _TABLE[_ORDER])

  @parameterized.parameters(None, 'data:1')
  def test_batches_side_by_side(self, mesh):
    placement = sharding.Placement(sharding.make_mesh(mesh)) if mesh else None
    found = list(streaming.chunks(
        _read, _ORDER.reshape(5, 2), 3, placement=placement))
    chex.assert_shape([chunk['rows'] for chunk in found], [
        (3, 2, 2), (2, 2, 2)])
    np.testing.assert_array_equal(
        np.concatenate([chunk['rows'] for chunk in found]),
        _TABLE[_ORDER].reshape(5, 2, 2))

  @parameterized.parameters(0, 1, 3, 4)
  def test_begins_anywhere_and_reads_nothing_before(self, start):
    seen = []

    def read(numbers):
      seen.extend(numbers)
      return numbers

    found = list(streaming.chunks(read, _ORDER, 3, start=start))
    expected = _ORDER[3 * start:]
    self.assertLen(found, 4 - start)
    self.assertEqual(seen, expected.tolist())
    self.assertEqual([int(i) for chunk in found for i in chunk], seen)

  def test_reads_ahead(self):
    second = threading.Event()

    def read(numbers):
      if numbers[0] == _ORDER[3]:
        second.set()
      return numbers

    iterator = streaming.chunks(read, _ORDER, 3)
    next(iterator)
    self.assertTrue(second.wait(60))  # Nobody has asked for it yet.
    iterator.close()

  def test_an_error_arrives_where_its_chunk_would(self):
    def read(numbers):
      if _ORDER[7] in numbers:
        raise OSError('a bad sector')
      return numbers

    iterator = streaming.chunks(read, _ORDER, 3)
    np.testing.assert_array_equal(next(iterator), _ORDER[:3])
    np.testing.assert_array_equal(next(iterator), _ORDER[3:6])
    with self.assertRaisesRegex(OSError, 'a bad sector'):
      next(iterator)

  @parameterized.parameters(
      {'size': 0}, {'start': 5}, {'start': -1}, {'ahead': 0}, {'threads': 0},
      {'order': _ORDER[:0]})
  def test_out_of_range(self, **options):
    given = {'read': _read, 'order': _ORDER, 'size': 3} | options
    with self.assertRaisesRegex(ValueError, '`order` needs rows, `size`'):
      streaming.chunks(**given)
