"""The ladder of grids, on functions whose error is known."""

import jax
import numpy as np

from experiments.accuracy import scaling


def test_errors_stay_near_the_floor():
  with jax.enable_x64(True):
    points = list(scaling.climb('bessel', 0, (5, 10), progress=False))
  assert [p.grid for p in points] == [5, 10]
  # Coefficients, base and spline scale, bias.
  assert [p.parameters for p in points] == [5 + 3 + 3, 10 + 3 + 3]
  for point, floor in zip(points, (2.8e-1, 1.9e-1), strict=True):
    assert 0.5 * floor < point.rmse < 1.5 * floor


def test_functions_at_a_point():
  """By hand: sin(pi / 2) = 1, sin(pi / 4)**2 = 1 / 2."""
  half = np.full((1, 4), 0.5)
  np.testing.assert_allclose(scaling.FUNCTIONS['deep'].fn(half), np.e)
  np.testing.assert_allclose(
      scaling.FUNCTIONS['mean'].fn(np.full((1, 100), 0.5)), np.exp(0.5))
  np.testing.assert_allclose(
      scaling.FUNCTIONS['exp'].fn(half[:, :2]), np.exp(1.25))


def _points():
  return [scaling.Point('exp', seed, grid, 10 * grid, rmse, 1.0)
          for seed, grid, rmse in (
              (0, 5, 1e-2), (0, 10, 1e-3), (1, 5, 2e-2), (1, 10, 5e-4))]


def test_table():
  lines = scaling.table(_points()).splitlines()
  assert lines[2] == ('| `exp` | 5 | 50 | 2 | 1.5e-02 | 2.0e-02 | 6.6e-03 '
                      '| 2.27 | 1 | 3.3e-08 |')
  assert len(lines) == 4


def test_times():
  line = scaling.times(_points()).splitlines()[2]
  assert line == '| `exp` | 2 | 10 | 1 | 1 | 1 |'


def test_picture(tmp_path):
  scaling.draw(_points(), tmp_path / 'scaling.png')
  assert (tmp_path / 'scaling.png').read_bytes().startswith(b'\x89PNG')
