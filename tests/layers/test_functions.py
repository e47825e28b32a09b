"""The library of functions: values, twins in sympy, and names."""

import subprocess
import sys

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import functions

_ONLY_POSITIVE = {'sqrt', '1/sqrt', 'x^1.5', 'log'}
_ONLY_BELOW_ONE = {'arcsin', 'arccos', 'arctanh'}
_POLES = {'1/x', '1/x^2', '1/x^3', '1/x^4', '1/x^5', '1/sqrt', 'log'}


class LibraryTest(chex.TestCase):

  @parameterized.parameters(f.name for f in functions.LIBRARY)
  def test_sympy_twin(self, name):
    function = functions.find(name)
    symbol = sympy.Symbol('x')
    twin = sympy.lambdify(symbol, function.to_sympy(symbol), 'numpy')
    points = np.array([0.1, 0.35, 0.5, 0.9])
    if name not in _ONLY_POSITIVE:
      points = np.concatenate([points, -points])
    with jax.enable_x64(True):
      value = function.fn(jnp.asarray(points))
    np.testing.assert_allclose(
        value, np.broadcast_to(twin(points), points.shape), rtol=1e-14)

  @parameterized.parameters(f.name for f in functions.LIBRARY)
  def test_never_finite_outside_its_domain(self, name):
    at = functions.find(name).fn(jnp.array([-3.0, -0.5, 0.0, 0.5, 3.0]))
    finite = np.ones(5, bool)
    finite[:2] = name not in _ONLY_POSITIVE
    finite[2] = name not in _POLES
    if name in _ONLY_BELOW_ONE:
      finite[[0, 4]] = False
    np.testing.assert_array_equal(np.isfinite(at), finite)

  def test_a_model_stores_names(self):
    for function in functions.LIBRARY:
      self.assertEqual(functions.shorten(function), function.name)
    own = functions.Function('sin', jnp.sinh, sympy.sinh)
    self.assertIs(functions.shorten(own), own)
    self.assertIs(functions.find(own), own)
    self.assertIs(functions.find('sin', (*functions.LIBRARY, own)), own)

  def test_sympy_is_an_extra(self):
    """All but formulas works without it."""
    program = (
        "import sys; sys.modules['sympy'] = None\n"
        'from kan_jax import KAN, symbolic\n'
        "KAN([2, 1], symbolic=((('sin', ((0, 0),)),),))\n"
        'symbolic.suggest, symbolic.fix, symbolic.auto_symbolic\n'
        'try: symbolic.formula\n'
        "except ImportError: print('no sympy')\n")
    ran = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True,
        check=False)
    self.assertEqual(ran.stdout, 'no sympy\n', ran.stderr)

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, "`name`.*sin, cos.*got 'sine'"):
      functions.find('sine')
    with self.assertRaisesRegex(ValueError, "`name`.*got ''"):
      functions.Function('', jnp.sin, sympy.sin)
    with self.assertRaisesRegex(ValueError, '`complexity` of f.*got -1'):
      functions.Function('f', jnp.sin, sympy.sin, -1)
