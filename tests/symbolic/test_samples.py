"""Samples of edges in normalized units."""

import numpy as np
import pytest

from kan_jax.symbolic import _samples

_RNG = np.random.default_rng(0)
_X = _RNG.uniform(2, 6, (300, 11))
_Y = 3 * _X + 7


def test_units_of_inputs_and_outputs():
  first, second = _samples.chunks(_X, _Y)
  assert (first.edges, second.edges) == (8, 3)
  assert first.u.shape == second.u.shape == (8, 300)  # The last one is filled.
  np.testing.assert_allclose(first.u.min(1), -1)
  np.testing.assert_allclose(first.u.max(1), 1)
  np.testing.assert_allclose(first.v.mean(1), 0, atol=1e-12)
  np.testing.assert_allclose(first.v.std(1), 1)
  np.testing.assert_allclose(
      second.half[:3, None] * second.u[:3] + second.centre[:3, None],
      _X[:, 8:].T)
  np.testing.assert_allclose(
      second.std[:3, None] * second.v[:3] + second.mean[:3, None], _Y[:, 8:].T)


def test_stages_look_at_few_samples_with_both_ends():
  [samples] = _samples.chunks(_X[:, :1], _Y[:, :1])
  few, more, rest = (u for u, _ in samples.thinned)
  assert (few.shape, more.shape, rest.shape) == ((1, 64), (1, 300), (1, 300))
  np.testing.assert_allclose((few.min(), few.max()), (-1, 1))


def test_constant_columns():
  [samples] = _samples.chunks(np.ones((5, 1)), np.full((5, 1), 4.0))
  assert (samples.half, samples.std, samples.mean) == (1, 1, 4)
  assert not samples.v.any() and not samples.u.any()


@pytest.mark.parametrize(('x', 'y'), [
    (np.ones((3, 1)), np.ones((2, 1))), (np.ones((0, 1)), np.ones((0, 1))),
    (np.ones(3), np.ones(3)), (np.array([[np.nan]]), np.ones((1, 1)))])
def test_errors(x, y):
  with pytest.raises(ValueError, match='`x` and `y` need'):
    next(_samples.chunks(x, y))
