"""Special functions: which they are, and a short fit."""

import jax
import numpy as np

from experiments.accuracy import special


def test_values_known_in_closed_form():
  x, y = np.array([0.5]), np.array([0.8])
  value = {name: function.fn(x, y)
           for name, function in special.FUNCTIONS.items()}
  half = np.sqrt(2 / (np.pi * y))  # Bessel functions of order 1/2.
  np.testing.assert_allclose(value['jv'], half * np.sin(y))
  np.testing.assert_allclose(value['yv'], -half * np.cos(y))
  np.testing.assert_allclose(value['iv'], half * np.sinh(y))
  np.testing.assert_allclose(value['kv'], np.pi / 2 * half * np.exp(-y))
  scale = np.sqrt(3 / (4 * np.pi))
  np.testing.assert_allclose(value['sph_harm_01'], scale * np.cos(y))
  np.testing.assert_allclose(
      value['sph_harm_11'], -scale / np.sqrt(2) * np.sin(y) * np.cos(x))
  assert len(value) == 15


def test_a_short_fit():
  with jax.enable_x64(True):
    found = special.run(
        special.FUNCTIONS['sph_harm_01'], 0, 1, (3,), progress=False)
  assert found.rmse < 1e-3  # Of a function between 0.26 and 0.49.


def test_table():
  results = {'jv': [special.Result(1e-4, 2.0), special.Result(3e-4, 4.0)]}
  assert special.table(results).splitlines()[2] == (
      '| `jv` | 2 | 2.0e-04 | 3.0e-04 | 1.64e-03 | 8.2 | 3 |')
