"""ONNX graphs: a runtime that knows nothing of JAX gives the same outputs.

Of _onnx_layers.py and _onnx_functions.py.
"""

from absl.testing import parameterized
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kan_jax import export
from kan_jax.layers import _named
from kan_jax.layers import convolution
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import nnx

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
reference = pytest.importorskip('onnx.reference')

_RNG = np.random.default_rng(0)


def _run(graph, x):
  onnx.checker.check_model(graph, full_check=True)
  session = onnxruntime.InferenceSession(
      graph.SerializeToString(), providers=['CPUExecutionProvider'])
  y, = session.run(None, {'x': x})
  return y


def _assert_close(y, expected):
  expected = np.asarray(expected, np.float64)
  np.testing.assert_array_equal(np.isfinite(y), np.isfinite(expected))
  finite = expected[np.isfinite(expected)]
  # A few roundings of float32.
  np.testing.assert_allclose(
      y[np.isfinite(expected)], finite, rtol=0, atol=1e-5 * np.ptp(finite))


def _symbolic():
  """Logarithms are NaN on some rows, and leave the second output alone."""
  variables = networks.layer(2, 3)
  variables['params']['affine'] = jnp.asarray(
      _RNG.normal(size=(4, 4)), jnp.float32)
  return linen.KANLayer(3, symbolic=(
      ('sin', ((0, 0), (1, 2))), ('log', ((1, 0), (0, 2))))), variables


_MODELS = {
    'layer': lambda: (
        linen.KANLayer(3, grid=1, order=0, bias=False, base_fn=nn.relu), {
            kind: {name: a for name, a in arrays.items() if name != 'node_bias'}
            for kind, arrays in networks.layer(
                2, 3, grid=1, order=0).items()}),
    'products': lambda: (
        linen.KAN([2, [1, 2], [0, 1], 1], arity=[[], [2, 3], [1], []]),
        networks.stack(networks.layer(2, 6), networks.layer(3, 1),
                       networks.layer(1, 1))),
    'symbolic': _symbolic,
    'many_intervals': lambda: (
        linen.KAN([2, 1], grid=150), networks.kan([2, 1], grid=150)),
} | {outside: lambda outside=outside: (
    linen.KAN([2, 1], outside=outside, order=2), networks.kan([2, 1], order=2))
     for outside in ('clamp', 'linear', 'polynomial')}


