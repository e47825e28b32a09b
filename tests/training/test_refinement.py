"""Refinement: the same function on more intervals, training undisturbed."""

import functools
from typing import get_args

from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import interpolate

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.splines import bsplines
from kan_jax.splines import grids
from kan_jax.training import refinement
from kan_jax.training import train_steps

_RNG = np.random.default_rng(0)
_X = jnp.asarray(_RNG.uniform(-1, 1, (60, 2)), jnp.float32)
_Y = jnp.sin(3 * _X[:, 0]) * _X[:, 1]
_TOLERANCE = {jnp.float32: 1e-6, jnp.float64: 1e-12}


@functools.partial(jax.jit, static_argnames=('order', 'sizes'))
def _refine(knots, coef, order, sizes):
  return [grids.refine_grid(knots, coef, order, grid) for grid in sizes]


def _splines(order, dtype):
  """An even and an uneven grid of 4 intervals, and coefficients of size 1."""
  rng = np.random.default_rng(order)
  breaks = np.stack([np.linspace(-1, 1, 5), [-1, -0.9, 0, 0.2, 1]])
  step = 0.5 * np.arange(1, order + 1)
  ends = np.ones((2, 1)) * step
  knots = np.concatenate([-1 - ends[:, ::-1], breaks, 1 + ends], 1)
  coef = rng.uniform(-1, 1, (2, 4 + order, 3))
  return jnp.asarray(knots, dtype), jnp.asarray(coef, dtype)


def _scipy(knots, coef, order):
  """The splines of one input, also beyond the grid, where they fall to zero."""
  knots, coef = np.asarray(knots, float), np.asarray(coef, float)
  far = np.arange(1, order + 2)
  return interpolate.BSpline(
      np.concatenate([knots[0] - far[::-1], knots, knots[-1] + far]),
      np.pad(coef, ((order + 1, order + 1), (0, 0))), order)


class RefineLayerTest(parameterized.TestCase):

  @parameterized.product(
      order=tuple(range(6)), dtype=(jnp.float32, jnp.float64))
  def test_same_function_by_scipy(self, order, dtype):
    """On nested grids and others, even and uneven, inside and beyond."""
    with jax.enable_x64(dtype == jnp.float64):
      knots, coef = _splines(order, dtype)
      refined = _refine(knots, coef, order, (4, 7, 12))
    # Past the knots and back; no point is on a knot, where order 0 jumps.
    x = np.linspace(-1 - order, 1 + order, 313)[1:-1] + 1e-4
    for grid, (new_knots, new_coef) in zip((4, 7, 12), refined, strict=True):
      chex.assert_shape(new_knots, (2, grid + 2 * order + 1))
      chex.assert_shape(new_coef, (2, grid + order, 3))
      chex.assert_type((new_knots, new_coef), dtype)
      self.assertGreater(np.diff(new_knots).min(), 0)
      for i in range(2):
        np.testing.assert_allclose(
            _scipy(new_knots[i], new_coef[i], order)(x),
            _scipy(knots[i], coef[i], order)(x), atol=_TOLERANCE[dtype])

  @parameterized.parameters(*range(1, 6))
  def test_matches_insertion_by_scipy(self, order):
    with jax.enable_x64(True):
      knots, coef = _splines(order, jnp.float64)
      (new_knots, new_coef), = _refine(knots, coef, order, (7,))
    for i in range(2):
      spline = interpolate.BSpline(
          np.asarray(knots[i]), np.asarray(coef[i]), order)
      for knot in sorted(set(np.asarray(new_knots[i])) - set(spline.t)):
        spline = spline.insert_knot(knot)
      np.testing.assert_array_equal(spline.t, new_knots[i])
      np.testing.assert_allclose(spline.c, new_coef[i], atol=1e-12)

  def test_old_breaks_stay(self):
    knots, coef = _splines(3, jnp.float32)
    (new_knots, _), (twice, _) = _refine(knots, coef, 3, (7, 8))
    for i in range(2):
      self.assertContainsSubset(
          np.asarray(knots[i]).tolist(), np.asarray(new_knots[i]).tolist())
    # Each interval in halves.
    breaks = np.asarray(bsplines.interior(knots, 3))
    np.testing.assert_allclose(
        bsplines.interior(twice, 3)[:, 1::2],
        (breaks[:, 1:] + breaks[:, :-1]) / 2, atol=1e-7)

  @parameterized.parameters(*range(6))
  def test_ones_stay_ones(self, order):
    knots, coef = _splines(order, jnp.float32)
    for _, new_coef in _refine(
        knots, jnp.ones_like(coef), order, (4, 7, 12)):
      np.testing.assert_allclose(new_coef, 1, atol=1e-6)

  @parameterized.product(
      outside=get_args(bsplines.Outside), dtype=(jnp.float32, jnp.float64))
  def test_same_function_outside(self, outside, dtype):
    with jax.enable_x64(dtype == jnp.float64):
      knots, coef = _splines(3, dtype)
      x = jnp.asarray(np.tile(np.linspace(-3, 3, 61)[:, None], (1, 2)), dtype)
      before, after = (
          bsplines.evaluate(x, *held, 3, outside=outside)
          for held in ((knots, coef), *_refine(knots, coef, 3, (7,))))
    # Slopes at the ends, of size 20, carry the tangents 2 further, and what the
    # polynomials reach there is of size 300.
    scale = {'linear': 41, 'polynomial': 300}.get(outside, 1)
    np.testing.assert_allclose(after, before, atol=scale * _TOLERANCE[dtype])

  @parameterized.parameters(
      (3, '`grid` must be at least the 4 intervals.*got 3'),
      (0, '`grid` is a whole number >= 1; got 0'),
      (8.0, '`grid` is a whole number >= 1; got 8.0'))
  def test_impossible_sizes(self, grid, message):
    with self.assertRaisesRegex(ValueError, message):
      grids.refine_grid(*_splines(3, jnp.float32), 3, grid)


