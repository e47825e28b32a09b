"""Which edges a picture shows, and their curves."""

from helpers import networks
import numpy as np
import pytest

from kan_jax.layers import linen
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.plotting import _edge_curves
from kan_jax.pruning import scores

_MODEL, _VARIABLES = linen.KAN([3, 2]), networks.kan([3, 2])
_X = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
_NET = structure.read(_MODEL, _VARIABLES)


@pytest.mark.parametrize('most', [1, 4, 40])
def test_the_most_active_edges_are_drawn(most):
  [layer] = _edge_curves.strongest(
      _MODEL, _VARIABLES, _X, _NET, most=most)
  activity = scores.activity(_MODEL, _VARIABLES, _X).edges[0]
  best = np.argsort(-activity, axis=None)[:most]
  assert sorted(np.ravel_multi_index((layer.i, layer.o), (3, 2))) == sorted(
      best)
  np.testing.assert_allclose(
      layer.strength, activity[layer.i, layer.o] / activity.max(), rtol=1e-6)
  assert layer.live == 6


def test_curves_are_the_functions_over_the_samples():
  [layer] = _edge_curves.strongest(_MODEL, _VARIABLES, _X, _NET)
  view = traversal.view_layers(_MODEL, _VARIABLES, _X)['layers_0',]
  for i, o, x, y in zip(layer.i, layer.o, layer.x, layer.y, strict=True):
    rows = np.zeros((len(x), 3), np.float32)
    rows[:, i] = x
    # Two programs; a few roundings.
    np.testing.assert_allclose(
        y, view.edge_outputs(rows)[:, i, o], atol=1e-5)
    assert _X[:, i].min() <= x[0] < x[-1] <= _X[:, i].max()
