"""Functions of edges by the loss of the whole model."""

from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np

import kan_jax
from kan_jax import symbolic
from kan_jax.layers import linen
from kan_jax.training import optimizers

_LIBRARY = [f for f in kan_jax.LIBRARY if f.name in ('x', 'x^2', 'sin')]


def test_the_best_function_of_a_model_that_is_not_trained():
  """Fitted to its random spline, the edge would be anything."""
  with jax.enable_x64(True):
    x = jnp.linspace(-1, 1, 80)[:, None]
    y = 2 * x**2 - 1
    model, variables = linen.KAN([1, 1]), networks.kan(
        [1, 1], dtype=jnp.float64)
    new, fixed, [choice] = symbolic.auto_symbolic_by_loss(
        model, variables, x, y, library=_LIBRARY, steps=30,
        optimizer=optimizers.LevenbergMarquardt())
    np.testing.assert_allclose(new.apply(fixed, x), y, atol=1e-6)
    assert (choice.edge, choice.best.name) == ((0, 0), 'x^2')
    assert model.symbolic == ()
    errors = optimizers.squared_error(model.apply(variables, x), y)
    assert errors.mean() > 0.1


def test_candidates():
  x = jnp.ones((3, 1))
  with np.testing.assert_raises_regex(ValueError, '`candidates`.*got 0'):
    symbolic.auto_symbolic_by_loss(
        linen.KAN([1, 1]), networks.kan([1, 1]), x, x, candidates=0)
