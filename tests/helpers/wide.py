"""A KAN with products that the tests of pruning cut, and how they look at it.
"""

from absl.testing import parameterized
import chex
import jax
import jax.numpy as jnp
import numpy as np

from helpers import networks
from kan_jax.layers import linen
from kan_jax.layers import traversal

X = jnp.asarray(
    np.random.default_rng(0).uniform(-1, 1, (60, 3)), jnp.float32)
MODEL = linen.KAN([3, [2, 2], 2])
VARIABLES = networks.stack(
    networks.layer(3, 6), networks.layer(4, 2, seed=1))


def values(model, variables, x=X):
  """Values of the edges of every layer, [n, in, terms]."""
  return [np.asarray(view.edge_outputs(view.inputs))
          for view in traversal.view_layers(model, variables, x).values()]


def without_biases():
  """The model with `bias=False`, and its variables."""
  params = {path: {k: v for k, v in layer.items() if k != 'node_bias'}
            for path, layer in VARIABLES['params'].items()}
  return MODEL.clone(bias=False), VARIABLES | {'params': params}


class Case(parameterized.TestCase):
  """Fails if a test changes the variables."""

  def setUp(self):
    super().setUp()
    held = jax.tree.map(np.array, VARIABLES)
    self.addCleanup(chex.assert_trees_all_equal, VARIABLES, held)
