"""Functions of a model that take NNX models: the same numbers, both ways."""

import os
import subprocess
import sys

from absl.testing import parameterized
import chex
from flax import nnx as flax_nnx
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax

import kan_jax
from kan_jax.layers import linen
from kan_jax.layers import nnx
from kan_jax.layers.nnx import accept

_X = np.random.default_rng(0).uniform(-1, 1, (30, 2)).astype(np.float32)
_Y = _X[:, :1] * 2
_SMALL = {'grid': 2, 'order': 1}
_FUNCTIONS = {
    'refine': lambda *model: kan_jax.refine(*model, 4),
    'prune_edges': lambda *model: kan_jax.prune_edges(
        *model, _X, threshold=0.1),
    'prune_nodes': lambda *model: kan_jax.prune_nodes(
        *model, _X, fraction=0.5),
    'activity': lambda *model: kan_jax.activity(*model, _X),
    'attribution': lambda *model: kan_jax.attribution(*model, _X),
    'suggest': lambda *model: kan_jax.suggest(
        *model, _X, 0, 0, 0, library=kan_jax.LIBRARY[2:4]),
    'fix': lambda *model: kan_jax.fix(*model, _X, 0, 0, 0, 'sin'),
    'remove': lambda *model: kan_jax.remove(*model, 0, 0, 0),
    'unfix': lambda *model: kan_jax.unfix(*_fixed(*model), 0, 0, 0),
    'auto_symbolic': lambda *model: kan_jax.auto_symbolic(
        *model, _X, library=[kan_jax.LIBRARY[2], kan_jax.LIBRARY[4]]),
    'add_biases': lambda *model: kan_jax.layers.add_biases(*model),
    'fit': lambda *model: kan_jax.fit(
        *model, _X, _Y, steps=2, optimizer=optax.sgd(0.1), update_steps=(),
        progress=False),
    'fit_best': lambda *model: kan_jax.fit_best(
        model[0], _X, _Y, key=jax.random.key(0), starts=1, steps=2,
        optimizer=optax.sgd(0.1), update_steps=(), progress=False),
}


def _linen():
  return linen.KAN([2, 2, 1], **_SMALL), networks.kan([2, 2, 1], **_SMALL)


def _fixed(*model):
  fixed = kan_jax.fix(*model, None, 0, 0, 0, 'sin', params=(1, 0, 1, 0))
  return fixed if isinstance(fixed, tuple) else (fixed,)


def _comparable(value):
  """Returns what `assert_trees_all_equal` compares."""
  if isinstance(value, flax_nnx.Module):
    return nnx.to_linen(value)[1]
  return value


class BothApisTest(parameterized.TestCase):

  @parameterized.parameters(*_FUNCTIONS)
  def test_same_result(self, name):
    call = _FUNCTIONS[name]
    expected = call(*_linen())
    before = nnx.from_linen(*_linen())
    made = call(before)
    chex.assert_trees_all_equal(nnx.to_linen(before)[1], _linen()[1])
    if name.startswith('fit'):
      np.testing.assert_array_equal(made.predict(_X), expected.predict(_X))
      self.assertEqual(repr(made), repr(expected))
      chex.assert_trees_all_equal(made.variables, expected.variables)
      made, expected = made[:1], expected[:2]
    if isinstance(expected, tuple) and isinstance(expected[0], linen.KAN):
      model, variables, *rest = expected
      made, *others = made if isinstance(made, tuple) else (made,)
      self.assertEqual(made.options, model)
      chex.assert_trees_all_equal(nnx.to_linen(made)[1], variables)
      made, expected = others, rest
    self.assertEqual(str(made), str(expected))

  def test_formula_and_picture(self):
    variables = networks.layer(1, 1, **_SMALL)
    variables['params']['affine'] = jnp.array([[2.0, 0, 1, 0]])
    variables['grid']['mask'] = jnp.zeros((1, 1))
    options = linen.KANLayer(1, symbolic=(('sin', ((0, 0),)),), **_SMALL)
    model = nnx.from_linen(options, variables)
    self.assertEqual(
        kan_jax.formula(model), kan_jax.formula(options, variables))
    self.assertNotEmpty(kan_jax.plot(model, _X[:, :1]).axes)

  def test_export(self):
    model = nnx.from_linen(*_linen())
    program = kan_jax.export.serialize(model, (2,))
    np.testing.assert_allclose(
        jax.export.deserialize(program).call(_X), model(_X), rtol=1e-5,
        atol=1e-6)

  def test_model_by_name(self):
    model = nnx.from_linen(*_linen())
    self.assertEqual(kan_jax.refine(model=model, grid=4).options.grid, 4)

  def test_other_modules(self):
    other = flax_nnx.Linear(2, 1, rngs=flax_nnx.Rngs(0))
    with self.assertRaisesRegex(ValueError, '`model` .* got a Linear'):
      kan_jax.fit(other, _X, _Y)

  def test_names_and_results(self):
    @accept.takes_nnx
    def double(model, variables, x):
      """Doubles."""
      del model, variables
      return 2 * x

    self.assertEqual(double.__doc__, 'Doubles.')
    self.assertEqual(double(*_linen(), 3), 6)
    self.assertEqual(double(nnx.from_linen(*_linen()), 3), 6)

  def test_linen_alone_imports_no_nnx(self):
    program = (
        'import sys\nimport jax.numpy as jnp\nimport kan_jax\n'
        'from kan_jax.training import fitting\n'
        'from kan_jax.pruning import prune\n'
        'kan_jax.refine\n'
        'print("flax.nnx" in sys.modules)')
    ran = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True,
        check=True, env=os.environ | {'JAX_PLATFORMS': 'cpu'})
    self.assertEqual(ran.stdout, 'False\n')
