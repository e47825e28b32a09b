"""What a fit says about the structure of a law."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax import symbolic
from kan_jax.symbolic import symmetries

_X = np.random.default_rng(0).uniform(1, 2, (600, 4))
_A, _B, _C, _D = _X.T
_NAMES = ['a', 'b', 'c', 'd']
_NOISE = 0.01 * np.random.default_rng(1).normal(size=600)


class SeparabilityTest(parameterized.TestCase):

  @parameterized.parameters(
      (_A * _B + np.exp(_C) + _D**2, False, (('a', 'b'), ('c',), ('d',))),
      (_A * _B + np.exp(_C) + _D**2 + _NOISE, False,
       (('a', 'b'), ('c',), ('d',))),
      ((_A + _B) * np.sin(_C) / _D, True, (('a', 'b'), ('c',), ('d',))),
      ((_A + _D) * (_B + _C), True, (('a', 'd'), ('b', 'c'))),
      ((_A + _D) * (_B + _C), False, (('a', 'b', 'c', 'd'),)))
  def test_groups(self, y, product, groups):
    found = symbolic.separability(_X, y, names=_NAMES, product=product)
    self.assertEqual(
        {frozenset(group) for group in found.groups},
        {frozenset(group) for group in groups})
    np.testing.assert_array_equal(found.mixed, found.mixed.T)

  def test_signs(self):
    with self.assertRaisesRegex(ValueError, '`y` needs one sign'):
      symbolic.separability(_X, _A - _B, product=True)


class SymmetriesTest(parameterized.TestCase):

  @parameterized.parameters(
      (np.exp(_A - _B) * _C + _D, 'a - b'),
      (np.sin(_A * _C) + _B * _D**2, 'a*c'),
      (np.sqrt(_A**2 + _D**2) + _B / _C, 'a**2 + d**2'))
  def test_pairs(self, y, expected):
    found = symmetries.find_symmetries(_X, y + _NOISE / 10, names=_NAMES)
    held = [s.expression for s in found if s.holds]
    self.assertIn((sympy.sympify(expected),), held)
    for one in found:
      self.assertBetween(one.left, 0, 0.3)

  def test_scaling(self):
    y = _A**2 * np.exp(-_B * _C / _D)
    found = [s for s in symmetries.find_symmetries(_X, y, names=_NAMES)
             if s.holds and s.factor == sympy.Symbol('a')**2]
    self.assertTrue(any(len(s.expression) == 1 for s in found))

  def test_nothing_to_find(self):
    y = np.exp(_A * np.sin(3 * _B)) + _A**2 * np.cos(_B**2 * 2)
    found = symmetries.find_symmetries(_X[:, :2], y)
    self.assertFalse([s for s in found if s.holds])

  def test_constant(self):
    with self.assertRaisesRegex(ValueError, 'no constant column'):
      symmetries.find_symmetries(np.ones((60, 2)), np.arange(60.0))
