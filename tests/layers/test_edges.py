"""Edges as pure functions, against the formulas in plain numpy."""

from typing import get_args
from unittest import mock

from absl.testing import parameterized
import chex
from flax import linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edges
from kan_jax.splines import _backends
from kan_jax.splines import bsplines

_N, _IN, _OUT, _GRID, _ORDER = 37, 3, 5, 4, 2


def _make_edges(seed=0, size=_IN, out=_OUT):
  """Edges with random parameters, and a mask that removes a third of them."""
  rng = np.random.default_rng(seed)
  knots = bsplines.uniform_knots(size, _GRID, _ORDER)
  # Grids of different widths, for what depends on them.
  knots *= jnp.linspace(1, 2, size)[:, None]
  arrays = (rng.random((size, out)) > 1 / 3,
            rng.normal(size=(size, _GRID + _ORDER, out)),
            rng.normal(size=(size, out)), rng.normal(size=(size, out)))
  return edges.Edges(knots, *(jnp.asarray(a, jnp.float32) for a in arrays))


def _choosing(**choices):
  """Lets programs that are traced within choose as on no real processor."""
  changed = _backends._TABLE['cpu']._replace(**choices)
  return mock.patch.object(_backends, 'choices', lambda: changed)


def _phi(x, e):
  """Equation 2.10 for every edge, [n, in, out], in float64 numpy."""
  x = np.asarray(x, np.float64)
  base = x / (1 + np.exp(-x))
  spline = np.asarray(
      bsplines.evaluate(jnp.asarray(x, jnp.float32), e.knots, e.coef, _ORDER))
  return np.asarray(e.mask) * (
      np.asarray(e.scale_base) * base[..., None]
      + np.asarray(e.scale_spline) * spline)


def _features(x, e):
  return edges.features(x, e.knots, _ORDER, nn.silu)


@jax.jit
def _statistics(x, e):
  return edges.statistics(x, e, _ORDER, nn.silu)


@jax.jit
def _slopes(x, e):
  """Gradients of mean_abs and std, summed, in the edges and the inputs."""
  def total(x, e):
    stats = edges.statistics(x, e, _ORDER, nn.silu)
    return sum(a.sum() for a in stats)
  return jax.grad(total, (0, 1))(x, e)


_X = jax.random.uniform(jax.random.key(0), (_N, _IN), minval=-1, maxval=1)
_EDGES = _make_edges()


