"""Fits from several starts."""

from unittest import mock

from absl.testing import parameterized
import jax
import numpy as np
import optax

from kan_jax.layers import linen
from kan_jax.training import fitting
from kan_jax.training import multistart

_X = np.random.default_rng(0).uniform(-1, 1, (60, 1))
_Y = np.sin(3 * _X)
_MODEL = linen.KAN([1, 1])
_ADAM = optax.adam(0.01)
_OPTIONS = {'steps': 4, 'update_steps': (), 'log_every': 2, 'progress': False}


class FitBestTest(parameterized.TestCase):

  def test_goes_on_from_the_best(self):
    key = jax.random.key(3)
    ends = []
    for k in range(3):
      variables = jax.jit(_MODEL.init)(jax.random.fold_in(key, k), _X)
      ends.append(fitting.fit(_MODEL, variables, _X, _Y, **_OPTIONS))
    losses = [end.history['loss'][-1] for end in ends]
    best = ends[int(np.argmin(losses))]
    found = multistart.fit_best(
        _MODEL, _X, _Y, key=key, starts=3, refine=(5, 10), **_OPTIONS)
    self.assertEqual(found.model.grid, 10)
    np.testing.assert_array_equal(found.history['step'], [2, 4, 6, 8])
    np.testing.assert_array_equal(found.history['grid'], [5, 5, 10, 10])
    np.testing.assert_array_equal(
        found.history['loss'][:2], best.history['loss'])
    self.assertLess(min(losses), max(losses))  # Else any start would do.

  def test_short_trials(self):
    found = multistart.fit_best(
        _MODEL, _X, _Y, key=jax.random.key(3), starts=2, trial=2,
        refine=(5, 10), **_OPTIONS)
    np.testing.assert_array_equal(found.history['step'], [2, 4, 6, 8, 10])
    np.testing.assert_array_equal(found.history['grid'], [5, 5, 5, 10, 10])

  def test_batches(self):
    """One key for all: other keys shuffle and begin otherwise."""
    def fit(seed):
      return multistart.fit_best(
          _MODEL, _X, _Y, key=jax.random.key(seed), starts=2, batch_size=20,
          optimizer=_ADAM, refine=(5, 6), **_OPTIONS)

    first, again, other = fit(0), fit(0), fit(1)
    jax.tree.map(
        np.testing.assert_array_equal, first.variables, again.variables)
    self.assertEqual(first.model.grid, 6)
    self.assertTrue((first.history['loss'] != other.history['loss']).all())

  def test_shuffles_differ_between_starts(self):
    """And from the keys that made the first parameters."""
    keys = []

    def fit(model, variables, *args, key, **options):
      keys.append(jax.random.key_data(key).tolist())
      return _fit(model, variables, *args, key=key, **options)

    _fit, first = fitting.fit, jax.random.key(0)
    with mock.patch.object(fitting, 'fit', fit):
      multistart.fit_best(
          _MODEL, _X, _Y, key=first, starts=2, trial=2, **_OPTIONS)
    keys += [jax.random.key_data(jax.random.fold_in(first, k)).tolist()
             for k in range(2)]
    self.assertLen(set(map(tuple, keys)), 5)

  def test_the_bar_says_which_network_it_is(self):
    names = []

    def fit(*args, progress, **options):
      names.append(progress)
      return _fit(*args, progress=False, **options)

    _fit = fitting.fit
    with mock.patch.object(fitting, 'fit', fit):
      multistart.fit_best(
          _MODEL, _X, _Y, key=jax.random.key(0), starts=2, trial=2,
          **_OPTIONS | {'progress': True})
    self.assertEqual(
        names, ['network 1 of 2', 'network 2 of 2', 'the best network'])

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, '`starts`.*got 0'):
      multistart.fit_best(_MODEL, _X, _Y, key=jax.random.key(0), starts=0)
    with self.assertRaisesRegex(ValueError, '`trial`.*got 0'):
      multistart.fit_best(_MODEL, _X, _Y, key=jax.random.key(0), trial=0)
    with self.assertRaisesRegex(ValueError, '`refine`'):
      multistart.fit_best(
          _MODEL, _X, _Y, key=jax.random.key(0), refine=(3,), **_OPTIONS)
