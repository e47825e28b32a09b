"""Cases A and Q of public reports on other KAN libraries: interface, memory.

The letter and number in a test's name are those of the case.
"""

from absl.testing import parameterized
import chex
from helpers import networks
from helpers import pages
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.splines import grids

_RNG = np.random.default_rng(0)


class ApiCasesTest(parameterized.TestCase):

  def test_a01_wrong_number_of_columns(self):
    model, variables = linen.KAN([1, 2]), networks.kan([1, 2])
    for f in (model.apply, lambda *a: traversal.update_grids(model, *a)):
      with self.assertRaisesRegex(ValueError, r'`x`.*\[\.\.\., 1\].*\(3, 2\)'):
        f(variables, jnp.zeros((3, 2)))
    with self.assertRaisesRegex(ValueError, r'`x`.*\[\.\.\., 1\].*\(3, 2\)'):
      model.init(jax.random.key(0), jnp.zeros((3, 2)))

  def test_a02_leading_axes(self):
    apply = jax.jit(linen.KAN([2, 5, 1]).apply)
    variables = networks.kan([2, 5, 1])
    x = jnp.asarray(_RNG.uniform(-1, 1, (4, 7, 2)), jnp.float32)
    y = apply(variables, x)
    chex.assert_shape(y, (4, 7, 1))
    np.testing.assert_allclose(
        y.reshape(28, 1), apply(variables, x.reshape(28, 2)), atol=1e-6)

  def test_a03_widths_stay_as_they_are(self):
    widths = [2, 5, 1]
    model = linen.KAN(widths)
    self.assertEqual(widths, [2, 5, 1])
    for same in ((2, 5, 1), np.array(widths), [np.int32(2), 5, np.int64(1)]):
      self.assertEqual(linen.KAN(same), model)
      shape = jax.eval_shape(
          linen.KAN(same).apply, networks.kan([2, 5, 1]), jnp.zeros((3, 2)))
      self.assertEqual(shape.shape, (3, 1))
    widths[0] = 9
    self.assertEqual(model.features, (2, 5, 1))

  @parameterized.parameters(
      (1.0, [0, 0.25, 0.5, 0.75, 1]), (0.0, [0, 0.0625, 0.25, 0.5625, 1]))
  def test_a04_blend_direction(self, eps, expected):
    u = np.linspace(0, 1, 1001)
    knots = grids.knots_from_samples(
        jnp.asarray(u**2, jnp.float32)[:, None], 4, 3,
        grid_update=grids.GridUpdate(eps=eps))
    # The margin of the grid beyond the samples.
    np.testing.assert_allclose(knots[0, 3:-3], expected, atol=0.02)

  def test_a05_quick_start(self):
    """The README's example of a Flax model runs as it is printed.

    test_docs.py, a part of the gate, runs all of its examples.
    """
    names = pages.run('README.md', slice(1, 2))
    chex.assert_tree_all_finite(names['variables'])
    y = names['model'].apply(names['variables'], names['x'])
    chex.assert_shape(y, (100, 1))


class MemoryCasesTest(parameterized.TestCase):

  def test_q03_no_array_of_batch_times_in_times_out(self):
    """Neither forward nor backward, and twice the rows take twice as much."""
    model, penalty = linen.KAN([784, 64, 10]), regularization.Penalty()

    def loss(variables, x):
      y, sown = model.apply(variables, x, mutable=['edges'])
      return (y**2).mean() + penalty(variables['params'], sown['edges'])

    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones(784))

    def peak(rows):
      """Bytes that the compiled program takes beside inputs and outputs."""
      x = jax.ShapeDtypeStruct((rows, 784), jnp.float32)
      compiled = jax.jit(jax.grad(loss)).lower(variables, x).compile()
      return compiled.memory_analysis().temp_size_in_bytes

    half, whole = peak(2048), peak(4096)
    self.assertLess(whole, 4096 * 784 * 64 * 4)
    self.assertLess(whole, 2.1 * half)
    self.assertGreater(half, 2048 * 784 * 4)  # It did measure something.

  def test_q03_chunks_give_the_same(self):
    model = linen.KAN([784, 64, 10])
    variables = networks.kan([784, 64, 10], scale=0.1)
    x = jnp.asarray(_RNG.uniform(-1, 1, (256, 784)), jnp.float32)
    whole, chunked = jax.jit(lambda v, x: (model.apply(v, x), jax.lax.map(
        lambda row: model.apply(v, row), x, batch_size=64)))(variables, x)
    # Sums of 784 products of size 1.
    np.testing.assert_allclose(chunked, whole, rtol=1e-4, atol=1e-4)
