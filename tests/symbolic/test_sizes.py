"""Operations of formulas, counted without sympy's time."""

from absl.testing import parameterized
import sympy

from kan_jax.symbolic import _sizes

_A, _B, _C = sympy.symbols('a b c')


class SizesTest(parameterized.TestCase):

  @parameterized.parameters(
      (_A, 0), (_A + _B - 2, 2), (_A * _B / _C, 2), (1 / _A, 1),
      (sympy.sqrt(_A), 1), (_A / sympy.sqrt(_B), 2), (2 * _A / (_B + 1), 3),
      (_A / (_B * _C), 2), (sympy.exp(-_A**2 / 2), 3),
      (_A / (2 * sympy.sqrt(sympy.pi)), 1), (sympy.sqrt(2) * sympy.pi, 0))
  def test_counts(self, expr, expected):
    self.assertEqual(_sizes.operations(expr), expected)

  def test_what_is_not_evaluated(self):
    """Factors 1 and summands 0 do not count, and are gone in the end."""
    with sympy.evaluate(False):
      idle = 0 + 1 * _A * _B**1
    self.assertEqual(_sizes.operations(idle), 1)
    self.assertEqual(str(_sizes.canonical(idle)), 'a*b')

  def test_skeletons(self):
    """Two digits of a number tell formulas apart; the order does not."""
    first, second, third = (
        _sizes.skeleton(_B + sympy.Float(v) * _A) for v in (1.501, 1.502, 1.7))
    self.assertEqual(first, second)
    self.assertNotEqual(first, third)
