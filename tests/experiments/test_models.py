"""The networks of the MNIST experiment."""

import dataclasses
from unittest import mock

from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import lowering
import jax
import jax.numpy as jnp
import numpy as np

from experiments.mnist import configs
from experiments.mnist import models
import kan_jax

_IMAGES = jax.random.uniform(jax.random.key(0), (5, 28, 28))


class Plain(nn.Module):
  """The front-end in Flax's own words."""

  @nn.compact
  def __call__(self, x):
    x = nn.Conv(8, (5, 5), 2, padding='VALID', name='conv1')(x[..., None])
    x = nn.relu(nn.max_pool(x, (2, 2), (2, 2)))
    x = nn.Conv(16, (5, 5), 2, padding='VALID', name='conv2')(x)
    return x.reshape(len(x), -1)


class FrontEndTest(parameterized.TestCase):

  @parameterized.parameters(True, False)
  def test_equals_flax(self, by_patches):
    """The same parameters, values and gradients, biases included."""
    self.enter_context(mock.patch.object(
        models, '_by_patches', lambda: by_patches))
    plain, front = Plain(), models.FrontEnd()
    params = jax.jit(plain.init)(jax.random.key(1), _IMAGES)
    params = jax.tree.map(
        lambda a: a + 0.1 * jax.random.normal(jax.random.key(2), a.shape),
        params)
    chex.assert_trees_all_equal_shapes_and_dtypes(
        params, jax.eval_shape(front.init, jax.random.key(1), _IMAGES))

    def value_and_grad(model):
      return jax.jit(jax.value_and_grad(
          lambda p: jnp.sin(model.apply(p, _IMAGES)).sum()))(params)

    y = jax.jit(front.apply)(params, _IMAGES)
    chex.assert_shape(y, (5, 16))
    np.testing.assert_allclose(
        y, jax.jit(plain.apply)(params, _IMAGES), atol=1e-5)
    # Sums over 5 images and up to 25 positions.
    chex.assert_trees_all_close(
        value_and_grad(front), value_and_grad(plain), rtol=1e-4, atol=1e-4)

  def test_initial_scale_is_that_of_pytorch(self):
    """Uniform on +-1 / sqrt(fan_in), of a convolution: 25 and 200 values."""
    params = jax.jit(models.FrontEnd().init)(
        jax.random.key(3), _IMAGES)['params']
    for name, fan_in in (('conv1', 25), ('conv2', 200)):
      kernel = np.asarray(params[name]['kernel'])
      self.assertLess(np.abs(kernel).max(), fan_in**-0.5)
      # Of 200 uniform numbers the greatest is within 5 % of the bound, surely
      # enough: 0.95**200 is 4e-5.
      self.assertGreater(np.abs(kernel).max(), 0.95 * fan_in**-0.5)
      np.testing.assert_array_equal(params[name]['bias'], 0)


  def test_products_of_every_model_have_the_precision(self):
    """As they are lowered for accelerators: none is left to the default."""
    with mock.patch.object(models, '_by_patches', lambda: False):
      for name, precision in (('mlp', 'HIGHEST'), ('kan', 'HIGH')):
        model = models.build(dataclasses.replace(
            configs.CONFIGS[name], precision=precision.lower()))
        texts = lowering.lower(
            jax.grad(lambda v, x, model=model: model.apply(v, x).sum()),
            jax.eval_shape(model.init, jax.random.key(0), _IMAGES), _IMAGES)
        for text in texts.values():
          self.assertEqual(
              lowering.products(text).keys() - {'HIGHEST'},
              {precision} - {'HIGHEST'})


class BuildTest(parameterized.TestCase):

  @parameterized.parameters(*configs.CONFIGS)
  def test_every_config(self, name):
    config = configs.CONFIGS[name]
    model = models.build(config, classes=7)
    variables = jax.eval_shape(model.init, jax.random.key(0), _IMAGES)
    y = jax.eval_shape(model.apply, variables, _IMAGES)
    chex.assert_shape(y, (5, 7))
    self.assertEqual('grid' in variables, config.is_kan)
    self.assertEqual(models.sizes(variables), ((28, 28), 7))

  def test_hidden_layers(self):
    model = models.build(configs.Config(hidden=6, layers=3))
    self.assertEqual(model.kan.features, (16, 6, 6, 6, 10))

  def test_pixel_mlp(self):
    """Its layers are those of a chain of Flax's own."""
    model = models.build(configs.Config(model='mlp', hidden=5, layers=2))
    variables = jax.jit(model.init)(jax.random.key(0), _IMAGES)
    chain = nn.Sequential(
        [nn.Dense(5), nn.relu, nn.Dense(5), nn.relu, nn.Dense(10)])
    params = {f'layers_{2 * k}': variables['params'][f'Dense_{k}']
              for k in range(3)}
    np.testing.assert_allclose(
        model.apply(variables, _IMAGES - 0.5),
        chain.apply({'params': params}, (_IMAGES - 0.5).reshape(5, -1)),
        atol=1e-6)

  def test_conv_mlp(self):
    model = models.build(configs.Config(model='conv_mlp', hidden=9))
    self.assertIsInstance(model, models.ConvMLP)
    params = jax.tree.map(
        lambda a: a.shape,
        jax.eval_shape(model.init, jax.random.key(0), _IMAGES)['params'])
    self.assertEqual(params['Dense_0']['kernel'], (16, 9))
    self.assertEqual(params['Dense_1']['kernel'], (9, 10))

  def test_mlp_rectifies_before_each_layer(self):
    """Where all features are negative, only the biases are left."""
    model = models.ConvMLP((3, 2))
    variables = jax.jit(model.init)(jax.random.key(0), _IMAGES)
    params = dict(variables['params'])
    front = jax.tree.map(jnp.zeros_like, params['front'])
    front['conv2'] = front['conv2'] | {'bias': jnp.full(16, -1.0)}
    params['front'] = front
    params['Dense_0'] = params['Dense_0'] | {'bias': jnp.full(3, -2.0)}
    params['Dense_1'] = params['Dense_1'] | {'bias': jnp.array([5.0, 6.0])}
    y = jax.jit(model.apply)({'params': params}, _IMAGES)
    np.testing.assert_array_equal(y, np.tile([5.0, 6.0], (5, 1)))

  def test_options_reach_the_layers(self):
    model = models.build(configs.Config(
        hidden=6, grid=4, order=2, outside='linear', precision='high'))
    self.assertEqual(model.kan.features, (16, 6, 10))
    self.assertEqual(
        (model.kan.grid, model.kan.order, model.kan.outside,
         model.kan.precision), (4, 2, 'linear', 'high'))

  def test_pixel_kan_reads_every_pixel(self):
    model = models.PixelKAN(kan_jax.KAN([784, 2], grid=1, order=1))
    variables = jax.jit(model.init)(jax.random.key(0), _IMAGES)
    slope = jax.jit(jax.grad(
        lambda x: model.apply(variables, x).sum()))(_IMAGES)
    self.assertTrue((slope != 0).all())

  @parameterized.parameters(('one', 1.0), ('fan_in', 1 / 784))
  def test_initial_weight_of_splines(self, scale_spline, expected):
    model = models.build(configs.Config(
        model='kan', hidden=3, grid=1, order=1, scale_spline=scale_spline))
    params = jax.jit(model.init)(jax.random.key(0), _IMAGES)['params']
    first = params['kan']['layers_0']['scale_spline']
    np.testing.assert_allclose(first, expected, rtol=1e-6)