class Net(nn.Module):
  """A KAN among others."""
  grid: int = 3

  @nn.compact
  def __call__(self, x):
    return nn.Dense(1)(linen.KAN([3, 2], grid=self.grid, name='kan')(
        nn.Dense(3)(x)))


class RefineModelTest(parameterized.TestCase):

  def test_model_that_holds_a_kan(self):
    variables = jax.jit(Net().init)(jax.random.key(0), _X)

    @jax.jit
    def outputs(variables):
      new = edits.refine_variables(variables, 8)
      return Net().apply(variables, _X), Net(grid=8).apply(new, _X), new

    before, after, new = outputs(variables)
    np.testing.assert_allclose(after, before, atol=1e-6)
    same = jax.tree.map(lambda a, b: a.shape == b.shape, variables, new)
    self.assertEqual(same['params']['kan']['layers_0'], {
        'coef': False, 'scale_base': True, 'scale_spline': True,
        'node_bias': True})
    self.assertEqual(
        same['grid']['kan']['layers_0'], {'knots': False, 'mask': True})
    for name in ('Dense_0', 'Dense_1'):
      chex.assert_trees_all_equal(
          new['params'][name], variables['params'][name])

  def test_model_without_any(self):
    variables = {'params': {'Dense_0': {'bias': jnp.zeros(1)}}, 'grid': {}}
    with self.assertRaisesRegex(ValueError, '`variables` hold no KAN layer'):
      edits.refine_variables(variables, 8)

  def test_fewer_intervals(self):
    with self.assertRaisesRegex(ValueError, 'at least the 5 intervals'):
      edits.refine_variables(networks.kan([2, 1]), 4)


def _squares(outputs, y):
  return jnp.square(outputs[:, 0] - y)


_NET = linen.KAN([2, 3, 1])
_FINE = _NET.clone(grid=10)
_apply, _apply_fine = jax.jit(_NET.apply), jax.jit(_FINE.apply)


def _make_step(model, tx):
  return jax.jit(train_steps.make_train_step(
      train_steps.make_objective(model, _squares), tx))


