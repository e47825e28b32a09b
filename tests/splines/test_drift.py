"""Nothing drifts: updates on the same samples, rows in other company."""

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import linen
from kan_jax.layers import traversal
from kan_jax.splines import grids
from kan_jax.training import train_steps

_X = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
_NET = linen.KAN([2, 5, 1])
_VARIABLES = networks.kan([2, 5, 1])
_apply = jax.jit(_NET.apply)


class DriftTest(parameterized.TestCase):

  @parameterized.parameters({}, {'eps': 0.0, 'rate': 0.1})
  def test_a_thousand_updates_on_the_same_samples(self, **options):
    """After the first ones, which fit, the output stays where it is."""
    @jax.jit
    def update(variables, times):
      return jax.lax.fori_loop(
          0, times, lambda _, v: traversal.update_grids(
              _NET, v, _X, grid_update=grids.GridUpdate(**options)), variables)

    # With a rate of 0.1 the knots take some updates to arrive.
    first = update(_VARIABLES, 1 if not options else 200)
    before = _apply(first, _X)
    last = update(first, 1000)
    after = _apply(last, _X)
    chex.assert_tree_all_finite(last)
    self.assertLess(np.abs(after - before).max(), 1e-3 * np.ptp(before))

  def test_rows_do_not_see_their_batch(self):
    """In float32 to a few roundings, whoever is beside them."""
    alone = _apply(_VARIABLES, _X[:7])
    others = np.concatenate([_X[:7], np.full((93, 2), 1e6, np.float32)])
    np.testing.assert_allclose(
        _apply(_VARIABLES, others)[:7], alone, atol=1e-6)
    order = np.random.default_rng(1).permutation(100)
    np.testing.assert_allclose(
        _apply(_VARIABLES, _X[order]), _apply(_VARIABLES, _X)[order], atol=1e-6)

  def test_float64_throughout(self):
    with jax.enable_x64(True):
      model = linen.KAN([2, 3, 1], param_dtype=jnp.float64)
      variables = networks.kan([2, 3, 1], dtype=jnp.float64)
      x = jnp.asarray(_X, jnp.float64)

      @jax.jit
      def run(variables, x):
        new = traversal.update_grids(model, variables, x)
        objective = train_steps.make_objective(
            model, lambda outputs, y: (outputs[:, 0] - y)**2)
        grads = jax.grad(lambda p: objective(p, new['grid'], x, x[:, 0])[0])(
            new['params'])
        return new, grads, model.apply(new, x)

      found = run(variables, x)
    for leaf in jax.tree.leaves(found):
      self.assertEqual(leaf.dtype, jnp.float64)
    # And not float32 in disguise.
    y = np.asarray(found[-1])
    self.assertTrue((y != y.astype(np.float32)).all())