class OnnxTest(parameterized.TestCase):

  @parameterized.parameters(*_MODELS)
  def test_same_outputs(self, name):
    model, variables = _MODELS[name]()
    graph = export.to_onnx(model, variables)
    # Beyond the grid, at its ends and at a knot between.
    x = _RNG.uniform(-2, 2, (300, 2)).astype(np.float32)
    x[::7] = [[-1, 1]]
    x[1::7] = [[1, 0.2]]
    y, expected = _run(graph, x), jax.jit(model.apply)(variables, x)
    _assert_close(y, expected)
    # In plain NumPy, by the evaluator that comes with onnx.
    with np.errstate(invalid='ignore'):
      y, = reference.ReferenceEvaluator(graph).run(None, {'x': x})
    _assert_close(y, expected)
    # Any number of rows; a product of matrices may add in another order.
    np.testing.assert_allclose(
        _run(graph, x[:1]), y[:1], rtol=1e-5, atol=1e-5)

  @parameterized.parameters(
      ((5, 4), (2, 3), {'strides': (2, 1)}), ((6,), 3, {'padding': 'CIRCULAR'}),
      ((5, 4), 2, {'padding': ((1, 0), (0, 2)), 'kernel_dilation': (1, 2)}),
      ((3, 2, 3), (2, 2, 2), {'padding': 'VALID', 'feature_group_count': 2}))
  def test_convolutions(self, space, kernel, options):
    model = convolution.KANConv(
        4, (kernel,) * len(space) if isinstance(kernel, int) else kernel,
        grid=2, order=1, noise=3.0, **options)
    variables = jax.jit(model.init)(
        jax.random.key(0), jnp.zeros((1, *space, 2)))
    x = _RNG.uniform(-2, 2, (7, *space, 2)).astype(np.float32)
    graph = export.to_onnx(model, variables, shape=x.shape[1:])
    expected = jax.jit(model.apply)(variables, x)
    _assert_close(_run(graph, x), expected)
    _assert_close(_run(graph, x[:1]), expected[:1])

  def test_names_and_shapes(self):
    graph = export.to_onnx(linen.KAN([2, 3, 1]), networks.kan([2, 3, 1])).graph
    shapes = [
        (value.name, [size.dim_param or size.dim_value
                      for size in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)]
    self.assertEqual(shapes, [('x', ['batch', 2]), ('y', ['batch', 1])])

  def test_every_function(self):
    """Each on an edge of its own; base functions go the same way."""
    others = [functions.Function(f'base {name}', fn, lambda z: z)
              for name, fn in _named.FUNCTIONS.items()]
    every = [*functions.LIBRARY, *others]
    variables = networks.layer(1, len(every), grid=1, order=0, scale=0)
    variables['params'] |= {
        'affine': jnp.tile(jnp.array([1.0, 0, 1, 0]), (len(every), 1)),
        'scale_base': jnp.zeros((1, len(every)))}
    model = linen.KANLayer(len(every), grid=1, order=0, symbolic=tuple(
        (function, ((0, k),)) for k, function in enumerate(every)))
    x = np.linspace(-2, 2, 41, dtype=np.float32)[:, None]
    y = _run(export.to_onnx(model, variables), x)
    expected = np.asarray(jax.jit(model.apply)(variables, x))
    for k, function in enumerate(every):
      finite = np.isfinite(expected[:, k])
      np.testing.assert_array_equal(np.isfinite(y[:, k]), finite)
      # Near poles, values are large and have no more digits.
      np.testing.assert_allclose(
          y[finite, k], expected[finite, k], rtol=1e-5, atol=1e-6,
          err_msg=function.name)

  def test_float64(self):
    with jax.enable_x64(True):
      model = linen.KANLayer(3, param_dtype=jnp.float64)
      variables = networks.layer(2, 3, dtype=jnp.float64)
      x = _RNG.uniform(-2, 2, (50, 2))
      expected = jax.jit(model.apply)(variables, x)
      y = _run(export.to_onnx(model, variables, dtype=jnp.float64), x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)

  def test_nnx_and_bfloat16(self):
    model, variables = linen.KANLayer(3), networks.layer(2, 3)
    made = nnx.from_linen(model.clone(dtype=jnp.bfloat16), variables)
    x = _RNG.uniform(-2, 2, (50, 2)).astype(np.float32)
    expected = jax.jit(model.apply)(variables, x)
    _assert_close(_run(export.to_onnx(made), x), expected)

  def test_what_cannot_be_exported(self):
    variables = networks.kan([2, 1])
    odd = functions.Function('odd', lambda x: jax.lax.fori_loop(
        0, 3, lambda _, x: x + 1, x), lambda z: z)
    with self.assertRaisesRegex(
        ValueError, "^`model` .*: the base function .*'lgamma'[^\n]*$"):
      export.to_onnx(linen.KAN([2, 1], base_fn=jax.lax.lgamma), variables)
    variables['params']['layers_0']['affine'] = jnp.ones((1, 4))
    with self.assertRaisesRegex(ValueError, "'odd' uses the primitive 'scan'"):
      export.to_onnx(
          linen.KAN([2, 1], symbolic=(((odd, ((0, 0),)),),)), variables)
    with self.assertRaisesRegex(ValueError, '`dtype` .* got bfloat16'):
      export.to_onnx(linen.KAN([2, 1]), variables, dtype=jnp.bfloat16)
    layer = convolution.KANConv(2, (2, 2))
    for shape in (None, (5, 2), (5, 5, 3)):
      with self.assertRaisesRegex(ValueError, '`shape` .* 2 axes .* 2 channel'):
        export.to_onnx(layer, networks.random(layer), shape=shape)
    with self.assertRaisesRegex(ValueError, '`shape` .* KAN takes none'):
      export.to_onnx(linen.KAN([2, 1]), variables, shape=(2,))
    with self.assertRaisesRegex(ValueError, '`model` .* got Dense'):
      export.to_onnx(nn.Dense(1), variables)
