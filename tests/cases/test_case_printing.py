"""What the library hands out prints as a few lines that say something."""

import re

from absl.testing import parameterized
from helpers import networks
import numpy as np
import optax

import kan_jax
from kan_jax import layers
from kan_jax import training

_X = np.random.default_rng(0).uniform(-1, 1, (20, 2)).astype(np.float32)
_MODEL = kan_jax.KAN([2, 3, 1])
_VARIABLES = networks.kan([2, 3, 1])


def _values():
  views = layers.view_layers(_MODEL, _VARIABLES, _X)
  yield from (
      _MODEL, kan_jax.KANLayer(2), kan_jax.GridUpdate(), kan_jax.LBFGS(),
      kan_jax.LevenbergMarquardt(), kan_jax.Penalty(), kan_jax.LIBRARY[5],
      kan_jax.KANRegressor(), kan_jax.KANClassifier(alpha=1.0),
      kan_jax.Network(_MODEL), training.OptaxTransform(optax.adam(1e-3)),
      next(iter(views.values())), kan_jax.attribution(_MODEL, _VARIABLES, _X),
      kan_jax.prune_edges(_MODEL, _VARIABLES, _X, threshold=0.1)[2])


class PrintingTest(parameterized.TestCase):

  def test_nothing_prints_functions_or_pages(self):
    for value in _values():
      text = repr(value)
      self.assertIsNone(re.search('<function|functools|0x', text), text)
      self.assertLessEqual(len(text.splitlines()), 30, text)

  def test_scores_are_a_line_each_the_highest_first(self):
    scores = kan_jax.pruning.Scores(
        (np.array([[0.2, 0.7]]), np.array([[0.1], [0.0]])),
        (np.array([0.9]), np.array([0.6, 0.3]), np.array([1.0])))
    self.assertEqual(str(scores), '''Scores of edges:
  layer 0, 0 -> 1: 0.7
  layer 0, 0 -> 0: 0.2
  layer 1, 0 -> 0: 0.1
  layer 1, 1 -> 0: 0
Scores of nodes:
  layer 2, node 0: 1
  layer 0, node 0: 0.9
  layer 1, node 0: 0.6
  layer 1, node 1: 0.3''')

  def test_of_many_scores_the_highest_are_shown(self):
    many = kan_jax.pruning.Scores(
        (np.linspace(0, 1, 5000).reshape(50, 100),),
        (np.ones(50), np.ones(100)))
    lines = str(many).splitlines()
    self.assertLen(lines, 28)
    self.assertEqual(lines[1], '  layer 0, 49 -> 99: 1')
    self.assertEqual(lines[13], '  and 4,988 more, of 0.998 or less')
