"""Pickles and copies of models, and the names they rest on."""

import copy
import dataclasses
import pickle
import subprocess
import sys

from absl.testing import parameterized
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import _named
from kan_jax.layers import functions
from kan_jax.layers import linen

_X = np.random.default_rng(0).uniform(-1, 1, (8, 2)).astype(np.float32)


def _pickled(value):
  return pickle.loads(pickle.dumps(value))


def _bump(x):
  return jnp.exp(-x**2)


_OWN = functions.Function('sin', jnp.sinh, sympy.sinh)
_SYMBOLIC = ((('sin', ((0, 0),)), (functions.find('gaussian'), ((1, 2),))),
             ((_OWN, ((1, 0),)),))
_MODELS = {
    'defaults': linen.KAN([2, 5, 1]),
    'products': linen.KAN([2, [2, 2], 1], arity=[[], [2, 3], []]),
    'symbolic': linen.KAN([2, 3, 1], symbolic=_SYMBOLIC),
    'layer': linen.KANLayer(3, base_fn=nn.relu, bias=False),
    'options': linen.KAN(
        [2, 1], grid=4, order=2, grid_range=(0, 1), base_fn=_bump,
        outside='linear', noise=0.5, scale_base_init=nn.initializers.zeros,
        dtype=jnp.bfloat16, param_dtype=jnp.bfloat16, name='inner'),
}


class PickleTest(parameterized.TestCase):

  @parameterized.product(
      name=tuple(_MODELS), again=(_pickled, copy.copy, copy.deepcopy))
  def test_models(self, name, again):
    model = _MODELS[name]
    copied = again(model)
    self.assertEqual(copied, model)
    self.assertEqual(hash(copied), hash(model))  # jit compiles nothing anew.
    self.assertEqual(copied.name, model.name)
    self.assertIsNot(copied, model)

  def test_a_copy_computes_the_same(self):
    model, variables = linen.KAN([2, 5, 1]), networks.kan([2, 5, 1])
    copied, arrays = _pickled((model, variables))
    np.testing.assert_array_equal(
        jax.jit(copied.apply)(arrays, _X), jax.jit(model.apply)(variables, _X))

  def test_in_a_new_process(self):
    program = ('import pickle, sys\n'
               'model = pickle.load(sys.stdin.buffer)\n'
               'print(model.features, model.base_fn is not None)')
    ran = subprocess.run(
        [sys.executable, '-c', program], capture_output=True, check=False,
        input=pickle.dumps(_MODELS['defaults']))
    self.assertEqual(ran.stdout, b'(2, 5, 1) True\n', ran.stderr)

  def test_within_another_module(self):
    outer = nn.Sequential([linen.KAN([2, 3]), linen.KANLayer(1)])
    self.assertEqual(copy.deepcopy(outer), outer)
    self.assertEqual(_pickled(outer), outer)

  def test_a_bound_model_comes_back_unbound(self):
    model = linen.KAN([2, 3, 1])
    bound = model.bind(networks.kan([2, 3, 1]))
    self.assertEqual(_pickled(bound), model)
    self.assertIsNone(copy.deepcopy(bound).scope)

  @parameterized.parameters(f.name for f in functions.LIBRARY)
  def test_functions_of_the_library_are_themselves(self, name):
    function = functions.find(name)
    self.assertIs(_pickled(function), function)
    self.assertIs(copy.deepcopy(function), function)

  @parameterized.parameters(f.name for f in functions.LIBRARY)
  def test_twins_in_sympy(self, name):
    twin = functions.find(name).to_sympy
    z = sympy.Symbol('z')
    self.assertEqual(_pickled(twin)(z), twin(z))

  def test_own_functions(self):
    cheap = dataclasses.replace(functions.find('sin'), complexity=1)
    for function in (_OWN, cheap):
      copied = _pickled(function)
      self.assertIs(copied.fn, function.fn)
      self.assertEqual(copied.name, 'sin')
      self.assertEqual(copied.complexity, function.complexity)
    self.assertEqual(_pickled(_OWN), _OWN)


class NamesTest(parameterized.TestCase):

  def test_what_flax_calls_so_is_the_same(self):
    for name in ('silu', 'gelu', 'relu', 'tanh', 'sigmoid', 'softplus', 'elu'):
      self.assertEqual(
          _named.find_name(getattr(nn, name), _named.FUNCTIONS), name)

  def test_unknown(self):
    for value in (_bump, None, np.ones(3), lambda x: x):
      self.assertIsNone(_named.find_name(value, _named.FUNCTIONS))

  @parameterized.parameters(*_named.FUNCTIONS)
  def test_all_are_base_functions(self, name):
    y = jax.eval_shape(_named.FUNCTIONS[name], jnp.ones((3, 2)))
    self.assertEqual((y.shape, y.dtype), ((3, 2), jnp.float32))
