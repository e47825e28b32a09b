"""Fitting from several first parameters, since the first may end badly."""

from typing import Any

from flax import linen as nn
import jax
import numpy as np

from kan_jax.training import fitting


def fit_best(
    model: nn.Module, x: jax.typing.ArrayLike, y: jax.typing.ArrayLike, *,
    key: jax.Array, starts: int = 5, trial: int | None = None,
    **options: Any) -> fitting.Fitted:
  """Fits a model from some random starts and goes on from the best one.

  Deep networks and few intervals have bad optima, where finer grids do not
  help; on the first grid, trying again is cheap. The best start is the one
  whose loss is least in the last entry of its history on the first grid.

  Args:
    model: See `fitting.fit`, as for everything not below.
    x: Inputs, [n, ...].
    y: Targets, [n, ...].
    key: Random key of the first parameters. `options` do not repeat it:
      mini-batches, which shuffle by a key, need `fitting.fit`.
    starts: How many, >= 1.
    trial: Steps of each start, >= 1; the best one then goes on with all
      `steps` on each grid. By default every start has its first grid to the
      end.
    **options: Of `fitting.fit`. All grids of `refine` but the first are left
      to the best start.

  Returns:
    What `fitting.fit` returns; the history is that of the best start and of
    what followed it.

  Raises:
    ValueError: If `starts` is less than 1, no start has a finite loss, or an
      option is not what it says.
  """
  if starts < 1:
    raise ValueError(f'`starts` is a whole number >= 1; got {starts!r}.')
  grids = tuple(options.pop('refine', ()))
  init = jax.jit(model.init)
  found = [fitting.fit(
      model, init(jax.random.fold_in(key, k), x), x, y, refine=grids[:1],
      **options | ({} if trial is None else {'steps': trial}))
      for k in range(starts)]
  losses = [fitted.history['loss'][-1] for fitted in found]
  if not np.isfinite(losses).any():
    raise ValueError(
        f'`starts`: none of {starts} has a finite loss; {found[0].reason}.')
  best = found[int(np.nanargmin(losses))]
  rest = grids[1:] if trial is None else grids
  return _go_on(best, x, y, rest, options) if rest or trial else best


def _go_on(
    best: fitting.Fitted, x: jax.typing.ArrayLike, y: jax.typing.ArrayLike,
    grids: tuple[int, ...], options: dict[str, Any]) -> fitting.Fitted:
  """Fits on, with a history of all."""
  more = fitting.fit(
      best.model, best.variables, x, y, refine=grids, **options)
  more.history['step'] += best.history['step'][-1]
  return more._replace(history={
      name: np.concatenate([best.history[name], column])
      for name, column in more.history.items()})
