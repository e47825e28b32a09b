"""Cases from users of other KAN libraries: symbolic edges and formulas."""

import functools

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import sympy

import kan_jax
from kan_jax import symbolic
from kan_jax.layers import linen

_SMALL = tuple(f for f in kan_jax.LIBRARY
               if f.name in ('0', 'x', 'x^2', 'sin', 'sqrt'))


def _function(name):
  return next(f for f in kan_jax.LIBRARY if f.name == name)


def _fit(name, x, y):
  fit = symbolic.fit_affine(_function(name), x[:, None], y[:, None])
  return symbolic.AffineFit(*(field[0] for field in fit))


@functools.cache
def _kan(*features):
  model = linen.KAN(features)
  return model, jax.jit(model.init)(
      jax.random.key(0), jnp.ones((1, features[0])))


def _one_edge(name, params):
  """A KAN [1, 1] whose edge carries a function."""
  return symbolic.fix(*_kan(1, 1), None, 0, 0, 0, name, params=params)


class SymbolicCases(chex.TestCase):

  @parameterized.parameters(
      ('log', (0.001, 0.002, 1, 0), -5.81), ('exp', (5, 0, 0.004, 0), 0.594))
  def test_y02_rounding_small_constants(self, name, params, expected):
    expression, = symbolic.formula(*_one_edge(name, params), digits=2)
    value = float(expression.subs('x_0', 1.0))
    np.testing.assert_allclose(value, expected, rtol=0.01)

  @parameterized.parameters(1e-4, 1.0, 1e6)
  def test_y04_small_amplitude(self, scale):
    x = np.linspace(-1, 1, 200)
    fit = _fit('sin', x, scale * np.sin(3 * x))
    self.assertGreater(fit.r2, 0.9999)
    self.assertAlmostEqual(abs(fit.a), 3, delta=0.01)

  def test_y05_frequency_beyond_the_search_box(self):
    x = np.linspace(-1, 1, 200)
    for frequency in (12, 20):
      fit = _fit('sin', x, np.sin(frequency * x))
      self.assertGreater(fit.r2, 0.999)
      self.assertAlmostEqual(abs(fit.a), frequency, delta=0.05)

  def test_y06_wide_inputs_alias(self):
    x = np.linspace(0, 1000, 200)
    fit = _fit('sin', x, np.sin(0.01 * x))
    self.assertGreater(fit.r2, 0.9999)
    self.assertAlmostEqual(abs(fit.a), 0.01, delta=1e-4)

  @parameterized.parameters((jnp.float32, 1e-5), (jnp.float64, 1e-10))
  def test_y07_every_name_has_a_sympy_twin(self, dtype, tolerance):
    """An output for each function, at arguments of 0.34 to 0.98."""
    with jax.enable_x64(dtype == jnp.float64):
      x = jnp.linspace(0.3, 0.98, 20, dtype=dtype)[:, None]
      functions = tuple((f.name, ((0, o),))
                        for o, f in enumerate(kan_jax.LIBRARY))
      layer = linen.KANLayer(
          len(functions), symbolic=functions, param_dtype=dtype)
      variables = jax.jit(layer.init)(jax.random.key(0), x)
      row = jnp.array([[0.9, 0.07, 1.3, -0.2]], dtype)
      params = variables['params'] | {
          'affine': jnp.tile(row, (len(functions), 1))}
      grid = jax.tree.map(jnp.zeros_like, variables['grid']) | {
          'knots': variables['grid']['knots']}
      variables = {'params': params, 'grid': grid}
      y = np.asarray(layer.apply(variables, x))
      call = symbolic.lambdify(symbolic.formula(layer, variables), inputs=1)
      # Inverse powers reach 300: relative to the largest value of each.
      scale = np.maximum(np.abs(y).max(0), 1)
      np.testing.assert_allclose(
          call(np.asarray(x, np.float64)) / scale, y / scale, rtol=0,
          atol=tolerance)

  def test_y08_some_edges_are_still_splines(self):
    x = jax.random.uniform(jax.random.key(1), (200, 2))
    model, variables = _kan(2, 1, 1)
    fixed = symbolic.fix(
        model, variables, None, 0, 0, 0, 'sin', params=(1, 0, 1, 0))
    with self.assertRaisesRegex(
        ValueError, r'2 edges.*: layers_0 1 -> 0, layers_1 0 -> 0\.'):
      symbolic.formula(*fixed)
    # Removed edges are exactly 0, whatever was tried on them before.
    symbolic.suggest(*fixed, x, 0, 1, 0, library=_SMALL)
    fixed = symbolic.remove(*fixed, 0, 1, 0)
    fixed = symbolic.fix(*fixed, None, 1, 0, 0, 'x', params=(1, 0, 1, 0))
    symbol = sympy.Symbol('x_0')
    self.assertEqual(
        sympy.nsimplify(symbolic.formula(*fixed)[0]), sympy.sin(symbol))

  def test_y09_suggest_only_looks(self):
    x = jax.random.uniform(jax.random.key(1), (200, 2))
    model, variables = _kan(2, 2, 1)
    model, variables = symbolic.fix(
        model, variables, None, 0, 0, 0, 'sin', params=(2, 0, 1, 0))
    model, variables = symbolic.remove(model, variables, 0, 1, 1)
    copy = jax.tree.map(np.array, variables)
    before = model.apply(variables, x)
    for layer, i, o in [(0, 0, 0), (0, 1, 1), (0, 0, 1)]:
      symbolic.suggest(model, variables, x, layer, i, o, library=_SMALL)
    chex.assert_trees_all_equal(variables, copy)
    np.testing.assert_array_equal(model.apply(variables, x), before)

  def test_y10_auto_depends_on_the_data_given(self):
    x = jax.random.uniform(jax.random.key(1), (200, 2))
    model, variables = _kan(2, 1, 1)
    first = symbolic.auto_symbolic(model, variables, x, library=_SMALL)
    model.apply(variables, jax.random.normal(jax.random.key(2), (10000, 2)))
    second = symbolic.auto_symbolic(model, variables, x, library=_SMALL)
    self.assertEqual(first[0], second[0])
    self.assertEqual(first[2], second[2])
    chex.assert_trees_all_equal(first[1], second[1])

  def test_y12_domain(self):
    """|x| on [-1, 1]: roots, logarithms and inverses do not apply."""
    x = jnp.linspace(-1, 1, 200)[:, None]
    model, variables = _kan(1, 1)
    model, variables = symbolic.fix(
        model, variables, None, 0, 0, 0, 'abs', params=(1, 0, 1, 0))
    names = ('sqrt', 'log', '1/x', 'abs')
    candidates = symbolic.suggest(
        model, variables, x, 0, 0, 0, library=[_function(n) for n in names])
    self.assertEqual(candidates[0].name, 'abs')
    for candidate in candidates:
      a, b, *_ = candidate.params
      self.assertTrue(np.isfinite(candidate.function.fn(a * x + b)).all())
    model, variables = symbolic.fix(
        model, variables, x, 0, 0, 0, candidates[0].function)
    variables, losses = _train(model, variables, x, jnp.abs(x))
    self.assertTrue(np.isfinite(losses).all())
    call = symbolic.lambdify(symbolic.formula(model, variables), inputs=1)
    values = call(np.asarray(x))
    self.assertTrue(np.isrealobj(values) and np.isfinite(values).all())

  def test_y13_units(self):
    """y = 4 x + 4 z + noise, standardized, back to raw units."""
    keys = jax.random.split(jax.random.key(0), 4)
    w, *noise = (jax.random.normal(key, (2000, 1)) for key in keys)
    inputs = jnp.concatenate([10 * w + noise[0], 15 * w + noise[1]], 1)
    target = 4 * inputs.sum(1, keepdims=True) + noise[2]
    mean, std = inputs.mean(0), inputs.std(0)
    x = (inputs - mean[None]) / std[None]
    y = (target - target.mean()) / target.std()
    model, variables = _kan(2, 1)
    slopes = np.linalg.lstsq(x, y, rcond=None)[0]
    for i in range(2):
      model, variables = symbolic.fix(
          model, variables, None, 0, i, 0, 'x', params=(1, 0, slopes[i, 0], 0))
    expression, = symbolic.formula(
        model, variables, names=['x', 'z'], input_mean=mean, input_std=std,
        output_mean=target.mean(), output_std=target.std())
    for name in ('x', 'z'):
      slope = float(expression.coeff(sympy.Symbol(name)))
      self.assertAlmostEqual(slope, 4, delta=0.05)
    self.assertLess(abs(float(expression.subs({'x': 0, 'z': 0}))), 0.2)

  def test_y14_power_of_three_halves(self):
    x = jnp.array([[0.25], [1.0], [4.0]])
    model, variables = _one_edge('x^1.5', (1, 0, 1, 0))
    np.testing.assert_allclose(
        model.apply(variables, x), [[0.125], [1], [8]], rtol=1e-6)


def _train(model, variables, x, y, steps=20):
  """Adam steps on the squared error; returns variables and losses."""
  tx = optax.adam(0.01)

  def step(carry, _):
    params, state = carry
    loss, grads = jax.value_and_grad(lambda p: (
        (model.apply({**variables, 'params': p}, x) - y)**2).mean())(params)
    updates, state = tx.update(grads, state, params)
    return (optax.apply_updates(params, updates), state), loss

  params = variables['params']
  (params, _), losses = jax.jit(lambda carry: jax.lax.scan(
      step, carry, length=steps))((params, tx.init(params)))
  return {**variables, 'params': params}, losses
