"""A network as one value: pykan's flow, and that nothing is changed."""

import jax
import numpy as np
import optax
import pytest
import sympy

import kan_jax

_X = np.random.default_rng(0).uniform(-1, 1, (200, 2))
_Y = 3 * _X[:, 0]**2 + 0.5 * _X[:, 1]
_LIBRARY = [f for f in kan_jax.LIBRARY if f.name in ('x', 'x^2', 'sin')]


@pytest.fixture(scope='module')
def fitted():
  kan = kan_jax.Network(kan_jax.KAN([2, 1], grid=3))
  return kan.fit(_X, _Y, steps=20, progress=False)


def test_flow_from_rows_to_a_formula(fitted):
  """A parabola and a line are splines, so the fit is exact but for rounding."""
  np.testing.assert_allclose(fitted.predict(_X), _Y, atol=1e-6)
  kan = fitted.prune().auto_symbolic(library=_LIBRARY)
  kan = kan.fit(steps=10, progress=False)
  assert [choice.best.name for choice in kan.choices] == ['x^2', 'x']
  a, b = sympy.symbols('a b')
  formula = kan.formula(names=['a', 'b'])
  # Values, as the same formula may be written in other ways.
  values = sympy.lambdify([a, b], formula)(*_X.T)
  np.testing.assert_allclose(values, _Y, atol=1e-8)


def test_nothing_is_changed(fitted):
  before = jax.tree.map(np.array, fitted.variables)
  others = [
      fitted.refine(6), fitted.fix(0, 0, 0, 'x^2'), fitted.prune(edges=10)]
  assert len({id(kan) for kan in (fitted, *others)}) == 4
  jax.tree.map(np.testing.assert_array_equal, before, fitted.variables)
  with pytest.raises(AttributeError):
    fitted.seed = 1


def test_float64_inside_alone(fitted):
  assert fitted.predict(_X).dtype == np.float64
  assert {leaf.dtype.name for leaf in jax.tree.leaves(fitted.variables)} == {
      'float64'}
  assert not jax.config.jax_enable_x64


def test_refinement_keeps_the_function(fitted):
  np.testing.assert_allclose(
      fitted.refine(6).predict(_X), fitted.predict(_X), atol=1e-12)


def test_fix_and_unfix_an_edge(fitted):
  fixed = fitted.fix(0, 1, 0, 'x')
  np.testing.assert_allclose(fixed.predict(_X), _Y, atol=1e-6)
  assert '1 of them functions' in repr(fixed)
  np.testing.assert_allclose(
      fixed.unfix(0, 1, 0).predict(_X), fitted.predict(_X), atol=1e-12)
  assert fitted.suggest(0, 0, 0)[0].name == 'x^2'


def test_scores_and_pruning(fitted):
  shares = fitted.attribution().nodes[0]
  # Standard deviations of 3 u^2 and u / 2 for uniform u.
  np.testing.assert_allclose(
      shares[0] / shares[1], 3 * np.sqrt(4 / 45) / (0.5 / np.sqrt(3)), rtol=0.2)
  pruned = fitted.prune(edges=0.5)
  assert pruned.report.removed_edges == ((0, 1, 0),)
  assert repr(pruned).startswith('Network [2, 1], 1 edges')


def test_targets_of_several_columns():
  y = np.stack([_Y, -_Y], 1)
  kan = kan_jax.Network(kan_jax.KAN([2, 2], grid=3)).fit(
      _X, y, steps=30, progress=False)
  np.testing.assert_allclose(kan.predict(_X), y, atol=1e-6)


def test_labels_and_a_loss_of_ones_own():
  labels = (_X[:, 0] > 0).astype(int)
  kan = kan_jax.Network(kan_jax.KAN([2, 2], grid=3)).fit(
      _X, labels, steps=20, progress=False,
      loss_fn=optax.softmax_cross_entropy_with_integer_labels)
  assert (kan.predict(_X).argmax(1) == labels).mean() > 0.95


def test_variables_from_elsewhere_become_float64():
  model = kan_jax.KAN([2, 1], grid=3)
  variables = model.init(jax.random.key(0), _X)
  kan = kan_jax.Network(model, variables)
  assert {leaf.dtype.name for leaf in jax.tree.leaves(kan.variables)} == {
      'float64'}
  # A few roundings of float32.
  np.testing.assert_allclose(
      kan.predict(_X), model.apply(variables, _X), atol=1e-5)


def test_errors(fitted):
  with pytest.raises(ValueError, match=r'`model`.*kan_jax.KAN\(\[2, 5, 1\]\)'):
    kan_jax.Network([2, 1])
  empty = kan_jax.Network(kan_jax.KAN([2, 1]))
  assert repr(empty) == 'Network [2, 1], not fitted'
  with pytest.raises(ValueError, match='`x` and `y` are needed'):
    empty.fit()
  with pytest.raises(ValueError, match='call `fit` first'):
    empty.predict(_X)
  with pytest.raises(ValueError, match='still has splines on 2 edges'):
    fitted.formula()
