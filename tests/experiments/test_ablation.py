"""The parts of the recipe, one of them at a time."""

import jax
import pytest

from experiments.accuracy import ablation


@pytest.mark.parametrize(('solver', 'blend'), [('lm', 1.0), ('lm_plain', 0.5)])
def test_a_combination_at_the_floor(solver, blend):
  with jax.enable_x64(True):
    found = ablation.run(
        'float64', solver, blend, 0, grids=(5,), tries=3, progress=False)
  # The floor at G = 5 is 6.6e-3, a constant is off by 1.9.
  assert found[:3] == ('float64', solver, blend)
  assert found.rmse < 0.1


def test_table():
  runs = [ablation.Run('float32', 'adam', 0.5, rmse, 2.0)
          for rmse in (1.7e-3, 5.1e-3)]
  # The floor at G = 20 is 1.7e-5.
  assert ablation.table(runs).splitlines()[2] == (
      '| float32 | adam | 0.5 | 2 | 3.4e-03 | 5.1e-03 | 200 | 2.0 |')