class EdgesTest(parameterized.TestCase):

  def test_features(self):
    values = np.asarray(_features(_X, _EDGES))
    chex.assert_shape(values, (_IN, 1 + _GRID + _ORDER, _N))
    x = np.asarray(_X)
    silu = x / (1 + np.exp(-x))
    np.testing.assert_allclose(values[:, 0], silu.T, rtol=1e-5)
    # Within the grid the splines sum to one, whatever comes before them.
    np.testing.assert_allclose(values[:, 1:].sum(1), 1, atol=1e-6)

  def test_features_take_any_base_function(self):
    values = edges.features(_X, _EDGES.knots, _ORDER, jnp.sin)
    np.testing.assert_allclose(values[:, 0], np.sin(_X).T, atol=1e-6)

  def test_weights(self):
    weight = edges.weights(_EDGES)
    mask, base, spline = (np.asarray(a) for a in (
        _EDGES.mask, _EDGES.scale_base, _EDGES.scale_spline))
    expected = np.concatenate([
        (mask * base)[:, None],
        (mask * spline)[:, None] * np.asarray(_EDGES.coef)], 1)
    np.testing.assert_allclose(weight, expected, rtol=1e-6)

  def test_outputs_and_contract(self):
    values, weight = _features(_X, _EDGES), edges.weights(_EDGES)
    expected = _phi(_X, _EDGES)
    # Sums of at most 21 products of about 1 in float32.
    np.testing.assert_allclose(
        edges.outputs(values, weight), expected, atol=3e-6)
    np.testing.assert_allclose(
        edges.contract(values, weight), expected.sum(1), atol=1e-5)

  @parameterized.product(
      block=(1, 175, 10**6), outside=get_args(bsplines.Outside))
  def test_node_sums(self, block, outside):
    """Inputs one by one, some and a rest, and all at once: values, slopes."""
    def plain(x, e):
      values = edges.features(x, e.knots, _ORDER, nn.silu, outside)
      return edges.contract(values, edges.weights(e))

    def fast(x, e):
      return edges.node_sums(x, e, _ORDER, nn.silu, outside, x.dtype)

    def both(fn):
      return jax.jit(lambda x, e: (
          fn(x, e), jax.grad(lambda *a: jnp.sin(fn(*a)).sum(), (0, 1))(x, e)))

    with jax.enable_x64(True), _choosing(node_values=block):
      x, e = jax.tree.map(
          lambda a: jnp.asarray(a, jnp.float64),
          (1.5 * jax.random.normal(jax.random.key(1), (10, 5)),
           _make_edges(size=5)))
      # Sums of at most 35 products of at most about 20.
      chex.assert_trees_all_close(
          both(fast)(x, e), both(plain)(x, e), atol=1e-12)

  @parameterized.parameters(*get_args(bsplines.Outside))
  def test_node_sums_of_many_intervals(self, outside):
    """Looked up or multiplied out: values, slopes, and rows with a NaN."""
    x = 1.5 * jax.random.normal(jax.random.key(1), (20, _IN))

    def both(x, e):
      def fn(x, e):
        return edges.node_sums(x, e, _ORDER, nn.silu, outside, jnp.float32)
      return fn(x, e), jax.grad(lambda *a: jnp.sin(fn(*a)).sum(), (0, 1))(x, e)

    dense = jax.jit(both)(x, _EDGES)
    with _choosing(many=1):
      looked_up = jax.jit(both)(x, _EDGES)
      broken, _ = both(x.at[3, 1].set(jnp.nan).at[4, 0].set(1e30), _EDGES)
    chex.assert_trees_all_close(looked_up, dense, atol=3e-5)
    self.assertTrue(np.isnan(broken[3]).all())
    np.testing.assert_allclose(broken[5:], dense[0][5:], atol=3e-5)

  def test_statistics(self):
    stats = _statistics(_X, _EDGES)
    phi = _phi(_X, _EDGES)
    np.testing.assert_allclose(
        stats.mean_abs, np.abs(phi).mean(0), rtol=1e-5, atol=1e-6)
    # The square root of a variance in float32.
    np.testing.assert_allclose(
        stats.std, phi.std(0, ddof=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        stats.input_std, np.std(_X, axis=0, ddof=1), rtol=1e-5)
    np.testing.assert_allclose(stats.width, [2, 3, 4], rtol=1e-6)

  def test_masked_edges(self):
    """They are 0, have zero statistics, and no parameter of theirs learns."""
    off = np.asarray(_EDGES.mask) == 0
    self.assertTrue(off.any() and not off.all())
    phi = edges.outputs(_features(_X, _EDGES), edges.weights(_EDGES))
    np.testing.assert_array_equal(phi[:, off], 0)
    stats = _statistics(_X, _EDGES)
    np.testing.assert_array_equal(stats.mean_abs[off], 0)
    np.testing.assert_array_equal(stats.std[off], 0)
    _, slopes = _slopes(_X, _EDGES)
    chex.assert_tree_all_finite(slopes)
    for slope in (slopes.coef.swapaxes(1, 2), slopes.scale_base,
                  slopes.scale_spline):
      np.testing.assert_array_equal(slope[off], 0)
      self.assertTrue((slope[~off] != 0).any())

  @parameterized.named_parameters(
      ('one_row', _X[:1], None),
      ('constant_output', _X, 0.0),
      ('constant_spline', _X, 0.7),
      ('constant_inputs', jnp.full((_N, _IN), 0.3), None),
      ('constant_at_zero', jnp.zeros((_N, _IN)), None))
  def test_finite(self, x, constant):
    """No deviation, hence the derivative of a root at zero (case N12)."""
    e = _EDGES._replace(mask=jnp.ones_like(_EDGES.mask))
    if constant is not None:
      # Equal coefficients make a constant spline; edge (0, 0) is one.
      e = e._replace(coef=e.coef.at[0, :, 0].set(constant),
                     scale_base=e.scale_base.at[0, 0].set(0))
    stats = _statistics(x, e)
    chex.assert_tree_all_finite((stats, _slopes(x, e)))
    if constant is not None:
      np.testing.assert_allclose(
          stats.mean_abs[0, 0], abs(constant * e.scale_spline[0, 0]), rtol=1e-5)
      # The variance has the rounding of its terms, about 0.7**2 * 6e-8.
      self.assertLess(stats.std[0, 0], 2e-4)
      self.assertGreater(stats.std[1, 0], 1e-2)
    elif len(x) == 1:
      np.testing.assert_array_equal(stats.std, 0)
      np.testing.assert_array_equal(stats.input_std, 0)
    else:
      # A mean of equal values rounds in the last place.
      np.testing.assert_allclose(stats.std, 0, atol=1e-6)
      np.testing.assert_allclose(stats.input_std, 0, atol=1e-6)


class ChunksTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 3, 7)
  def test_chunks_change_nothing(self, inputs_at_a_time):
    """Chunks that divide the 7 inputs, that do not, and a single one."""
    e = _make_edges(size=7)
    x = jax.random.normal(jax.random.key(1), (_N, 7))
    expected = _statistics(x, e)
    with _choosing(edge_values=inputs_at_a_time * _N * _OUT):
      stats = edges.statistics(x, e, _ORDER, nn.silu)
    chex.assert_trees_all_close(stats, expected, rtol=1e-5, atol=1e-6)

  def test_chunks_have_the_same_gradient(self):
    x = jax.random.normal(jax.random.key(1), (_N, _IN))
    expected = _slopes(x, _EDGES)
    with _choosing(edge_values=2 * _N * _OUT):
      slopes = jax.jit(_slopes.__wrapped__)(x, _EDGES)
    chex.assert_trees_all_close(slopes, expected, rtol=1e-4, atol=1e-5)

  def test_no_array_of_all_edge_values(self):
    """Neither forward nor backward, on 4096 rows of 784 inputs to 64 nodes."""
    n, size, out = 4096, 784, 64
    e = edges.Edges(*(
        jax.ShapeDtypeStruct((size, *a.shape[1:-1], last), a.dtype)
        for a, last in zip(_EDGES, (_EDGES.knots.shape[1], *4 * [out]),
                           strict=True)))
    x = jax.ShapeDtypeStruct((n, size), jnp.float32)
    for f in (_statistics, _slopes):
      largest = max(_sizes(jax.make_jaxpr(f)(x, e).jaxpr))
      # The inputs themselves are the largest array.
      self.assertLessEqual(largest, n * size)

  def test_the_search_sees_an_array_of_all_edge_values(self):
    """What the test above looks for, it would find."""
    jaxpr = jax.make_jaxpr(jax.jit(lambda x, e: jnp.abs(
        edges.outputs(_features(x, e), edges.weights(e))).mean(0)))(
            _X, _EDGES).jaxpr
    self.assertGreaterEqual(max(_sizes(jaxpr)), _N * _IN * _OUT)


def _sizes(jaxpr):
  """Yields the size of every array in a program and the programs in it."""
  for equation in jaxpr.eqns:
    for var in equation.outvars:
      yield getattr(var.aval, 'size', 0)
    for value in equation.params.values():
      for inner in value if isinstance(value, list | tuple) else [value]:
        if isinstance(inner, jax.extend.core.ClosedJaxpr):
          inner = inner.jaxpr
        if isinstance(inner, jax.extend.core.Jaxpr):
          yield from _sizes(inner)
