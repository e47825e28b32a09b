"""Fitting from several first parameters, since the first may end badly."""

from typing import TypeVar
from typing import Unpack

from flax import linen as nn
import jax
import numpy as np

from kan_jax import _progress
from kan_jax import checks
from kan_jax.layers.nnx import accept
from kan_jax.training import fitting

_Model = TypeVar('_Model', bound=nn.Module)


@accept.takes_nnx_model
def fit_best(
    model: _Model, x: fitting.Rows, y: fitting.Rows, *,
    key: jax.Array, starts: int = 5, trial: int | None = None,
    **options: Unpack[fitting.FitOptions]) -> fitting.Fitted[_Model]:
  """Fits a model from some random starts and goes on from the best one.

  Deep networks and few intervals have bad optima, where finer grids do not
  help; on the first grid, trying again is cheap. The best start is the one
  whose loss is least in the last entry of its history on the first grid.

    fitted = kan_jax.fit_best(
        model, x, y, key=jax.random.key(0), refine=(5, 10, 20))

  Args:
    model: Flax module, or `kan_jax.nnx.KAN` with any arrays; see `fit`, as for
      everything not below.
    x: Inputs, [n, ...].
    y: Targets, [n, ...].
    key: Random key of the whole call: of the first parameters, and of the
      shuffles where `batch_size` is given.
    starts: Number of starts, >= 1.
    trial: Number of steps of each start, >= 1; the best one then goes on with
      all `steps` on each grid. By default every start has its first grid to
      the end.
    **options: Options of `fit`. All grids of `refine` but the first are left
      to the best start.

  Returns:
    What `fit` returns; the history is that of the best start and of what
    followed it.

  Raises:
    ValueError: If no start has a finite loss, or an option is not what it says.
  """
  checks.check_model(model)
  checks.check_whole('starts', starts, 1)
  checks.check_whole('trial', trial, 1, optional=True)
  grids = tuple(options.get('refine', ()))
  first: fitting.FitOptions = {**options, 'refine': grids[:1]}
  if trial is not None:
    first['steps'] = trial
  init = jax.jit(model.init)
  x = checks.as_numbers('x', x)
  shuffles = jax.random.fold_in(key, starts)  # Those before it are for `init`.
  candidates = []
  for k in range(starts):
    if starts > 1:
      first['progress'] = _progress.name_part(
          options.get('progress', True), f'network {k + 1} of {starts}')
    candidates.append(fitting.fit(
        model, init(jax.random.fold_in(key, k), x), x, y,
        key=jax.random.fold_in(shuffles, k), **first))
  losses = [fitted.history['loss'][-1] for fitted in candidates]
  if not np.isfinite(losses).any():
    raise ValueError(
        f'`starts`: none of {starts} has a finite loss; '
        f'{candidates[0].reason}.')
  best = candidates[int(np.nanargmin(losses))]
  rest = grids[1:] if trial is None else grids
  if not rest and trial is None:
    return best
  options['refine'] = rest
  if starts > 1:
    options['progress'] = _progress.name_part(
        options.get('progress', True), 'the best network')
  return _join(best, fitting.fit(
      best.model, best.variables, x, y,
      key=jax.random.fold_in(shuffles, starts), **options))


def _join(
    before: fitting.Fitted[_Model],
    after: fitting.Fitted[_Model]) -> fitting.Fitted[_Model]:
  """Returns the later fit, with a history of both."""
  later = after.history | {
      'step': after.history['step'] + before.history['step'][-1]}
  return after._replace(history={
      name: np.concatenate([before.history[name], column])
      for name, column in later.items()})
