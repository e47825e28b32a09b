"""Fitting from several first parameters, since the first may end badly."""

from typing import Any

from flax import linen as nn
import jax
import numpy as np

from kan_jax import fitting


def fit_best(
    model: nn.Module, x: jax.typing.ArrayLike, y: jax.typing.ArrayLike, *,
    key: jax.Array, starts: int = 5, **options: Any) -> fitting.Fitted:
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
  first, rest = (), tuple(options.pop('refine', ()))
  if rest:
    first, rest = rest[:1], rest[1:]
  init = jax.jit(model.init)
  found = [fitting.fit(model, init(jax.random.fold_in(key, k), x), x, y,
                       refine=first, **options) for k in range(starts)]
  losses = [fitted.history['loss'][-1] for fitted in found]
  if not np.isfinite(losses).any():
    raise ValueError(
        f'`starts`: none of {starts} has a finite loss; {found[0].reason}.')
  best = found[int(np.nanargmin(losses))]
  if not rest:
    return best
  more = fitting.fit(
      best.model, best.variables, x, y, refine=rest, **options)
  taken = best.history['step'][-1]
  more.history['step'] += taken
  return more._replace(history={
      name: np.concatenate([best.history[name], column])
      for name, column in more.history.items()})
