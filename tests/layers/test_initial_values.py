"""Variances that the initial values of a layer keep, measured."""

from absl.testing import absltest
from absl.testing import parameterized
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import convolution
from kan_jax.layers import initial_values
from kan_jax.layers import linen

_IN, _OUT, _ROWS = 150, 200, 300


def _growth(**options):
  """Variance of outputs over that of inputs, and of gradients backward."""
  low, high = options.get('grid_range', (-1.0, 1.0))
  x = jax.random.uniform(jax.random.key(0), (_ROWS, _IN), minval=low,
                         maxval=high)
  layer = linen.KANLayer(_OUT, **options)

  @jax.jit
  def measure(key, x):
    y, back = jax.vjp(
        lambda x: layer.apply(layer.init(key, x), x), x)
    slope, = back(jax.random.normal(key, y.shape))
    # Around 0, which is the mean over initial values.
    return (y**2).mean() / x.var(), (slope**2).mean()

  return [float(value) for value in measure(jax.random.key(1), x)]


class VarianceScalingTest(parameterized.TestCase):

  @parameterized.parameters(
      {}, {'grid': 20, 'order': 2}, {'grid': 3, 'order': 0},
      {'grid_range': (0.0, 4.0)}, {'base_fn': jnp.tanh},
      {'base_fn': jnp.zeros_like})
  def test_forward(self, **options):
    for scheme in (initial_values.VarianceScaling(mode='fan_in'),
                   initial_values.VarianceScaling(0.25, 0.1, 'fan_in')):
      forward, _ = _growth(initial=scheme, **options)
      # 200 sums of 1,350 terms: five deviations are about a third.
      self.assertBetween(forward / scheme.scale, 0.7, 1.4)

  @parameterized.parameters({}, {'grid': 20, 'order': 2})
  def test_backward(self, **options):
    _, backward = _growth(
        initial=initial_values.VarianceScaling(mode='fan_out'), **options)
    self.assertBetween(backward, 0.7, 1.4)

  def test_between(self):
    forward, backward = _growth(initial=initial_values.VarianceScaling())
    self.assertBetween(2 / (1 / forward + 1 / backward), 0.5, 1.4)
    self.assertLess(forward, 1)
    self.assertGreater(backward, 1)

  @parameterized.parameters(0.0, 1.0)
  def test_one_kind_alone(self, splines):
    variables = linen.KANLayer(4, initial=initial_values.VarianceScaling(
        splines=splines)).init(jax.random.key(0), jnp.zeros((1, 3)))
    params = variables['params']
    self.assertEqual(bool((params['coef'] != 0).any()), splines == 1)
    self.assertEqual(bool((params['scale_base'] != 0).any()), splines == 0)

  def test_a_patch_counts_as_the_inputs(self):
    layer = convolution.KANConv(
        200, (3, 3), padding='VALID',
        initial=initial_values.VarianceScaling(mode='fan_in'))
    x = jax.random.uniform(jax.random.key(0), (8, 7, 7, 16), minval=-1)
    y = jax.jit(lambda x: layer.apply(layer.init(jax.random.key(1), x), x))(x)
    self.assertBetween(float((y**2).mean() / x.var()), 0.7, 1.4)


class PowerLawTest(parameterized.TestCase):

  def test_deviations(self):
    layer = linen.KANLayer(
        300, grid=4, order=2, initial=initial_values.PowerLaw(0.25, 1.0))
    params = layer.init(jax.random.key(0), jnp.zeros((1, 10)))['params']
    # 3,000 and 18,000 normal numbers: known to 1.3 and 0.6 percent.
    np.testing.assert_allclose(
        params['scale_base'].std(), 70**-0.25, rtol=0.07)
    np.testing.assert_allclose(params['coef'].std(), 1 / 70, rtol=0.03)

  def test_dtype(self):
    layer = linen.KANLayer(
        3, param_dtype=jnp.bfloat16, initial=initial_values.PowerLaw())
    params = layer.init(jax.random.key(0), jnp.zeros((1, 2)))['params']
    self.assertEqual(params['coef'].dtype, jnp.bfloat16)


class MistakesTest(parameterized.TestCase):

  @parameterized.parameters(
      (lambda: initial_values.VarianceScaling(0), '`scale`.*got 0'),
      (lambda: initial_values.VarianceScaling(splines=2), '`splines`.*got 2'),
      (lambda: initial_values.VarianceScaling(mode='in'), "`mode`.*got 'in'"),
      (lambda: initial_values.PowerLaw(spline=-1), '`spline`.*got -1'),
      (lambda: linen.KAN([2, 1], initial='glorot'),
       "`initial`.*VarianceScaling.*got 'glorot'"),
      (lambda: linen.KANLayer(
          1, initial=initial_values.PowerLaw(),
          scale_base_init=nn.initializers.ones),
       '`initial` decides.*`scale_base_init`'))
  def test_errors(self, make, message):
    with self.assertRaisesRegex(ValueError, message):
      make()


if __name__ == '__main__':
  absltest.main()
