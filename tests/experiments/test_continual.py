"""Peaks learned one after another."""

import jax
import numpy as np

from experiments.accuracy import continual


def test_old_peaks_stay():
  with jax.enable_x64(True):
    phases = continual.learn(0, rows=400, grid=100, progress=False)
  assert [phase.number for phase in phases] == [1, 2, 3, 4, 5]
  for phase in phases:
    # Cubics on intervals of 0.02, where the fourth derivative is up to 1e6:
    # 1e6 * 0.02**4 / 384 = 4e-4 at a peak, and peaks are narrow.
    assert phase.rmse < 2e-4
    assert phase.moved < 4e-4  # No more than that error.
    # Not all of the last peaks' samples are seen yet; 400 are few.
    assert 0.9 * phase.best < phase.rmse < 1.3 * phase.best
  assert phases[0].moved == 0  # There is nothing old yet.


def test_peaks():
  np.testing.assert_allclose(
      continual.peaks(np.array([-0.8, 0.05])), [1, np.exp(-0.75)], rtol=1e-12)


def test_table():
  phase = continual.Phase(3, 1, 3e-6, 2e-6, 0, 1.5)
  assert continual.table([phase]).splitlines()[2] == (
      '| 3 | 1 | 3.00e-06 | 2.00e-06 | 1.50 | 0.0e+00 | 1.5 |')
