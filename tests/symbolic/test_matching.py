"""Candidates and automatic choice: the right ones, and nothing but a look."""

import functools
from unittest import mock

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.symbolic import matching

_X = jax.random.uniform(jax.random.key(0), (200, 2), minval=-1, maxval=1)
_SMALL = tuple(
    functions.find(name) for name in ('0', 'x', 'x^2', 'sin', 'sqrt'))


@functools.cache
def _model():
  """A KAN whose first layer carries three functions and a removed edge."""
  symbolic = ((('sin', ((0, 0),)), ('x^2', ((1, 0),)), ('exp', ((0, 1),))), ())
  model = linen.KAN([2, 2, 1], symbolic=symbolic)
  variables = jax.jit(model.init)(jax.random.key(1), _X)
  params, grid = dict(variables['params']), dict(variables['grid'])
  params['layers_0'] = params['layers_0'] | {'affine': jnp.array(
      [[3.0, 0, 1, 0], [1, 0, 2, 1], [1, 0, 1, 0]])}
  grid['layers_0'] = grid['layers_0'] | {'mask': jnp.zeros((2, 2))}
  return model, {'params': params, 'grid': grid}


# What edges may do on [-1, 1], by the name that should come first.
_CURVES = {
    'sin': lambda x: np.sin(2 * x), 'x^2': lambda x: (x - 0.3)**2,
    'x': lambda x: 2 * x, 'exp': np.exp, 'tanh': lambda x: np.tanh(2 * x),
    'abs': lambda x: np.abs(x - 0.2), '0': np.ones_like,
    'log': lambda x: np.log(x + 1.2), 'sqrt': lambda x: np.sqrt(x + 1.1),
    '1/x': lambda x: 1 / (x + 1.5), 'x^3': lambda x: x**3,
    'gaussian': lambda x: np.exp(-4 * x**2),
    '1/x^5': lambda x: (1.3 * x + 1.5)**-5.0,
    'arctanh': lambda x: np.arctanh(0.95 * x),
    'arctan': lambda x: np.arctan(2 * x + 0.3)}


class RankTest(chex.TestCase):

  def test_the_function_itself_comes_first(self):
    """With noise as training leaves it."""
    x = np.linspace(-1, 1, 200)
    y = np.stack([curve(x) for curve in _CURVES.values()], 1)
    y += np.random.default_rng(0).normal(0, 1e-3, y.shape) * y.std(0)
    ranked = matching.rank(np.stack([x] * y.shape[1], 1), y)
    self.assertEqual([edge[0].name for edge in ranked], [*_CURVES])
    for edge in ranked:
      scores = [candidate.score for candidate in edge]
      np.testing.assert_allclose(scores, sorted(scores), atol=1e-3)

  def test_own_function(self):
    own = functions.Function(
        'sinc', jnp.sinc, lambda z: sympy.sinc(sympy.pi * z), 1)
    x = np.linspace(-3, 3, 200)[:, None]
    best = matching.rank(x, np.sinc(x), library=(*_SMALL, own))[0][0]
    self.assertEqual(best.function, own)
    self.assertLess(best.residual, 1e-20)

  def test_pruning_decides_what_can_go(self):
    """A constant is the simplest, but no stand-in for a sine of r2 0.995."""
    x = np.linspace(-1, 1, 400)
    noise = np.random.default_rng(0).normal(0, 1, (2, x.size))
    y = np.sin(3 * x) + 0.05 * noise[0]
    for curve, best in ((y, 'sin'), (noise[1], '0'), (np.ones_like(x), '0')):
      ranked = matching.rank(
          x[:, None], curve[:, None], library=_SMALL, weight=0.8)[0]
      self.assertEqual(ranked[0].name, best)
    # No weight makes it one.
    ranked = matching.rank(x[:, None], y[:, None], library=_SMALL, weight=1)[0]
    names = [candidate.name for candidate in ranked]
    self.assertLess(names.index('sin'), names.index('0'))

  def test_scores(self):
    base = matching.score(1, np.array([2]), np.array([0.5]))
    self.assertLess(base, matching.score(2, np.array([2]), np.array([0.5])))
    self.assertLess(base, matching.score(1, np.array([3]), np.array([0.3])))
    self.assertLess(base, matching.score(1, np.array([2]), np.array([0.6])))
    with self.assertRaisesRegex(ValueError, '`weight`.*got 2'):
      matching.score(1, np.ones(1), np.ones(1), weight=2)
    with self.assertRaisesRegex(ValueError, '`floor`.*got 0'):
      matching.score(1, np.ones(1), np.ones(1), floor=0)


