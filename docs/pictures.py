"""Makes pictures of grid_updates.md and formula.md: `python docs/pictures.py`.

Splines are fitted by least squares where training would take them, so that all
of it takes seconds. The files are written beside this one.
"""

from collections.abc import Callable
import pathlib

import jax
import jax.numpy as jnp
from matplotlib import axes
from matplotlib import figure
import numpy as np

from kan_jax import plotting
from kan_jax import symbolic
from kan_jax.splines import bsplines
from kan_jax.splines import grids

_ORDER = 3
_FOLDER = pathlib.Path(__file__).parent


def follow() -> figure.Figure:
  """What a grid update does for inputs that have left the grid."""
  x = np.random.default_rng(0).normal(0.7, 0.8, 400)
  knots = bsplines.uniform_knots(1, 8, _ORDER)
  near = jnp.linspace(-1, 1, 50)[:, None]
  coef = bsplines.fit_coef(near, _target(near)[..., None], knots, _ORDER)
  moved, kept = grids.update_grid(jnp.asarray(x)[:, None], knots, coef, _ORDER)
  panels = (
      ('Before: some inputs are beyond the grid', knots, coef),
      ('Grid updated: nearly the same function', moved, kept),
      ('Fitted on the old grid', knots, _fit(x, knots)),
      ('Fitted on the new grid', moved, _fit(x, moved)))
  fig = figure.Figure(figsize=(9, 5.4), layout='constrained')
  axs = fig.subplots(2, 2, sharex=True, sharey=True)
  for ax, (title, at, values) in zip(axs.flat, panels, strict=True):
    points = np.linspace(x.min(), x.max(), 400)
    _draw_samples(ax, x)
    _draw_spline(ax, points, at, values, y=-1.5)
    ax.set_title(title, fontsize=10)
    ax.set(ylim=(-2.4, 1.7), yticks=[])
    if title.startswith('Fitted'):
      _draw_target(ax, points, _target(points))
      ax.legend(loc='upper right', frameon=False, fontsize=9)
  before = bsplines.evaluate(points[:, None], knots, coef, _ORDER)
  axs[0, 1].plot(points, before[:, 0, 0], 'k:', lw=1, label='before')
  axs[0, 1].legend(loc='upper right', frameon=False, fontsize=9)
  return fig


def _target(x: jax.typing.ArrayLike) -> jax.Array:
  return jnp.sin(2 * jnp.asarray(x))


def _fit(x: np.ndarray, knots: jax.Array) -> jax.Array:
  """Coefficients that come nearest to the target on the samples."""
  rows = jnp.asarray(x)[:, None]
  return bsplines.fit_coef(rows, _target(rows)[..., None], knots, _ORDER)


def _draw_samples(ax: axes.Axes, x: np.ndarray) -> None:
  count, edges = np.histogram(x, bins=40)
  ax.bar(edges[:-1], 0.7 * count / count.max(), np.diff(edges), bottom=-2.4,
         align='edge', color='C0', alpha=0.3)


def _draw_spline(
    ax: axes.Axes, points: np.ndarray, knots: jax.Array, coef: jax.Array,
    y: float) -> None:
  """Draws a spline, and its knots at the height `y`."""
  ax.plot(points, bsplines.evaluate(
      jnp.asarray(points)[:, None], knots, coef, _ORDER)[:, 0, 0], 'k', lw=1.5)
  inner = bsplines.interior(knots, _ORDER)[0]
  ax.plot(inner, np.full(len(inner), y), 'k|', ms=9)


def _draw_target(
    ax: axes.Axes, points: np.ndarray, values: jax.Array) -> None:
  ax.plot(points, values, 'C3--', lw=1, label='target')


