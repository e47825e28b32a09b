"""Bases beside each other on known functions."""

import jax
import numpy as np
import pytest

from experiments.accuracy import bases


@pytest.mark.parametrize('basis', ['bspline', 'chebyshev', 'radial'])
def test_a_few_steps(basis):
  with jax.enable_x64(True):
    result = bases.measure('smooth', 5, basis, 1, steps=40, progress=False)
  assert result[:3] == ('smooth', 5, basis)
  assert result.least == result.median == result.largest
  # The function's own deviation is 1.2; no fit of 40 steps is exact.
  assert 1e-6 < result.median < 0.2


def test_functions():
  values = [fn(np.array(0.5), np.array(0.5)) for fn in bases.FUNCTIONS.values()]
  np.testing.assert_allclose(values, [np.exp(1.25), 0.2])


def test_table():
  result = bases.Result('steep', 5, 'radial', 2e-3, 1e-3, 4e-3, 3)
  assert bases.table([result]).splitlines()[2] == (
      '| steep | 5 | radial | 2.0e-03 | 1.0e-03 to 4.0e-03 | 3 |')
