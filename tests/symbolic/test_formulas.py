"""Formulas say what models compute."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.symbolic import fixing
from kan_jax.symbolic import formulas

_X = jax.random.uniform(jax.random.key(0), (20, 2), minval=0.1, maxval=0.9)


@functools.cache
def _deep(wide=False):
  """A [2, 2, 1] KAN with five functions, an edge removed and biases."""
  dtype = jnp.float64 if wide else jnp.float32
  model = linen.KAN([2, 2, 1], param_dtype=dtype)
  variables = jax.jit(model.init)(jax.random.key(1), _X.astype(dtype))
  edges = [(0, 0, 0, 'sin', (3, 0.5, 1.2, 0.1)),
           (0, 1, 0, 'x^2', (0.7, -0.2, 1.1, 0)),
           (0, 0, 1, 'sqrt', (1.3, 0.2, -0.4, 0.6)),
           (1, 0, 0, 'exp', (0.8, -0.3, 0.5, 0.2)),
           (1, 1, 0, '1/x', (1.5, 1.9, 0.9, 0))]
  for layer, i, o, name, params in edges:
    model, variables = fixing.fix(
        model, variables, None, layer, i, o, name, params=params)
  model, variables = fixing.remove(model, variables, 0, 1, 1)
  params = {name: layer | {'node_bias': layer['node_bias'] + 0.25}
            for name, layer in variables['params'].items()}
  return model, variables | {'params': params}


class FormulaTest(chex.TestCase):

  @parameterized.product(wide=(False, True), backend=('numpy', 'jax'))
  def test_is_the_model(self, wide, backend):
    with jax.enable_x64(wide):
      model, variables = _deep(wide)
      x = _X.astype(jnp.float64 if wide else jnp.float32)
      y = jax.jit(model.apply)(variables, x)
      expressions = formulas.formula(model, variables)
      self.assertLen(expressions, 1)
      call = formulas.lambdify(expressions, inputs=2, backend=backend)
      points = x if backend == 'jax' else np.asarray(x, np.float64)
      np.testing.assert_allclose(
          call(points), y, atol=1e-10 if wide else 1e-5)
      self.assertEqual(call(points[0]).shape, (1,))
      if backend == 'jax':
        np.testing.assert_allclose(*(
            jax.jit(jax.grad(lambda x, f=f: f(x)[0]))(x[0])
            for f in (call, functools.partial(model.apply, variables))),
            rtol=1e-4)

  def test_names(self):
    model, variables = _deep()
    u, v = sympy.symbols('u v', real=True)
    expression, = formulas.formula(model, variables, names=['mass', 'speed'])
    self.assertEqual(
        expression.free_symbols, set(sympy.symbols('mass speed')))
    other, = formulas.formula(model, variables, names=(u, v))
    self.assertEqual(other.free_symbols, {u, v})
    self.assertIn('speed', sympy.latex(expression))

  def test_units(self):
    model, variables = _deep()
    mean, std = np.array([300.0, -2.0]), np.array([50.0, 1e-3])
    expressions = formulas.formula(
        model, variables, input_mean=mean, input_std=std, output_mean=7.0,
        output_std=[3.0])
    raw = np.asarray(_X, np.float64) * std + mean
    np.testing.assert_allclose(
        formulas.lambdify(expressions, inputs=2)(raw),
        3 * model.apply(variables, _X) + 7, rtol=1e-5)

  def test_removed_and_constant(self):
    model = linen.KAN([2, 2])
    variables = jax.jit(model.init)(jax.random.key(1), _X)
    for i in range(2):
      for o in range(2):
        model, variables = fixing.remove(model, variables, 0, i, o)
    expressions = formulas.formula(model, variables)
    self.assertEqual(expressions, [0, 0])
    np.testing.assert_array_equal(
        formulas.lambdify(expressions, inputs=2)(np.ones((3, 2))),
        np.zeros((3, 2)))
    plain = linen.KAN([1, 1], bias=False)
    variables = jax.jit(plain.init)(jax.random.key(1), _X[:, :1])
    fixed = fixing.fix(
        plain, variables, None, 0, 0, 0, '0', params=(1, 0, 1, 0.5))
    self.assertEqual(formulas.formula(*fixed), [0.5])

  def test_a_single_layer_and_own_function(self):
    layer = linen.KANLayer(1)
    variables = jax.jit(layer.init)(jax.random.key(1), _X)
    own = functions.Function(
        'softplus', jax.nn.softplus, lambda z: sympy.log(1 + sympy.exp(z)))
    layer, variables = fixing.fix(
        layer, variables, None, (), 0, 0, own, params=(2, 0.5, 3, 0))
    layer, variables = fixing.remove(layer, variables, (), 1, 0)
    call = formulas.lambdify(formulas.formula(layer, variables), inputs=2)
    np.testing.assert_allclose(
        call(np.asarray(_X)), layer.apply(variables, _X), atol=1e-5)

  def test_factors_beyond_floats(self):
    """Of exp(5 * (x - 1000)), sympy makes 1e-2172 exp(5 x)."""
    x = sympy.Symbol('x')
    grown = sympy.exp(5.0 * x - 5000.0)
    call = formulas.lambdify([2.0 * grown + 1, 1 / (1 + grown)], ['x'])
    points = np.array([[1000.0], [1000.1], [900.0]])
    expected = np.exp(5 * (points - 1000))
    np.testing.assert_allclose(
        call(points), np.concatenate([2 * expected + 1, 1 / (1 + expected)], 1))

  def test_errors(self):
    model, variables = _deep()
    with self.assertRaisesRegex(ValueError, '`names`.*2 inputs'):
      formulas.formula(model, variables, names=['x'])
    with self.assertRaisesRegex(ValueError, '`input_mean`.*, or 2 of them'):
      formulas.formula(model, variables, input_mean=[1, 2, 3])
    with self.assertRaisesRegex(ValueError, '`input_std` divides'):
      formulas.formula(model, variables, input_std=[0, 2])
    with self.assertRaisesRegex(ValueError, '`digits`.*got 0'):
      formulas.formula(model, variables, digits=0)
    with self.assertRaisesRegex(ValueError, '`names` or `inputs`'):
      formulas.lambdify([])
    with self.assertRaisesRegex(ValueError, "`backend`.*got 'torch'"):
      formulas.lambdify([], inputs=2, backend='torch')


class RoundDigitsTest(chex.TestCase):

  def test_significant_digits(self):
    x = sympy.Symbol('x')
    rounded = formulas.round_digits(
        123456.0 * x + 1.23456e-9 * sympy.exp(0.98765 * x)
        + x**sympy.Rational(3, 2), 3)
    np.testing.assert_allclose(
        sorted(float(f) for f in rounded.atoms(sympy.Float)),
        [1.23e-9, 0.988, 123000.0])
    self.assertTrue(rounded.has(x**sympy.Rational(3, 2)))

  def test_keeps_what_fewer_digits_would_break(self):
    x = sympy.Symbol('x')
    fraction = 1 / (sympy.sin(3.001 * x) - sympy.sin(2.999 * x))
    rounded = formulas.round_digits(fraction, 2)
    self.assertAlmostEqual(
        float(rounded.subs(x, 1)), float(fraction.subs(x, 1)), places=6)

  def test_rounded_numbers_compute_in_full_precision(self):
    x = sympy.Symbol('x')
    rounded = formulas.round_digits(sympy.sin(1.23456 * x) / 3.0, 2)
    np.testing.assert_allclose(
        float(rounded.subs(x, sympy.Float(0.7))), np.sin(1.2 * 0.7) * 0.33,
        rtol=1e-12)
