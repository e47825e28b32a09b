"""Multiplication nodes: layout, products, and KANs that have them."""

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import nodes
from kan_jax.symbolic import formulas


class LayoutTest(parameterized.TestCase):

  def test_counts(self):
    inputs, middle, last = nodes.from_features([2, [5, 2], 1], [[], [2, 3], []])
    self.assertEqual((inputs.size, inputs.terms, last.size), (2, 2, 1))
    self.assertEqual((middle.size, middle.terms), (7, 10))
    self.assertEqual(
        middle.groups, [[0], [1], [2], [3], [4], [5, 6], [7, 8, 9]])

  def test_one_arity_for_all(self):
    self.assertEqual(
        nodes.from_features([1, (0, 2)], 3)[1], nodes.Nodes(0, (3, 3)))
    self.assertEqual(
        nodes.from_features([1, (0, 2)])[1], nodes.Nodes(0, (2, 2)))

  @parameterized.parameters(
      ([2],), ([2, 0, 1],), ([[1, 1], 2],), ([2, True],), ([2, [1, 2, 3]],),
      ('ab',), ([2, -1],), ([2, 1.5],), (3,))
  def test_impossible_features(self, features):
    with self.assertRaisesRegex(ValueError, '`features`'):
      linen.KAN(features)

  @parameterized.parameters(
      (0,), (1.5,), ('x',), ([[], [2], []],), ([2, 2, 2],), ([[], [2, 2]],),
      ([[], [2, 0], []],))
  def test_impossible_arity(self, arity):
    with self.assertRaisesRegex(ValueError, '`arity`'):
      linen.KAN([2, [5, 2], 1], arity=arity)

  def test_lists_become_tuples(self):
    features = [np.int64(2), [5, 2], 1]
    model = linen.KAN(features, arity=[[], [2, 3], []])
    self.assertEqual(model.features, (2, (5, 2), 1))
    self.assertEqual(model.arity, ((), (2, 3), ()))
    self.assertEqual(features, [2, [5, 2], 1])
    hash(model)  # It is a static argument of jitted functions.


class CombineTest(chex.TestCase):

  @chex.variants(with_jit=True, without_jit=True)
  def test_products(self):
    terms = np.arange(1.0, 13).reshape(2, 6)
    found = self.variant(
        lambda t: nodes.combine(t, nodes.Nodes(1, (2, 3))))(terms)
    np.testing.assert_array_equal(found, [[1, 6, 120], [7, 72, 1320]])

  def test_gradients_at_zero_factors(self):
    def product(t):
      return nodes.combine(t, nodes.Nodes(0, (3,)))[0]

    np.testing.assert_array_equal(
        jax.jit(jax.grad(product))(jnp.array([0., 2, 3])), [6, 0, 0])
    np.testing.assert_array_equal(
        jax.jit(jax.hessian(product))(jnp.zeros(3)), np.zeros((3, 3)))


class KANTest(chex.TestCase):

  def test_a_layer_and_its_products(self):
    """What KAN computes, by hand from its layers."""
    model = linen.KAN([3, [3, 1], 1], arity=3)
    first, last = networks.layer(3, 6), networks.layer(4, 1, seed=1)
    variables = networks.stack(first, last)
    x = jnp.linspace(-1, 1, 12).reshape(4, 3)
    terms = linen.KANLayer(6).apply(first, x)
    middle = jnp.concatenate(
        [terms[:, :3], terms[:, 3:4] * terms[:, 4:5] * terms[:, 5:]], 1)
    np.testing.assert_allclose(
        model.apply(variables, x),
        linen.KANLayer(1).apply(last, middle), atol=1e-6)

  def test_y11_two_products_of_three(self):
    """x1 x2 x3 + x4 x5 x6 at 1 to 6 is 126, the model and its formula."""
    model = linen.KAN([6, [0, 2], 1], arity=3)
    variables = networks.stack(networks.layer(6, 6), networks.layer(2, 1))
    identity = [1, 0, 1, 0]
    model, variables = edits.assign(
        model, variables, ('layers_0',),
        {(k, k): ('x', identity) for k in range(6)} | {
            (i, o): None for i in range(6) for o in range(6) if i != o})
    model, variables = edits.assign(
        model, variables, ('layers_1',),
        {(k, 0): ('x', identity) for k in range(2)})
    x = jnp.arange(1.0, 7)
    np.testing.assert_allclose(model.apply(variables, x), [126], rtol=1e-6)
    [found] = formulas.formula(model, variables)
    names = sympy.symbols('x_0:6')
    self.assertEqual(
        sympy.nsimplify(found - names[0] * names[1] * names[2]
                        - names[3] * names[4] * names[5]), 0)
