"""Values and derivatives of expressions without a compiler."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import _evaluate

_A, _B = sympy.symbols('a b')
_C, _D = sympy.Float(0.7), sympy.Float(1.3)
_X = np.random.default_rng(0).uniform(0.2, 0.9, (20, 2))
_COLUMNS = {_A: _X[:, 0], _B: _X[:, 1]}


class DualTest(parameterized.TestCase):

  @parameterized.parameters(
      _C * _A**_D + sympy.pi / 3, _A**2 / (_D + _B), sympy.exp(-_C * _A / _B),
      sympy.sqrt(_A + _C) * sympy.log(_D * _B), (_C + _A)**(_B * _D),
      *(_D * f(_C * _A) for f in (
          sympy.sin, sympy.cos, sympy.tan, sympy.asin, sympy.acos, sympy.atan,
          sympy.sinh, sympy.cosh, sympy.tanh, sympy.atanh, sympy.asinh)),
      sympy.Abs(_A - _D) * _C, sympy.acosh(1 + _C * _A) + _D)
  def test_against_sympy(self, expr):
    numbers = {_C: (0, 0.8), _D: (1, 1.1)}
    value, slopes = _evaluate.dual(expr, _COLUMNS, numbers)
    c, d = sympy.symbols('c d', positive=True)
    swapped = expr.xreplace({_C: c, _D: d})

    def check(found, exact):
      wanted = sympy.lambdify([_A, _B, c, d], exact)(*_X.T, 0.8, 1.1)
      np.testing.assert_allclose(found, wanted, rtol=1e-9)

    check(value, swapped)
    for place, symbol in enumerate((c, d)):
      if swapped.has(sympy.Abs) and symbol == d:
        continue  # sympy writes the slope of a real size with signs.
      check(slopes.get(place, np.zeros(20)), sympy.diff(swapped, symbol))

  def test_an_unknown_function(self):
    with self.assertRaisesRegex(_evaluate.UnknownFunctionError, 'gamma'):
      _evaluate.dual(sympy.gamma(_A), _COLUMNS, {})
