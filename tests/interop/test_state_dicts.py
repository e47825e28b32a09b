"""Arrays of a state dict, taken one by one."""

import numpy as np
import pytest

from kan_jax.interop import _state_dicts

_STATE = {'fun.0.coef': np.zeros((2, 3), np.float32),
          'fun.1.coef': np.ones((1, 2), np.float32)}


def _read(state=None):
  return _state_dicts.Arrays(
      _STATE if state is None else state, r'fun\.(\d+)\.', 'fun.0.coef')


def test_arrays_are_taken_once_in_float64():
  arrays = _read()
  assert arrays.layers == 2 and arrays.dtype == np.float32
  assert 'fun.0.coef' in arrays and arrays.shape('fun.0.coef') == (2, 3)
  taken = arrays.take('fun.0.coef', 2, 'outputs')
  assert taken.dtype == np.float64 and taken.shape == (2, 3)
  with pytest.raises(ValueError, match=r"'fun.0.coef'.*no such name"):
    arrays.take('fun.0.coef', 2, 3)


def test_what_nobody_took_is_named():
  arrays = _read()
  arrays.take('fun.0.coef', 2, 3)
  with pytest.raises(ValueError, match=r'fun\.1\.coef'):
    arrays.check_all_taken()


@pytest.mark.parametrize(('state', 'message'), [
    ([1], 'maps names to arrays'),
    ({'other': np.zeros(1)}, r"names like 'fun\.0\.coef'"),
    ({'fun.0.coef': np.array(['a'])}, 'floating arrays'),
    ({'fun.0.coef': np.array([np.nan])}, 'finite numbers'),
    ({'fun.999999999999.coef': np.zeros(1)}, 'from 0 to 0; got a layer 9999')])
def test_errors(state, message):
  with pytest.raises(ValueError, match=message):
    _read(state)
