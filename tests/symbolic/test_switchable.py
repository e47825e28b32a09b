"""Opened models: the same function and gradient, whatever edges carry."""

from absl.testing import parameterized
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np

import kan_jax
from kan_jax.layers import linen
from kan_jax.symbolic import _switchable
from kan_jax.symbolic import fixing
from kan_jax.training import _fit_loop
from kan_jax.training import fitting
from kan_jax.training import optimizers

_LIBRARY = [f for f in kan_jax.LIBRARY if f.name in ('x^2', 'sin', 'sqrt')]
_SINC = kan_jax.Function('sinc', jnp.sinc, lambda z: z)
_X = jnp.linspace(-1, 1, 12).reshape(6, 2)


def _choice(first, second):
  """A KAN [2, 1, 1] that has a spline left, a removed edge, two functions."""
  model, variables = linen.KAN([2, 1, 1]), networks.kan([2, 1, 1])
  model, variables = fixing.fix(
      model, variables, None, 0, 1, 0, first, params=[0.5, 2, 3, 4])
  model, variables = fixing.fix(
      model, variables, None, 1, 0, 0, second, params=[0.1, 0.2, 0.3, 0.4])
  return model, fixing.remove(model, variables, 0, 0, 0)[1]


class OpenedTest(parameterized.TestCase):

  @parameterized.parameters(('sqrt', 'sin'), ('x^2', _SINC))
  def test_values_and_gradients(self, first, second):
    """sqrt is NaN for some arguments, but only where it is not chosen."""
    model, variables = _choice(first, second)
    model, variables = fixing.unfix(model, variables, 0, 0, 0)
    opened, inside = _switchable.open_edges(model, variables, _LIBRARY)
    self.assertEqual(opened.library[:3], tuple(_LIBRARY))

    def slope(model, variables):
      return jax.grad(lambda params: (model.apply(
          {**variables, 'params': params}, _X)**2).sum())(variables['params'])

    # A few roundings of float32.
    np.testing.assert_allclose(
        opened.apply(inside, _X), model.apply(variables, _X), rtol=1e-6)
    slopes = slope(opened, inside)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        _switchable.close_edges(
            model, {'params': slopes, 'grid': inside['grid']})['params'],
        slope(model, variables))
    # The spline's edge gets no function from training.
    self.assertFalse(slopes['model']['layers_0']['affine'][0].any())
    self.assertTrue(slopes['model']['layers_0']['affine'][1].any())

  def test_statistics(self):
    """Penalties see the functions, too."""
    model, variables = _choice('sin', 'x^2')
    opened, inside = _switchable.open_edges(model, variables, _LIBRARY)
    _, expected = model.apply(variables, _X, mutable='edges')
    _, statistics = opened.apply(inside, _X, mutable='edges')
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        statistics['edges']['model'], expected['edges'])

  def test_back(self):
    model, variables = _choice('sin', 'x^2')
    _, inside = _switchable.open_edges(model, variables, _LIBRARY)
    jax.tree.map(np.testing.assert_array_equal,
                 _switchable.close_edges(model, inside), dict(variables))

  def test_a_layer_alone(self):
    model = linen.KANLayer(2)
    variables = model.init(jax.random.key(0), _X)
    model, variables = fixing.fix(
        model, variables, None, (), 1, 0, 'sin', params=[1, 2, 3, 4])
    opened, inside = _switchable.open_edges(model, variables, _LIBRARY)
    np.testing.assert_allclose(
        opened.apply(inside, _X), model.apply(variables, _X), rtol=1e-6)

  def test_one_program_for_all_choices(self):
    take, before, losses = _fit_loop.programs().take, None, []
    for first, second in (('sin', 'x^2'), ('x^2', 'sin'), ('x^2', 'x^2')):
      model, variables = _switchable.open_edges(
          *_choice(first, second), _LIBRARY)
      losses.append(fitting.fit(
          model, variables, _X, _X[:, :1], steps=1, update_steps=(),
          optimizer=optimizers.LevenbergMarquardt(),
          progress=False).history['loss'][0])
      before = before or take._cache_size()
    self.assertEqual(take._cache_size(), before)
    self.assertLen(set(losses), 3)
