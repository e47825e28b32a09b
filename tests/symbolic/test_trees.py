"""The structure of a law as a tree."""

from absl.testing import parameterized
import numpy as np

from kan_jax import symbolic

_X = np.random.default_rng(0).uniform(1, 3, (600, 5))
_A, _B, _C, _D, _E = _X.T
_NOISE = np.random.default_rng(1).normal(size=600)


def _find(y, noise=0.0, names='abcde'):
  return symbolic.find_tree(_X, y + noise * y.std() * _NOISE, names=list(names))


def _shape(part):
  """Labels and kinds, whatever the order of sums and products."""
  return part.kind, part.label if part.kind == 'column' else frozenset(
      map(_shape, part.parts))


class FindTreeTest(parameterized.TestCase):

  @parameterized.parameters(0.0, 0.01)
  def test_a_sum(self, noise):
    """Of a product and a difference; a column does not matter."""
    tree = _find(_A * _B + np.exp(_C - _D), noise)
    self.assertEqual((tree.kind, tree.unused), ('sum', ('e',)))
    self.assertEqual({part.label for part in tree.parts}, {'a*b', 'c - d'})
    self.assertEqual({part.kind for part in tree.parts}, {'product', 'sum'})
    self.assertRegex(
        repr(tree), r'^f\(.*\) \+ f\(.*\); without e; error .* before$')

  def test_a_product(self):
    tree = _find(np.exp(-_A / _B) * _C * np.sin(_D))
    self.assertEqual((tree.kind, tree.unused), ('product', ('e',)))
    self.assertEqual({part.label for part in tree.parts}, {'a/b', 'c', 'd'})

  def test_sums_within_sums_are_one(self):
    tree = _find(np.sin(_A + _B - _C))
    (part,) = tree.parts
    self.assertEqual(_shape(part), ('sum', frozenset(
        ('column', name) for name in 'abc')))
    self.assertEqual((tree.kind, tree.unused), ('function', ('d', 'e')))
    self.assertLess(tree.error, tree.whole)

  def test_a_square_of_a_difference_is_a_part(self):
    tree = _find(_E / ((_A - _B)**2 + _C**2))
    difference = 'sum', frozenset((('column', 'a'), ('column', 'b')))
    squares = 'sum', frozenset((difference, ('column', 'c')))
    self.assertIn(squares, {
        _shape(part) for top in tree.parts for part in (top, *top.parts)})
    self.assertEqual(tree.unused, ('d',))

  def test_functions_that_no_name_is_for(self):
    """y = F(f(a, b), f(c, d)), and neither f is a sum or a product."""
    tree = _find(np.sqrt(np.exp(-_A) * _B**2 + _C * np.sin(_D) + 1))
    self.assertEqual({_shape(part) for part in tree.parts}, {
        ('function', frozenset((('column', 'a'), ('column', 'b')))),
        ('function', frozenset((('column', 'c'), ('column', 'd'))))})

  def test_constant(self):
    with self.assertRaisesRegex(ValueError, 'no constant column'):
      symbolic.find_tree(np.ones((60, 2)), np.arange(60.0))
