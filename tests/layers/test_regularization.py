"""The penalty, against pykan's formulas in plain numpy."""

import functools

from absl.testing import parameterized
import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal

_X = jax.random.uniform(jax.random.key(0), (50, 2), minval=-1, maxval=1)
_MODEL = linen.KAN([2, 3, 1], grid=4, noise=2.0)
_VARIABLES = jax.jit(_MODEL.init)(jax.random.key(1), _X)


@jax.jit
def _stats(variables, x):
  return _MODEL.apply(variables, x, mutable=['edges'])[1]['edges']


@functools.partial(jax.jit, static_argnames='metric')
def _value_and_grad(params, grid, x, lamb, metric):
  """Of a loss with the penalty; one program for every `lamb`."""
  penalty = regularization.Penalty(metric=metric, coef=0.1, coefdiff=0.1)

  def loss(params):
    y, sown = _MODEL.apply(
        {'params': params, 'grid': grid}, x, mutable=['edges'])
    return (y**2).mean() + lamb * penalty(params, sown['edges'])

  return jax.value_and_grad(loss)(params)


@functools.cache
def _layer_values():
  """Inputs, edge values, knots and coefficients of each layer, in float64."""
  return [
      [np.asarray(a, np.float64) for a in (
          view.inputs, view.edge_outputs(view.inputs), view.edges.knots,
          view.edges.coef)]
      for view in traversal.view_layers(_MODEL, _VARIABLES, _X).values()]


def _bits(p, axis):
  """-sum p log2(p + 1e-4)."""
  return -(p * np.log2(p + 1e-4)).sum(axis)


def _expected(metric, l1, entropy, coef, coefdiff):
  """The penalty of the model above, from edge values and PYKAN's formulas."""
  total = 0
  for inputs, phi, knots, c in _layer_values():
    steps = np.abs(c[:, 1:] - c[:, :-1])
    if metric == 'mean_abs':
      width = knots[:, -4] - knots[:, 3]  # 3 knots lie beyond each end.
      s = np.abs(phi).mean(0) / (width + 1e-4)[:, None]
      h = _bits(s / s.sum(), (0, 1))
      # Over the coefficients of an edge, the mean; over edges, the sum.
      size, step = np.abs(c).mean(1).sum(), steps.mean(1).sum()
    else:
      s = phi.std(0, ddof=1) / (inputs.std(0, ddof=1) + 0.1)[:, None]
      rows = s / (s.sum(0, keepdims=True) + 1)  # Of all inputs of an output.
      columns = s / (s.sum(1, keepdims=True) + 1)
      h = _bits(rows, 0).mean() + _bits(columns, 1).mean()
      size, step = np.abs(c).mean(2).sum(), steps.mean(2).sum()
    total += l1 * s.sum() + entropy * h + coef * size + coefdiff * step
  return total


def _with_masks(value):
  """The variables with masks of layer 0 set to `value`."""
  grid = dict(_VARIABLES['grid'])
  grid['layers_0'] = grid['layers_0'] | {
      'mask': jnp.broadcast_to(jnp.asarray(value, jnp.float32), (2, 3))}
  return {**_VARIABLES, 'grid': grid}


