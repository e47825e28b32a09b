"""Which parts go: by threshold, fraction or name, on scores made by hand."""

import numpy as np
import pytest

from kan_jax.layers import nodes
from kan_jax.layers import structure
from kan_jax.pruning import _rules

_SCORES = [np.array([0.5, 0.1, 0.0]), np.array([0.2, 0.3])]
_ALL = [np.ones(3, bool), np.ones(2, bool)]


def _gone(spare_best=False, candidates=None, **options):
  rule = _rules.Rule('nodes', *(
      options.get(name) for name in ('threshold', 'fraction', 'named')))
  rule.check()
  return _rules.names(_rules.choose(
      rule, _SCORES, candidates or _ALL, spare_best=spare_best))


def test_what_scores_less_than_the_threshold_goes():
  assert _gone(threshold=0.2) == ((0, 1), (0, 2))
  assert _gone(threshold=1) == ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))


def test_the_best_of_each_layer_may_be_spared():
  assert _gone(threshold=1, spare_best=True) == ((0, 1), (0, 2), (1, 0))


@pytest.mark.parametrize(('fraction', 'count'), [
    (0, 0), (0.39, 1), (0.4, 2), (0.6, 3), (1, 5)])
def test_a_fraction_is_rounded_down_and_takes_the_lowest(fraction, count):
  order = ((0, 2), (0, 1), (1, 0), (1, 1), (0, 0))  # By score.
  assert set(_gone(fraction=fraction)) == set(order[:count])


def test_of_equal_scores_the_first_go():
  """Many of them: a sort that is not stable keeps the order of a few."""
  scores = np.random.default_rng(0).integers(0, 3, 1000).astype(float)
  gone, = _rules.choose(
      _rules.Rule('edges', None, 0.5, None), [scores], [np.ones(1000, bool)])
  assert gone.sum() == 500
  assert gone[scores == 0].all()
  middle = gone[scores == 1]
  np.testing.assert_array_equal(middle, np.arange(len(middle)) < middle.sum())
  assert not gone[scores == 2].any()


def test_only_nodes_on_a_path_are_alive():
  """Node 1 of the first layer has no input; that of the second needs it."""
  live = [np.array(layer, bool) for layer in (
      [[1, 0], [1, 0]], [[1, 0], [1, 1]], [[1, 1, 1], [1, 1, 1]])]
  net = structure.Structure(
      (('a',), ('b',), ('c',)), nodes.from_features([2, 2, 2, 3]), ((), (), ()),
      tuple(live))
  kept = [np.ones(size, bool) for size in (2, 2, 2, 3)]
  scores = [np.arange(size) for size in (2, 2, 2, 3)]
  alive = [layer.tolist() for layer in _rules.alive(net, kept, scores)]
  assert alive == [[True, True], [True, False], [True, False], [True] * 3]
  # Where no path is left, the best nodes stay.
  live[0][:] = False
  alive = [layer.tolist() for layer in _rules.alive(net, kept, scores)]
  assert alive == [[True, True], [False, True], [False, True], [True] * 3]


def test_only_candidates_go():
  candidates = [np.array([True, False, True]), np.zeros(2, bool)]
  assert _gone(threshold=1, candidates=candidates) == ((0, 0), (0, 2))
  with pytest.raises(ValueError, match=r'`nodes` has \(1, 0\)'):
    _gone(named=[(1, 0)], candidates=candidates)


def test_names_are_taken_as_they_are():
  assert _gone(named=[(1, 1), (0, 0)]) == ((0, 0), (1, 1))
  with pytest.raises(ValueError, match='leaves none of layer 1'):
    _gone(named=[(1, 0), (1, 1)], spare_best=True)


@pytest.mark.parametrize('options', [
    {}, {'threshold': 1, 'fraction': 0.5}, {'threshold': float('nan')},
    {'fraction': 1.5}])
def test_errors(options):
  with pytest.raises(ValueError, match=r'`(threshold|fraction)`'):
    _gone(**options)
