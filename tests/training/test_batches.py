"""Row numbers of the steps: every row once in each pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kan_jax.training import _batches

_DATA = jnp.arange(10.0)[:, None], jnp.arange(10.0)


def test_each_pass_has_every_row_once():
  batches = _batches.Batches(_DATA, 3, jax.random.key(0))
  rows = batches.next(20)  # 60 numbers: six passes over ten rows.
  assert rows.shape == (20, 3)
  for chunk in rows.reshape(6, 10):
    np.testing.assert_array_equal(np.sort(chunk), np.arange(10))
  assert (rows.reshape(6, 10)[0] != rows.reshape(6, 10)[1]).any()


def test_the_key_alone_decides():
  first, again, other = (
      _batches.Batches(_DATA, 4, jax.random.key(seed)).next(5)
      for seed in (1, 1, 2))
  np.testing.assert_array_equal(first, again)
  assert (first != other).any()


def test_without_a_size_a_step_reads_all_rows():
  batches = _batches.Batches(_DATA, None, None)
  x = batches.data[0][batches.next(2)]
  np.testing.assert_array_equal(x, np.stack([_DATA[0], _DATA[0]]))


@pytest.mark.parametrize(('size', 'key'), [(11, 0), (0, 0), (3, None)])
def test_errors(size, key):
  key = key if key is None else jax.random.key(key)
  with pytest.raises(ValueError, match='`batch_size` lies in 1 to the 10 rows'):
    _batches.Batches(_DATA, size, key)
