"""What the settings of an MNIST run make of its optimizer and its loss."""

from absl.testing import absltest
from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import special

from experiments.mnist import compiled
from experiments.mnist import configs


def _step(state, params, tx):
  """A step with zero gradients."""
  updates, state = tx.update(jax.tree.map(jnp.zeros_like, params), state,
                             params)
  return state, optax.apply_updates(params, updates)


class OptimizerTest(parameterized.TestCase):

  def test_weight_decay(self):
    """Without gradients, it alone changes anything."""
    tx = compiled._optimizer(
        configs.Config(weight_decay=0.5, learning_rate=0.25), 8)
    params = {'kan': {name: jnp.ones(2) for name in (
        'coef', 'scale_base', 'scale_spline', 'node_bias')},
              'conv': {'kernel': jnp.ones(3), 'bias': jnp.ones(1)}}
    _, params = _step(tx.init(params), params, tx)
    for name, array in {**params['kan'], **params['conv']}.items():
      decays = name in ('coef', 'scale_base', 'kernel')
      np.testing.assert_array_equal(array, 1 - 0.125 * decays)

  def test_schedule(self):
    """What is taken off grows for a twentieth of the steps, then falls to 0."""
    config = configs.Config(
        schedule='cosine', weight_decay=1.0, learning_rate=0.01)
    tx = compiled._optimizer(config, 100)
    params = {'kernel': jnp.ones(1)}
    state, sizes = tx.init(params), []
    for _ in range(101):
      before = params['kernel']
      state, params = _step(state, params, tx)
      sizes.append(float((1 - params['kernel'] / before)[0]))
    np.testing.assert_allclose(sizes[:6], np.arange(6) * 0.002, atol=1e-6)
    self.assertTrue((np.diff(sizes[5:]) < 1e-7).all())
    # Halfway down, the cosine has half its height.
    np.testing.assert_allclose(sizes[52], 0.005, atol=2e-4)
    np.testing.assert_allclose(sizes[-1], 0, atol=1e-6)


class LossTest(parameterized.TestCase):

  @parameterized.parameters(0.0, 0.2, 1.0)
  def test_label_smoothing(self, smoothing):
    outputs = np.random.default_rng(0).normal(size=(5, 4))
    labels = np.arange(5) % 4
    logs = special.log_softmax(outputs, -1)
    expected = -((1 - smoothing) * logs[np.arange(5), labels]
                 + smoothing * logs.mean(-1))
    np.testing.assert_allclose(
        compiled._cross_entropy(
            smoothing, jnp.asarray(outputs), jnp.asarray(labels)),
        expected, rtol=1e-5)  # float32


if __name__ == '__main__':
  absltest.main()