def blends() -> figure.Figure:
  """Knots for skewed samples: uniform, by quantiles, and between."""
  x = np.random.default_rng(0).gamma(1.5, 0.6, 2000)
  fig = figure.Figure(figsize=(9, 2.6), layout='constrained')
  ax = fig.subplots()
  count, edges = np.histogram(x, bins=80)
  ax.bar(edges[:-1], count / count.max(), np.diff(edges), align='edge',
         color='C0', alpha=0.3)
  for row, eps in enumerate((1.0, 0.5, 0.0)):
    knots = grids.knots_from_samples(
        jnp.asarray(x, jnp.float32)[:, None], 10, _ORDER,
        grid_update=grids.GridUpdate(eps=eps))
    inner = bsplines.interior(knots, _ORDER)[0]
    ax.plot(inner, np.full(len(inner), -0.2 - 0.25 * row), 'k|-', lw=0.5, ms=10)
  ax.set_yticks([-0.2, -0.45, -0.7], labels=[
      'eps = 1', 'eps = 0.5', 'eps = 0'])
  ax.set_ylim(-0.9, 1.05)
  ax.set_xlabel('input')
  return fig


def rates() -> figure.Figure:
  """The ends of a grid that follows small batches, all the way or in part."""
  rng = np.random.default_rng(0)
  batches = [rng.normal(0, 1, 64) for _ in range(40)]
  fig = figure.Figure(figsize=(9, 2.8), layout='constrained')
  for ax, rate in zip(
      fig.subplots(1, 2, sharey=True), (1.0, 0.1), strict=True):
    knots, ends = bsplines.uniform_knots(1, 5, _ORDER), []
    for batch in batches:
      target = grids.knots_from_samples(
          jnp.asarray(batch, jnp.float32)[:, None], 5, _ORDER)
      knots = grids.move_knots(knots, target, _ORDER, rate)
      ends.append(bsplines.interior(knots, _ORDER)[0, jnp.array([0, -1])])
    for number, batch in enumerate(batches):
      ax.plot(np.full(len(batch), number), batch, 'C0.', ms=1.5)
    ax.plot(np.array(ends), 'k', lw=1.5, drawstyle='steps-mid')
    ax.set_title(f'rate = {rate:g}', fontsize=10)
    ax.set_xlabel('grid update')
  return fig


def refinement() -> figure.Figure:
  """Finer grids: first the same function, then a better one."""
  x = np.random.default_rng(0).uniform(-1, 1, 1000)
  rows = jnp.asarray(x, jnp.float32)[:, None]
  wanted = jnp.sin(8 * rows**2)[..., None]
  coarse = bsplines.uniform_knots(1, 5, _ORDER)
  coef = bsplines.fit_coef(rows, wanted, coarse, _ORDER)
  fine, same = grids.refine_grid(coarse, coef, _ORDER, 20)
  panels = (('5 intervals, fitted', coarse, coef),
            ('20 intervals, the same function', fine, same),
            ('20 intervals, fitted', fine,
             bsplines.fit_coef(rows, wanted, fine, _ORDER)))
  fig = figure.Figure(figsize=(9, 2.8), layout='constrained')
  axs = fig.subplots(1, 3, sharey=True)
  points = np.linspace(-1, 1, 400)
  for ax, (title, knots, values) in zip(axs, panels, strict=True):
    _draw_spline(ax, points, knots, values, y=-1.5)
    _draw_target(ax, points, jnp.sin(8 * points**2))
    ax.set_title(title, fontsize=10)
    ax.set_ylim(-1.7, 1.6)
  axs[0].legend(loc='upper center', frameon=False, fontsize=9)
  return fig


def structure() -> figure.Figure:
  """The structure of a law of seven columns, one of them of no use."""
  rng = np.random.default_rng(0)
  names = ['G', 'm_1', 'm_2', 'x_1', 'x_2', 'y', 'color']
  x = rng.uniform([1, 1, 1, 3, 1, 1, 0], [2, 2, 2, 4, 2, 3, 1], (2000, 7))
  g, m_1, m_2, x_1, x_2, y, _ = x.T
  force = g * m_1 * m_2 / ((x_1 - x_2)**2 + y**2)
  return plotting.plot_structure(
      symbolic.find_tree(x, force, names=names), target='force')


_PICTURES: dict[str, Callable[[], figure.Figure]] = {
    'grid_follow.png': follow, 'grid_blends.png': blends,
    'grid_rates.png': rates, 'grid_refinement.png': refinement,
    'structure.png': structure}


if __name__ == '__main__':
  for name, draw in _PICTURES.items():
    draw().savefig(_FOLDER / name, dpi=120)
