"""Models whose edges all carry functions, as numbers."""

from helpers import networks
import jax
import numpy as np
import pytest

import kan_jax
from kan_jax.symbolic import _closed


def _model(params):
  """A KAN [2, 1] with x^2 and x on its edges."""
  with jax.enable_x64(True):
    model, variables = kan_jax.KAN([2, 1]), networks.kan(
        [2, 1], dtype=np.float64)
    for i, (name, numbers) in enumerate(params):
      model, variables = kan_jax.fix(
          model, variables, None, 0, i, 0, name, params=numbers)
  return model, variables


def test_numbers_are_those_of_the_model():
  model, variables = _model([('x^2', (2, 0.5, 3, 1)), ('x', (1, 0, -4, 0))])
  [layer] = _closed.read(model, variables)
  assert [(e.i, e.o, e.function.name, e.a, e.b, e.c, e.d)
          for e in layer.edges] == [
              (0, 0, 'x^2', 2, 0.5, 3, 1), (1, 0, 'x', 1, 0, -4, 0)]
  x = np.random.default_rng(0).uniform(-1, 1, (20, 2))
  with jax.enable_x64(True):
    expected = model.apply(variables, x)
  np.testing.assert_allclose(_closed._apply(layer, x), expected, atol=1e-12)


def test_numbers_that_change_nothing_are_dropped():
  """A shift of 1e-13, and an edge of that size, beside a parabola of size 1."""
  model, variables = _model(
      [('x^2', (1, 1e-13, 1, 0)), ('x', (1, 0, 1e-13, 0))])
  x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
  [layer] = _closed.drop_idle(_closed.read(model, variables), x, wide=True)
  [edge] = layer.edges
  assert (edge.function.name, edge.b) == ('x^2', 0)
  [kept] = _closed.zero_small(_closed.read(model, variables), 0.0)
  assert len(kept.edges) == 2 and kept.edges[0].b == 1e-13


def test_splines_are_no_numbers():
  model, variables = _model([('x', (1, 0, 1, 0))])
  with pytest.raises(ValueError, match=r'1 edges.*layers_0 1 -> 0'):
    _closed.read(model, variables)
