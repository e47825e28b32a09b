"""Fits c * f(a * x + b) + d to the samples of edges, some edges at a time.

Everything happens in normalized units, x on [-1, 1] and y with mean 0 and
standard deviation 1, so that the units of x and y change nothing. c and d
follow from a and b, see `_affine_steps`: the search has two dimensions only. A
grid finds where to start. Levenberg-Marquardt steps go on from the best point
of each part of the grid.

The work is done in float64 whatever the global setting of JAX. Arrays leave
and return to the host, so this cannot be used inside a jitted function.
"""

from collections.abc import Callable
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import functions
from kan_jax.splines import _backends
from kan_jax.symbolic import _affine_steps
from kan_jax.symbolic import _samples

# The grid: steepness a, and the x where the argument of f is zero, -b / a. Both
# are split into parts of equal size. The best point of each part is a start.
_STEEP = np.concatenate([
    np.geomspace(0.03, 1, 14), 1 + 0.94 * np.arange(1, 43)])
_BEYOND = 1 + np.geomspace(1e-3, 30, 10)
_ZEROS = np.concatenate([
    -_BEYOND, np.linspace(-1, 0, 10), np.linspace(0, 1, 10), _BEYOND])
_PART = (14, 10)


def _make_grid() -> np.ndarray:
  """All pairs of a and b, [grid, 2], one part after the other."""
  steep, zeros = np.broadcast_arrays(
      np.concatenate([_STEEP, -_STEEP])[:, None], _ZEROS[None])
  grid = np.stack([steep, -steep * zeros], -1)
  grid = grid.reshape(-1, _PART[0], len(_ZEROS) // _PART[1], _PART[1], 2)
  return grid.swapaxes(1, 2).reshape(-1, 2)


_GRID = _make_grid()

_STEPS = (15, 40, 4)  # Most steps of each stage.
_BEST = 4  # Starts that take the second steps.
_GRID_BLOCK = len(_GRID) * _samples.STAGES[0]  # Values at a time on the grid.
_ALIKE = 1.01  # Factor between residuals that are as good as equal.
_TINY = 1e-300
_EXACT = 1e-24  # Residuals that float64 does not tell from 0.

_LINES = 20  # Of a fit that is printed.

Elementwise = Callable[[jax.Array], jax.Array]


class AffineFit(NamedTuple):
  """The best c * f(a * x + b) + d for each edge; float64, each [edges].

  Attributes:
    a: Factor of the argument; this and the next three are in the units of x and
      y as given.
    b: Shift of the argument.
    c: Factor of the value.
    d: Shift of the value.
    residual: Sum of squared errors over that of the best constant; of a
      constant edge 0. The errors are those of a model that computes in the
      dtype of x; in float64 they get far below 1e-16.
    r2: 1 - residual; -inf, and c 0, where f is not finite on all samples in
      float64 and in the dtype of x.
    parameters: How many of the four numbers the fit needs: always c and d, a
      unless +-1 fits as well, b unless 0 fits as well.
    at_boundary: Whether a lies where the search ends, or beyond. Then a better
      fit may lie still further, or only the tangent of f is of use.
  """
  a: np.ndarray
  b: np.ndarray
  c: np.ndarray
  d: np.ndarray
  residual: np.ndarray
  r2: np.ndarray
  parameters: np.ndarray
  at_boundary: np.ndarray

  def __repr__(self) -> str:
    columns = [np.atleast_1d(field) for field in self]
    lines = [
        f'  {k}: r2 {r2:.6g}, a {a:.6g}, b {b:.6g}, c {c:.6g}, d {d:.6g}'
        for k, (a, b, c, d, _, r2, *_) in enumerate(zip(*columns, strict=True))]
    hidden = len(lines) - _LINES
    if hidden > 0:
      lines[_LINES:] = [f'  ... and {hidden} more']
    return '\n'.join([f'AffineFit, edges: {len(columns[0])}', *lines])


def fit_affine(
    function: functions.Function, x: np.ndarray | jax.Array,
    y: np.ndarray | jax.Array) -> AffineFit:
  """Fits one function to every edge.

      fit = fit_affine(functions.find('sin'), x, y)

  Args:
    function: Candidate f.
    x: Inputs of each edge, [n, edges], n >= 1.
    y: Outputs of each edge, [n, edges].

  Returns:
    The best fits. The steepness is searched up to 40 over half the range of x,
    which is 13 periods of a sine within the range, and no further than the
    samples resolve. All samples decide, but for a and b at most 2**17 of them.

  Raises:
    ValueError: If `x` and `y` differ in shape, are empty or not finite.
  """
  fits = [fit_chunk(function, samples) for samples in _samples.chunks(x, y)]
  return AffineFit(*(np.concatenate(field)
                     for field in zip(*fits, strict=True)))


# The search.


def fit_chunk(
    function: functions.Function, samples: _samples.Samples) -> AffineFit:
  """Fits one function to the edges of one of the chunks."""
  # Outside its domain a function is NaN, which is no mistake here.
  with jax.enable_x64(True), jax.debug_nans(False), jax.debug_infs(False):
    point, needs_a, needs_b, at_boundary = _search(function.fn, samples)
    a, b, c, d, residual = _in_units(function.fn, point, samples)
  fit = AffineFit(a, b, c, d, residual, 1 - residual, 2 + needs_a + needs_b,
                  at_boundary)
  return AffineFit(*(field[:samples.edges] for field in fit))


def _search(fn: Elementwise, samples: _samples.Samples):
  """Returns the best point of each edge, what it needs, and if it is at an end.

  Returns:
    a and b in normalized units, [edges, 2]; whether a and whether b are needed,
    and whether the search ended at its limits, each [edges].
  """
  few, many, most = samples.thinned
  # The grid. An edge at a time: its grid fits into a cache, the grids of all
  # edges do not.
  starts = jnp.concatenate([
      _starts(_values(fn, _GRID[None], u, _GRID_BLOCK), v, limit)
      for u, v, limit in zip(
          *(np.split(field, len(field)) for field in (*few, samples.limit)),
          strict=True)])
  # Steps from many starts on few samples, then from the best on more.
  points, costs = _refine(fn, *few, starts, _STEPS[0])
  points = _gentlest(points, costs, _BEST)
  points, costs = _refine(fn, *many, points, _STEPS[1])
  point = _zoom(fn, *many, _gentlest(points, costs, 1)[:, 0])
  # Few samples are enough to find the minimum, but under noise not to say where
  # it is: the last steps see all.
  if most[0].shape != many[0].shape:
    points, _ = _refine(fn, *most, point[:, None], _STEPS[2])
    point = np.asarray(points)[:, 0]
  size = np.abs(point[:, 0])
  ends = (size <= _STEEP[0]) | (size >= np.minimum(samples.limit, _STEEP[-1]))
  point, needs_a, needs_b = _tidy(fn, *many, point, samples)
  return point, needs_a, needs_b, ends & needs_a


@jax.jit
def _starts(values, v, limit):
  """Returns the best point of each part of the grid, [edges, starts, 2]."""
  scores = _affine_steps.correlation(values, v[:, None])
  scores = jnp.where(
      np.abs(_GRID[None, :, 0]) <= limit[:, None], scores, -1)
  size = math.prod(_PART)
  best = scores.reshape(len(v), -1, size).argmax(2)
  return jnp.asarray(_GRID)[best + size * np.arange(best.shape[1])[None]]


def _refine(fn, u, v, points, steps):
  """Takes Levenberg-Marquardt steps; returns points and costs of each start."""
  state = _affine_steps.linearize(points, *_slopes(fn, points, u), u, v)
  best = np.inf
  for i in range(steps):
    if i % 10 == 9:  # Looked at seldom: it waits for the device.
      cost = np.asarray(state.cost)
      if not (cost < 0.999 * best).any():
        break
      best = cost
    tried = _affine_steps.propose(state)
    new = _affine_steps.linearize(tried, *_slopes(fn, tried, u), u, v)
    state = _affine_steps.choose(state, new)
  return state.point, state.cost


def _gentlest(points, costs, count):
  """The best points of each edge, [edges, count, 2].

  Some points fit alike, as a frequency and its alias, or a phase and the next.
  Of these the ones with the least a and b come first.
  """
  points, costs = np.asarray(points), np.asarray(costs)
  alike = np.round(np.log2(np.minimum(costs, 1e9) + _EXACT))
  size = np.abs(points) @ np.array([1, 0.01])
  order = np.lexsort((size, alike))[:, :count, None]
  return np.take_along_axis(points, order, 1)


def _zoom(fn, u, v, point):
  """Moves the jump of a function that has no slope, as sgn, to where it fits.

  Steps need a slope, so places are tried. Of those that fit alike, the middle
  is taken.
  """
  if np.asarray(_slopes(fn, point[:, None], u)[1]).any():
    return point
  for width in (0.12, 0.008):  # The grid's zeros are 0.11 apart.
    zeros = -point[:, 1:] / point[:, :1] + np.linspace(-width, width, 33)
    choice = point[:, :1, None] * np.stack([np.ones_like(zeros), -zeros], -1)
    state = _affine_steps.linearize(choice, *_slopes(fn, choice, u), u, v)
    cost = np.asarray(state.cost)
    alike = cost <= cost.min(1, keepdims=True) + _EXACT
    zero = (zeros * alike).sum(1) / alike.sum(1)
    point = np.stack([point[:, 0], -point[:, 0] * zero], -1)
  return point


# Values of f. What depends on f is compiled once for each f, for blocks of one
# size whatever the number of edges and samples; what does not, once for all f.


@functools.partial(jax.jit, static_argnums=0)
def _values_of_block(fn, z):
  return fn(z)


@functools.partial(jax.jit, static_argnums=0)
def _slopes_of_block(fn, z):
  return jax.jvp(fn, (z,), (jnp.ones_like(z),))


@functools.partial(jax.jit, static_argnums=2)
def _arguments(points, u, size):
  """a * u + b of points [edges, starts, 2] in blocks; the last one filled."""
  z = (points[..., :1] * u[:, None] + points[..., 1:]).reshape(-1)
  z = jnp.pad(z, (0, -z.size % size), 'edge')
  return list(z.reshape(-1, size))


@functools.partial(jax.jit, static_argnums=1)
def _join(blocks, shape):
  """Blocks of values as one array."""
  return jnp.concatenate(blocks)[:math.prod(shape)].reshape(shape)


def _values(fn, points, u, size):
  """f, [edges, starts, n], at points [edges, starts, 2]; dtype as u."""
  blocks = [_values_of_block(fn, z) for z in _arguments(points, u, size)]
  return _join(blocks, (len(u), points.shape[1], u.shape[1]))


def _slopes(fn, points, u):
  """f and its derivative, both [edges, starts, n]; as `_values` else."""
  blocks = [_slopes_of_block(fn, z) for z in _arguments(
      points, u, _backends.choices().fit_values)]
  shape = (len(u), points.shape[1], u.shape[1])
  return [_join(list(parts), shape) for parts in zip(*blocks, strict=True)]


# The result.


def _tidy(fn, u, v, point, samples: _samples.Samples):
  """Chooses a = +-1, b = 0 and a > 0, in the units of x, if they fit as well.

  A power or a logarithm fits as well with any a, an exponential with any b, an
  even or odd function with either sign.

  Returns:
    The point, and whether it needs its a, and its b, [edges].
  """
  # Where x is tiny or huge, a = 1 would give c an extreme exponent.
  unit = np.clip(samples.half, 0.01, 100)
  plain = point * (unit / np.maximum(np.abs(point[:, 0]), _TINY))[:, None]
  positive = np.where(point[:, :1] < 0, -1, 1)
  zero_at = samples.centre / samples.half
  options = []
  for p in (plain, point):
    through = np.stack([p[:, 0], p[:, 0] * zero_at], -1)
    options += [positive * through, through, positive * p, p]
  choice = np.stack(options, 1)
  state = _affine_steps.linearize(choice, *_slopes(fn, choice, u), u, v)
  cost = np.asarray(state.cost)
  first = (cost <= _ALIKE * cost[:, -1:] + _EXACT).argmax(1)
  return choice[np.arange(len(first)), first], first >= 4, first % 4 >= 2


def _in_units(fn, point, samples: _samples.Samples):
  """Returns a, b, c, d and the residual on all samples; inf if not finite."""
  given, v, mean, std = samples.given, samples.v, samples.mean, samples.std
  a = point[:, 0] / samples.half
  b = point[:, 1] - a * samples.centre
  numbers = np.stack([a, b], -1)[:, None]
  f = np.asarray(_slopes(fn, numbers, samples.x)[0])[:, 0]
  applied = f  # As a model computes it, in the dtype of its inputs.
  if given.dtype != f.dtype:
    applied = np.asarray(_values(
        fn, numbers.astype(given.dtype), given,
        _backends.choices().fit_values))[:, 0]
  finite = (np.isfinite(f) & np.isfinite(applied)).all(1)
  f, applied = (np.where(finite[:, None], values, 0) for values in (f, applied))
  c = np.asarray(_affine_steps.project(f, v)[0])[:, 0] * std
  d = mean - c * f.mean(1)
  y = std[:, None] * v + mean[:, None]
  total = (std * std) * (v**2).sum(1)
  with np.errstate(over='ignore', invalid='ignore'):  # A c beyond float32.
    factor, shift = (p[:, None].astype(given.dtype) for p in (c, d))
    errors = y - (factor * applied + shift)
    residual = (errors**2).sum(1) / np.where(total > 0, total, np.inf)
  finite &= np.isfinite(residual)
  return a, b, c, d, np.where(finite, residual, np.inf)