class RefineStateTest(parameterized.TestCase):

  def _moves(self, tx):
    """How the next step moves the outputs: coarse, refined, and afresh."""
    coarse, fine = _make_step(_NET, tx), _make_step(_FINE, tx)
    state = networks.state(networks.kan([2, 3, 1]), tx)
    for _ in range(30):
      state, _ = coarse(state, (_X, _Y))
    refined = jax.jit(
        lambda s: refinement.refine_state(_NET, s, 10, tx)[1])(state)
    chex.assert_trees_all_equal_shapes(
        refined.opt_state, tx.init(refined.params))
    afresh = refined.replace(opt_state=tx.init(refined.params))
    moves, losses = [], []
    for apply, step, begin in (
        (_apply, coarse, state), (_apply_fine, fine, refined),
        (_apply_fine, fine, afresh)):
      end, metrics = step(begin, (_X, _Y))
      before, after = (apply(s.variables, _X) for s in (begin, end))
      moves.append(np.asarray(after - before)[:, 0])
      losses.append(metrics['loss'])
    np.testing.assert_allclose(losses, losses[0], rtol=1e-5)
    return state, refined, moves

  def test_adam_does_not_jump(self):
    state, refined, (coarse, fine, afresh) = self._moves(optax.adam(0.01))
    for nu in jax.tree.leaves(refined.opt_state[0].nu):
      self.assertGreaterEqual(nu.min(), 0)
    self.assertEqual(refined.opt_state[0].count, 30)
    # What it keeps for parameters without a grid stays.
    for old, new in zip(state.opt_state[0][1:], refined.opt_state[0][1:],
                        strict=True):
      for name in ('scale_base', 'scale_spline', 'node_bias'):
        np.testing.assert_array_equal(
            new['layers_0'][name], old['layers_0'][name])
    size = np.linalg.norm(coarse)
    self.assertLess(np.linalg.norm(fine - coarse), 0.25 * size)
    self.assertGreater(np.linalg.norm(afresh - coarse), size)

  def test_momentum_is_carried_over(self):
    _, refined, (coarse, fine, afresh) = self._moves(
        optax.sgd(0.003, momentum=0.9))
    self.assertEqual(refined.step, 30)
    size = np.linalg.norm(coarse)
    self.assertLess(np.linalg.norm(fine - coarse), 0.25 * size)
    self.assertGreater(np.linalg.norm(afresh - coarse), 0.5 * size)

  def test_adafactor(self):
    """Second moments shrink as the square of gradients on a finer grid."""
    tx = optax.adafactor(0.01)
    state = networks.state(networks.kan([2, 1]), tx)
    state = state.replace(opt_state=jax.tree.map(
        jnp.ones_like, state.opt_state))
    refined = refinement.refine_state(linen.KAN([2, 1]), state, 10, tx)[1]
    v = refined.opt_state[0].v['layers_0']
    np.testing.assert_allclose(v['coef'], np.full((2, 13, 1), 0.25), rtol=1e-6)
    np.testing.assert_array_equal(v['scale_base'], np.ones((2, 1)))

  def test_a_state_without_names_is_spread_alone(self):
    """A transform of one's own may keep anything; no degree is known of it."""
    tx = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.ones_like, params),
        lambda updates, state, params=None: (updates, state))
    state = networks.state(networks.kan([2, 1]), tx)
    refined = refinement.refine_state(linen.KAN([2, 1]), state, 10, tx)[1]
    chex.assert_trees_all_close(
        refined.opt_state, tx.init(refined.params), rtol=1e-6)

  @parameterized.parameters({}, {'linesearch': None})
  def test_memory_of_other_shapes_is_refused(self, **options):
    tx = optax.lbfgs(memory_size=3, **options)
    state = networks.state(networks.kan([2, 1]), tx)
    with self.assertRaisesRegex(
        ValueError, r'`tx` keeps .*; use `refine` and `tx.init`'):
      refinement.refine_state(linen.KAN([2, 1]), state, 10, tx)