class PenaltyTest(parameterized.TestCase):

  @parameterized.product(
      metric=('mean_abs', 'std'),
      weights=((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1),
               (0.3, 2, 0.1, 0.7)))
  def test_follows_the_formulas(self, metric, weights):
    l1, entropy, coef, coefdiff = weights
    penalty = regularization.Penalty(
        l1=l1, entropy=entropy, coef=coef, coefdiff=coefdiff, metric=metric)
    value = penalty(_VARIABLES['params'], _stats(_VARIABLES, _X))
    chex.assert_shape(value, ())
    # Deviations are roots of variances in float32.
    np.testing.assert_allclose(value, _expected(metric, *weights), rtol=1e-4)

  @parameterized.product(metric=('mean_abs', 'std'), lamb=(0.0, 0.01))
  def test_layer_without_edges(self, metric, lamb):
    """Case N10: shares of nothing are 0, not 0/0, and so are gradients."""
    variables = _with_masks(0)
    chex.assert_tree_all_finite(_value_and_grad(
        variables['params'], variables['grid'], _X, lamb, metric))
    stats = _stats(variables, _X)
    found = regularization.layer_stats(stats)[('layers_0',)]
    scores = regularization.edge_scores(found, metric)
    self.assertEqual(regularization.entropy(scores, metric), 0)

  @parameterized.parameters('mean_abs', 'std')
  def test_zero_share(self, metric):
    """Case N11: 0 log 0 is 0, in value and gradient."""
    scores = jnp.array([[0.0, 1.0], [2.0, 3.0]])
    value, slope = jax.value_and_grad(regularization.entropy)(scores, metric)
    chex.assert_tree_all_finite((value, slope))
    p = np.asarray(scores)
    if metric == 'mean_abs':
      live = p[p > 0] / p.sum()
      expected = -(live * np.log2(live + 1e-4)).sum()
      np.testing.assert_allclose(value, expected, rtol=1e-5)
    else:  # A row of a single live edge keeps only this edge's term.
      row = 1 / (1 + 1)
      alone = regularization.entropy(jnp.array([[1.0]]), metric)
      np.testing.assert_allclose(
          alone, -2 * row * np.log2(row + 1e-4), rtol=1e-5)

  @parameterized.parameters(2, 8, 64)
  def test_uniform_scores_have_log2_n_bits(self, n):
    """Whatever their size; the offset in the logarithm takes 1.44e-4 n."""
    for size in (1e-3, 1.0, 50.0):
      value = regularization.entropy(jnp.full((2, n // 2), size))
      np.testing.assert_allclose(value, np.log2(n), atol=1.5e-4 * n)

  def test_one_edge_alone_has_no_entropy(self):
    value = regularization.entropy(jnp.array([[0.0, 0.0], [5.0, 0.0]]))
    np.testing.assert_allclose(value, 0, atol=1.5e-4)  # The offset again.

  def test_scores_of_known_statistics(self):
    stats = edges.EdgeStats(
        mean_abs=jnp.array([[1.0, 2.0]]), std=jnp.array([[3.0, 4.0]]),
        input_std=jnp.array([0.9]), width=jnp.array([1.9999]))
    np.testing.assert_allclose(
        regularization.edge_scores(stats), [[0.5, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(
        regularization.edge_scores(stats, 'std'), [[3.0, 4.0]], rtol=1e-6)

  def test_masked_edge_scores_zero(self):
    variables = _with_masks([[0, 1, 1], [1, 1, 0]])
    found = regularization.layer_stats(_stats(variables, _X))[('layers_0',)]
    for metric in ('mean_abs', 'std'):
      scores = np.asarray(regularization.edge_scores(found, metric))
      np.testing.assert_array_equal(scores == 0, [[1, 0, 0], [0, 0, 1]])

  @parameterized.parameters('mean_abs', 'std')
  def test_gradient_of_one_row_and_of_a_constant_edge(self, metric):
    """Case N12: a deviation of zero has gradient zero, not NaN."""
    params = dict(_VARIABLES['params'])
    params['layers_0'] = params['layers_0'] | {
        'coef': params['layers_0']['coef'].at[0, :, 0].set(0),
        'scale_base': params['layers_0']['scale_base'].at[0, 0].set(0)}
    for x in (_X, _X[:1], jnp.broadcast_to(_X[:1], _X.shape)):
      chex.assert_tree_all_finite(_value_and_grad(
          params, _VARIABLES['grid'], x, 0.01, metric))

  def test_coefficient_terms_need_no_statistics(self):
    penalty = regularization.Penalty(l1=0, entropy=0, coef=1)
    value = penalty(_VARIABLES['params'], {})
    np.testing.assert_allclose(
        value, _expected('mean_abs', 0, 0, 1, 0), rtol=1e-5)

  def test_coefficients_of_other_modules_are_not_read(self):
    penalty = regularization.Penalty(l1=0, entropy=0, coef=1)
    params = {'front': {'kernel': jnp.ones((3, 3))},
              'deep': {'kan': _VARIABLES['params']}}
    np.testing.assert_allclose(
        penalty(params, {}), penalty(_VARIABLES['params'], {}), rtol=1e-6)

  @parameterized.parameters(
      lambda params, stats: (stats, params),  # Swapped.
      lambda params, stats: ({}, params),  # Swapped, and without statistics.
      lambda params, stats: (params, {}),  # Without mutable='edges'.
      lambda params, stats: (params, {'layers_0': stats['layers_0']}),
      lambda params, stats: (params['layers_0'], stats))
  def test_statistics_of_other_layers(self, arguments):
    arguments = arguments(_VARIABLES['params'], _stats(_VARIABLES, _X))
    with self.assertRaisesRegex(
        ValueError, r"`stats` needs.*mutable='edges'.*\(params, sown"):
      regularization.Penalty()(*arguments)

  def test_nothing_to_penalize(self):
    """A model without KAN layers costs 0."""
    params = {'Dense_0': {'kernel': jnp.ones((3, 3))}}
    self.assertEqual(regularization.Penalty(coef=1)(params, {}), 0)

  def test_unknown_metric(self):
    with self.assertRaisesRegex(
        ValueError, "`metric` is one of mean_abs, std; got 'max'"):
      regularization.Penalty(metric='max')

  def test_layer_that_is_applied_twice(self):
    class Twice(nn.Module):

      @nn.compact
      def __call__(self, x):
        shared = linen.KANLayer(2, name='shared')
        return shared(shared(x))

    model = Twice()
    variables = jax.jit(model.init)(jax.random.key(0), _X)
    stats = jax.eval_shape(
        lambda: model.apply(variables, _X, mutable=['edges'])[1]['edges'])
    with self.assertRaisesRegex(ValueError, 'shared was applied more than'):
      regularization.layer_stats(stats)

  def test_penalty_of_layers_inside_a_model(self):
    """A nested network and the same network alone cost the same."""
    class Wrapped(nn.Module):

      @nn.compact
      def __call__(self, x):
        return linen.KAN(
            _MODEL.features, grid=_MODEL.grid, name='inner')(x)

    nested = {name: {'inner': held} for name, held in _VARIABLES.items()}
    _, sown = Wrapped().apply(nested, _X, mutable=['edges'])
    found = regularization.layer_stats(sown['edges'])
    self.assertEqual(
        set(found), {('inner', 'layers_0'), ('inner', 'layers_1')})
    penalty = regularization.Penalty(coef=0.1)
    np.testing.assert_allclose(
        penalty(nested['params'], sown['edges']),
        penalty(_VARIABLES['params'], _stats(_VARIABLES, _X)), rtol=1e-5)
