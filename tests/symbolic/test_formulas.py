"""Formulas say what models compute."""

import functools

from absl.testing import parameterized
import chex
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.symbolic import expressions
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
      written = formulas.formula(model, variables)
      self.assertLen(written, 1)
      call = expressions.lambdify(written, inputs=2, backend=backend)
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
    written = formulas.formula(
        model, variables, input_mean=mean, input_std=std, output_mean=7.0,
        output_std=[3.0])
    raw = np.asarray(_X, np.float64) * std + mean
    np.testing.assert_allclose(
        expressions.lambdify(written, inputs=2)(raw),
        3 * model.apply(variables, _X) + 7, rtol=1e-5)

  def test_removed_and_constant(self):
    model = linen.KAN([2, 2])
    variables = jax.jit(model.init)(jax.random.key(1), _X)
    for i in range(2):
      for o in range(2):
        model, variables = fixing.remove(model, variables, 0, i, o)
    written = formulas.formula(model, variables)
    self.assertEqual(written, [0, 0])
    np.testing.assert_array_equal(
        expressions.lambdify(written, inputs=2)(np.ones((3, 2))),
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
    call = expressions.lambdify(formulas.formula(layer, variables), inputs=2)
    np.testing.assert_allclose(
        call(np.asarray(_X)), layer.apply(variables, _X), atol=1e-5)

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
    with self.assertRaisesRegex(ValueError, '`names`.*2 inputs'):
      formulas.formula(model, variables, names=['x', 'x'])
    for x in np.ones(2), np.ones((3, 1)):
      with self.assertRaisesRegex(ValueError, r'`x` needs the shape \[n, 2\]'):
        formulas.formula(model, variables, x=x)


def _sum_of_squares(shifts, slope, constant, dtype=np.float64, size=1.0):
  """A KAN [2, 1]: slope * ((x + shift)^2 + (y + shift)^2) + constant."""
  model = linen.KAN([2, 1], param_dtype=dtype)
  variables = networks.kan([2, 1], low=-size, high=size, dtype=dtype)
  for i, shift in enumerate(shifts):
    model, variables = fixing.fix(
        model, variables, None, 0, i, 0, 'x^2',
        params=(1, shift, slope, constant / 2))
  return model, variables


class IdleNumbersTest(parameterized.TestCase):
  """What training leaves, and nothing else, is left out."""

  @parameterized.parameters((1.0, 1.0), (1e6, 1.0), (1e-6, 1.0), (1.0, 1e9))
  def test_rounding_goes(self, size, slope):
    """Whatever the units of the inputs and the outputs."""
    with jax.enable_x64(True):
      model, variables = _sum_of_squares(
          (1e-14 * size, 0.5 * size), slope, 1e-13 * size**2 * slope,
          size=size)
      [written] = formulas.formula(model, variables)
    x, y = sympy.symbols('x_0 x_1')
    self.assertLen(written.atoms(sympy.Float) - {1.0}, 2 if slope != 1 else 1)
    self.assertEqual(written.coeff(x, 1), 0)
    np.testing.assert_allclose(
        float(written.subs({x: size, y: size})), slope * 3.25 * size**2)

  def test_narrow_types(self):
    model, variables = _sum_of_squares((1e-8, 0.5), 1.0, 3e-8, np.float32)
    [written] = formulas.formula(model, variables)
    self.assertEqual(written.atoms(sympy.Float) - {1.0}, {sympy.Float(0.5)})
    with jax.enable_x64(True):
      model, variables = _sum_of_squares((1e-8, 0.5), 1.0, 3e-8)
      [written] = formulas.formula(model, variables)
    self.assertLen(written.atoms(sympy.Float) - {1.0}, 3)

  def test_an_edge_without_effect(self):
    with jax.enable_x64(True):
      model, variables = _sum_of_squares((0, 0.5), 1.0, 0.0)
      model, variables = fixing.fix(
          model, variables, None, 0, 0, 0, 'sin', params=(2, 1, 1e-15, 0.25))
      [written] = formulas.formula(model, variables)
    self.assertEqual(written.free_symbols, {sympy.Symbol('x_1')})
    self.assertAlmostEqual(float(written.subs('x_1', 0.5)), 1.25)

  def test_constants_that_cancel(self):
    with jax.enable_x64(True):
      model, variables = _sum_of_squares((0, 0), 1.0, 0.0)
      for i, constant in enumerate((0.3, -0.3 + 1e-16)):
        model, variables = fixing.fix(
            model, variables, None, 0, i, 0, 'x^2', params=(1, 0, 1, constant))
      [written] = formulas.formula(model, variables)
    self.assertEqual(written.subs({'x_0': 0, 'x_1': 0}), 0)

  def test_what_later_layers_see_stays(self):
    """The logarithm of x^2 + 1e-12 at 0."""
    with jax.enable_x64(True):
      model = linen.KAN([1, 1, 1], param_dtype=jnp.float64)
      variables = networks.kan([1, 1, 1], dtype=jnp.float64)
      model, variables = fixing.fix(
          model, variables, None, 0, 0, 0, 'x^2', params=(1, 0, 1, 1e-12))
      model, variables = fixing.fix(
          model, variables, None, 1, 0, 0, 'log', params=(1, 0, 1, 0))
      [written] = formulas.formula(model, variables)
      self.assertAlmostEqual(float(written.subs('x_0', 0)), np.log(1e-12))
      # Rows that end at 1 do not see it.
      [written] = formulas.formula(model, variables, x=_X[:, :1] + 1)
      self.assertEqual(written.subs('x_0', 0), sympy.zoo)

  def test_rows_outside_the_domain_say_nothing(self):
    model, variables = linen.KAN([1, 1]), networks.kan([1, 1])
    model, variables = fixing.fix(
        model, variables, None, 0, 0, 0, 'sqrt', params=(1, -5, 1, 0.25))
    [written] = formulas.formula(model, variables, digits=3)
    self.assertAlmostEqual(float(written.subs('x_0', 9)), 2.25)

  def test_by_hand(self):
    with jax.enable_x64(True):
      model, variables = _sum_of_squares((1e-14, 0.5), 1.0, 0.002)
      for zero_below, count in ((0.0, 3), (1e-9, 2), (0.01, 1)):
        [written] = formulas.formula(model, variables, zero_below=zero_below)
        self.assertLen(written.atoms(sympy.Float) - {1.0, 2e-14}, count)


class DigitsTest(parameterized.TestCase):

  @parameterized.parameters(
      ('x^2', (1.7, 1.2e-8, 0.36, 0), '1.0*x**2'),
      ('1/x', (7.7, 15.4, 7.7, 0), '1.0/(x + 2.0)'),
      ('1/x^2', (0.37, 0.74, 0.1369, 0), '1.0/(x + 2.0)**2'),
      ('sqrt', (7.7, 15.4, 0.36037, 0), '1.0*sqrt(x + 2.0)'))
  def test_redundant_numbers(self, name, params, expected):
    model, variables = linen.KAN([1, 1]), networks.kan([1, 1])
    model, variables = fixing.fix(
        model, variables, None, 0, 0, 0, name, params=params)
    [written] = formulas.formula(model, variables, names=['x'], digits=2)
    self.assertEqual(str(written), expected)

  @parameterized.product(digits=(1, 2, 3, 5), name=(
      'sin', 'exp', 'log', '1/x^5', 'x^3', 'gaussian', 'tan'))
  def test_error(self, digits, name):
    """n digits mean an error of at most 10^(1 - n) of the values."""
    rng = np.random.default_rng(digits)
    model, variables = linen.KAN([2, 1]), networks.kan([2, 1])
    for i in range(2):
      model, variables = fixing.fix(
          model, variables, None, 0, i, 0, name,
          params=(rng.uniform(0.5, 1.2), rng.uniform(1.4, 1.6), 3.3, -1.7))
    mean, std = np.array([20.0, -3.0]), np.array([4.0, 0.1])
    [exact] = formulas.formula(
        model, variables, input_mean=mean, input_std=std, zero_below=0.0)
    [short] = formulas.formula(
        model, variables, input_mean=mean, input_std=std, digits=digits, x=_X)
    values, rounded = expressions.lambdify([exact, short], inputs=2)(
        mean + std * np.asarray(_X, np.float64)).T
    self.assertLessEqual(
        np.abs(rounded - values).max(), 10.0**(1 - digits) * abs(values).max())
