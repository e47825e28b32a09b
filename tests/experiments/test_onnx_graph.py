"""The MNIST networks in a runtime of ONNX."""

from absl.testing import parameterized
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.mnist import configs
from experiments.mnist import models

pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

_MODELS = {
    'conv_kan': ({'model': 'conv_kan', 'hidden': 2, 'grid': 2}, (28, 28)),
    'conv_mlp': ({'model': 'conv_mlp', 'hidden': 3}, (28, 28)),
    'mlp': ({'model': 'mlp', 'hidden': 3, 'layers': 2}, (7,)),
    'pixels': ({'model': 'kan', 'hidden': 2, 'grid': 2, 'order': 1}, (28, 28)),
}


class OnnxGraphTest(parameterized.TestCase):

  @parameterized.parameters(*_MODELS)
  def test_same_logits(self, name):
    from experiments.mnist import onnx_graph
    options, shape = _MODELS[name]
    model = models.build(configs.Config(**options), 4, shape)
    images = np.random.default_rng(0).random((9, *shape)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), images)
    # Biases and splines that are not 0, or as small as they begin.
    params = jax.tree.map(
        lambda a: a + 0.1 * jnp.sin(jnp.arange(a.size)).reshape(a.shape),
        variables['params'])
    variables = {'grid': {}, **variables, 'params': params}
    expected = np.asarray(jax.jit(model.apply)(variables, images))
    session = onnxruntime.InferenceSession(
        onnx_graph.build(model, variables, shape).SerializeToString(),
        providers=['CPUExecutionProvider'])
    self.assertEqual([i.name for i in session.get_inputs()], ['images'])
    for rows in (1, 9):
      y, = session.run(None, {'images': images[:rows]})
      # Roundings of sums over up to 784 inputs.
      np.testing.assert_allclose(
          y, expected[:rows], rtol=0, atol=1e-5 * np.ptp(expected))