class SuggestTest(chex.TestCase):

  def test_every_kind_of_edge(self):
    model, variables = _model()
    sine = matching.suggest(model, variables, _X, 0, 0, 0, library=_SMALL)
    self.assertEqual(sine[0].name, 'sin')
    np.testing.assert_allclose(abs(sine[0].params[0]), 3, rtol=1e-4)
    removed = matching.suggest(model, variables, _X, 0, 1, 1, library=_SMALL)
    self.assertEqual((removed[0].name, removed[0].params[3]), ('0', 0))
    by_path = matching.suggest(
        model, variables, _X, ('layers_0',), 0, 0, library=_SMALL)
    self.assertEqual(by_path, sine)

  def test_who_wants_to_hear_of_every_nan(self):
    """Functions are tried outside their domain; that is no mistake."""
    model, variables = _model()
    expected = matching.suggest(model, variables, _X, 0, 0, 0, library=_SMALL)
    with jax.debug_nans(True):
      again = matching.suggest(model, variables, _X, 0, 0, 0, library=_SMALL)
    self.assertEqual(again, expected)

  def test_inside_another_model(self):
    class Mixed(nn.Module):
      @nn.compact
      def __call__(self, x):
        return linen.KAN([2, 1], name='kan')(nn.Dense(2)(x))

    model = Mixed()
    variables = jax.jit(model.init)(jax.random.key(1), _X)
    candidates = matching.suggest(
        model, variables, _X, ('kan', 'layers_0'), 1, 0, library=_SMALL)
    self.assertNotEmpty(candidates)
    with self.assertRaisesRegex(ValueError, '`layer` is a path.*Mixed; got 0'):
      matching.suggest(model, variables, _X, 0, 0, 0)
    with self.assertRaisesRegex(ValueError, r"`layer` is one .*got \('a',\)"):
      matching.suggest(model, variables, _X, ('a',), 0, 0)

  def test_errors(self):
    model, variables = _model()
    with self.assertRaisesRegex(ValueError, '`layer` is 0 to 1.*got 2'):
      matching.suggest(model, variables, _X, 2, 0, 0)
    with self.assertRaisesRegex(ValueError, '2 and 2; got 0 and 5'):
      matching.suggest(model, variables, _X, 0, 0, 5)


class PrintTest(chex.TestCase):

  def test_one_line(self):
    candidate = matching.Candidate(
        'sin', -3.25, 0.99951, 4.9e-4, (3, 0.5, 2, 0), False,
        functions.find('sin'))
    line = 'sin: score -3.250, r2 0.99951, a 3, b 0.5, c 2, d 0'
    self.assertEqual(repr(candidate), line)
    self.assertEqual(
        str(candidate._replace(at_boundary=True)), f'{line}, a at its limit')
    choice = matching.Choice(('layers_1',), (0, 2), candidate, True)
    self.assertEqual(repr(choice), f'layers_1 0 -> 2: {line}')
    self.assertEqual(
        repr(choice._replace(fixed=False, best=None, layer=())),
        '0 -> 2: no function is finite (not fixed, stays a spline)')


class AutoSymbolicTest(chex.TestCase):

  def test_groups_of_edges(self):
    """Many rows: the samples of few edges at a time, with the same result."""
    model = linen.KAN([3, 4, 1])
    variables = jax.jit(model.init)(jax.random.key(1), jnp.ones((1, 3)))
    x = jax.random.uniform(jax.random.key(0), (50, 3), minval=-1, maxval=1)
    new, fixed, report = matching.auto_symbolic(
        model, variables, x, library=_SMALL)
    with mock.patch.object(matching, '_VALUES', 1):
      again = matching.auto_symbolic(model, variables, x, library=_SMALL)
    self.assertLen(report, 16)
    self.assertEqual((new, report), (again[0], again[2]))
    chex.assert_trees_all_equal(fixed, again[1])

  def test_live_splines_alone(self):
    model, variables = _model()
    new, fixed, report = matching.auto_symbolic(
        model, variables, _X, library=_SMALL)
    self.assertEqual([(c.layer, c.edge) for c in report], [
        (('layers_1',), (0, 0)), (('layers_1',), (1, 0))])
    self.assertTrue(all(choice.fixed for choice in report))
    self.assertEqual(new.symbolic[0], model.symbolic[0])
    chex.assert_trees_all_equal(
        fixed['params']['layers_0'], variables['params']['layers_0'])
    self.assertFalse(fixed['grid']['layers_1']['mask'].any())
    # Nothing is left to do.
    again = matching.auto_symbolic(new, fixed, _X, library=_SMALL)
    self.assertEqual(again[0], new)
    self.assertEmpty(again[2])

  def test_least_quality(self):
    model, variables = _model()
    new, fixed, report = matching.auto_symbolic(
        model, variables, _X, library=_SMALL[:1], min_r2=0.5)
    self.assertFalse(any(choice.fixed for choice in report))
    self.assertEqual(new, model)
    chex.assert_trees_all_equal(fixed, variables)
