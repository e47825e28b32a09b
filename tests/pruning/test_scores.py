"""Scores of edges, nodes and inputs against known values and definitions."""

from unittest import mock

from absl.testing import absltest
from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edge_moments
from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.pruning import scores
from kan_jax.symbolic import fixing

# Sides without correlation: variances of their functions add up.
_SIDES = np.stack(np.meshgrid(*[np.linspace(-1, 1, 9)] * 2), -1).reshape(-1, 2)
_STD = _SIDES[:, 0].std(ddof=1)
_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-1, 1, (60, 3)), jnp.float32)
# As many outputs as an arity: transposed scores would not be noticed by shape.
_MODEL = linen.KAN([3, [1, 1], 3], arity=[[], [3], []])
_VARIABLES = networks.stack(networks.layer(3, 4), networks.layer(2, 3, seed=1))


def _lines(*slopes):
  """A layer of two inputs whose edges are straight lines."""
  model, variables = linen.KANLayer(len(slopes)), networks.layer(
      2, len(slopes))
  return edits.assign(model, variables, (), {
      (i, o): ('x', (1, 0, slope, 0.5))
      for o, pair in enumerate(slopes) for i, slope in enumerate(pair)})


class AttributionTest(parameterized.TestCase):

  def test_lines(self):
    """3 x0 + 4 x1 varies by 5, 0 x0 - x1 by 1: an output's edges in parts."""
    model, variables = _lines((3, 4), (0, -1))
    found = scores.attribution(model, variables, jnp.asarray(_SIDES))
    self.assertEqual([len(found.edges), len(found.nodes)], [1, 2])
    np.testing.assert_allclose(
        found.edges[0], [[0.3, 0], [0.4, 0.5]], rtol=1e-5)
    np.testing.assert_allclose(found.nodes[0], [0.3, 0.9], rtol=1e-5)
    np.testing.assert_array_equal(found.nodes[1], [0.5, 0.5])

  def test_definition(self):
    """Node by node and output by output, from the values of the edges."""
    values = [
        np.asarray(view.edge_outputs(view.inputs), np.float64)
        for view in traversal.view_layers(_MODEL, _VARIABLES, _X).values()]
    of_nodes, of_edges = np.zeros((3, 2)), np.zeros((3, 2, 3))
    of_inputs, of_first = np.zeros((3, 3)), np.zeros((3, 3, 4))
    for out in range(3):
      for i in range(2):
        of_edges[out, i, out] = (
            values[1][:, i, out].std() / values[1][:, :, out].sum(1).std())
        of_nodes[out, i] = of_edges[out, i, out]
      for term, node in enumerate([0, 1, 1, 1]):
        std = values[0][:, :, term].sum(1).std()
        for i in range(3):
          of_first[out, i, term] = (
              of_nodes[out, node] * values[0][:, i, term].std() / std)
          of_inputs[out, i] += of_first[out, i, term]
    found = scores.attribution(_MODEL, _VARIABLES, _X)
    expected = scores.Scores(
        (of_first.mean(0), of_edges.mean(0)),
        (of_inputs.mean(0), of_nodes.mean(0), np.full(3, 1 / 3)))
    chex.assert_trees_all_close(found, expected, rtol=1e-6)

  def test_does_not_depend_on_units(self):
    tiny = {
        name: layer | {key: layer[key] * 1e-7 for key in (
            'scale_base', 'scale_spline')}
        for name, layer in _VARIABLES['params'].items()}
    tiny['layers_0'] = _VARIABLES['params']['layers_0']
    found = scores.attribution(_MODEL, {**_VARIABLES, 'params': tiny}, _X)
    chex.assert_trees_all_close(
        found, scores.attribution(_MODEL, _VARIABLES, _X), rtol=1e-4)

  def test_nothing_varies(self):
    """Constant edges, edges that cancel, one row, no edge: 0, never NaN."""
    model, variables = _lines((0, 0), (1, 1))
    x = jnp.stack([_X[:, 0], -_X[:, 0]], 1)
    for found in (scores.attribution(model, variables, x),
                  scores.attribution(model, variables, x[:1])):
      np.testing.assert_array_equal(found.edges[0], np.zeros((2, 2)))
      np.testing.assert_array_equal(found.nodes[0], np.zeros(2))

  def test_flat_splines_do_not_vary(self):
    """B-splines sum to 1 but for rounding, which must not count."""
    variables = networks.layer(3, 4)
    ones, params = jnp.ones_like, variables['params']
    params |= {'coef': ones(params['coef']),
               'scale_base': 0 * params['scale_base']}
    found = scores.attribution(linen.KANLayer(4), variables, _X)
    np.testing.assert_array_equal(found.edges[0], np.zeros((3, 4)))

  def test_part_by_part(self):
    net = structure.read(_MODEL, _VARIABLES)
    whole = scores.moments(_MODEL, _VARIABLES, _X, net)
    with mock.patch.object(edge_moments, '_CHUNK', 12 * 25):
      parts = scores.moments(_MODEL, _VARIABLES, _X, net)
    # Matrix products of other sizes may round in another order.
    chex.assert_trees_all_close(parts, whole, rtol=1e-5, atol=1e-7)


class ActivityTest(parameterized.TestCase):

  def test_lines(self):
    model, variables = _lines((3, 4), (0, -1))
    found = scores.activity(model, variables, jnp.asarray(_SIDES))
    np.testing.assert_allclose(
        found.edges[0], _STD * np.array([[3, 0], [4, 1]]), rtol=1e-5)
    np.testing.assert_allclose(found.nodes[0], [3 * _STD, 4 * _STD], rtol=1e-5)
    np.testing.assert_allclose(found.nodes[1], [4 * _STD, _STD], rtol=1e-5)

  def test_hidden_nodes_need_both_sides(self):
    found = scores.activity(_MODEL, _VARIABLES, _X)
    first, last = found.edges
    np.testing.assert_allclose(found.nodes[1], [
        min(first[:, 0].max(), last[0].max()),
        min(first[:, 1:].max(), last[1].max())])

  def test_any_model_that_holds_layers(self):
    class Wrapped(nn.Module):
      kan: nn.Module

      def __call__(self, x):
        return self.kan(3 * x)

    kan, variables = _lines((3, 4), (0, -1))
    model, variables = Wrapped(kan), {
        kind: {'kan': arrays} for kind, arrays in variables.items()}
    found = scores.edge_activity(model, variables, jnp.asarray(_SIDES))
    np.testing.assert_allclose(
        found['kan',], 3 * _STD * np.array([[3, 0], [4, 1]]), rtol=1e-5)
    with self.assertRaisesRegex(ValueError, '`model` needs to be a KAN or'):
      scores.attribution(model, variables, jnp.asarray(_SIDES))


class ErrorsTest(absltest.TestCase):

  def test_rows(self):
    for find in (scores.attribution, scores.activity, scores.edge_activity):
      with self.assertRaisesRegex(ValueError, 'at least one row'):
        find(_MODEL, _VARIABLES, _X[:0])
      with self.assertRaisesRegex(ValueError, 'finite numbers'):
        find(_MODEL, _VARIABLES, _X.at[3, 1].set(np.nan))

  def test_an_edge_outside_its_domain(self):
    model, variables = fixing.fix(
        _MODEL, _VARIABLES, None, 0, 1, 2, 'log', params=(1, 0, 1, 0))
    with self.assertRaisesRegex(ValueError, 'edge 1 -> 2 .* layers_0 '):
      scores.attribution(model, variables, _X)
