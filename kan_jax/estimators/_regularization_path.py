"""Fitting a KAN to a table whose noise is not known: shrinkage that suits it.

A prior pulls every edge towards a straight line and every line towards zero. It
counts as much as `alpha` rows do, whatever there are of them, and how much that
should be the rows themselves tell: networks that each leave some of them out
are fitted side by side with the one of all rows, and the alpha is taken with
which they foresee best what they left out. All of them share one program and,
since their first grid is the same, one evaluation of the inputs' splines.

Alphas are gone through in both directions from one in the middle, each fit
going on from that of its neighbour. To begin with the largest is worse: a
network that was shrunk to nothing is at a saddle, from which it finds less.
"""

from collections.abc import Iterator
import functools
import itertools
from typing import Any
from typing import get_args
from typing import Literal
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax import _progress as progress_lib
from kan_jax import compiling
from kan_jax.layers import linen
from kan_jax.splines import bsplines
from kan_jax.splines import grids

Loss = Literal['squared', 'sigmoid', 'softmax']

_FIRST, _FACTOR, _LIMITS = 1.0, 10**0.5, (1e-4, 1e3)
_PATIENCE = 2  # Alphas in one direction without a lower loss.
_FIRST_ROUNDS, _ROUNDS = 2, 3  # Of steps: on the first alpha, on a given one.
# A straight line is what is left of a spline under a strong prior.
_ROUGHNESS, _SPLINE, _LINE = 1.0, 0.1, 1.0
_HIDDEN = 3.0  # Half the width of the hidden nodes' grids.
# Mostly quantiles: columns may have long tails.
_GRID_UPDATE = grids.GridUpdate(eps=0.1)
_BLOCK = 8192  # Rows that a step sees at most.
_LEAST_BITS = 8  # Fewer rows than 2^8 take as long.
_MANY = 2000  # Rows of which a single part left out tells enough.


class Table(NamedTuple):
  """Rows to fit, in units in which numbers are about 1.

  Attributes:
    x: Inputs, [n, in], n >= 1.
    y: Targets, [n, out]; for 'sigmoid' 0 or 1, for 'softmax' a part for each
      class.
    weight: How often each row counts, [n], > 0.
    part: Which of the parts that are left out in turn a row belongs to, [n],
      whole numbers from 0.
  """
  x: np.ndarray
  y: np.ndarray
  weight: np.ndarray
  part: np.ndarray


class FittedPath(NamedTuple):
  """A fit and how it was chosen.

  Attributes:
    variables: Of the model, numpy arrays.
    alpha: What was chosen.
    path: All that was tried: columns `alpha`, `validation_loss`, the mean loss
      of rows that were left out (NaN for a given alpha), and `loss`, that of
      all rows by the model that was fitted to them.
    steps: Steps that led to these variables.
  """
  variables: dict[str, Any]
  alpha: float
  path: dict[str, np.ndarray]
  steps: int


def make_model(features: tuple[int, ...], grid: int, order: int, *,
               dtype: jax.typing.DTypeLike = jnp.float32) -> linen.KAN:
  """Returns a KAN that `fit` takes: straight lines plus splines, [in] first."""
  return linen.KAN(
      features, grid=grid, order=order, base_fn=jax.nn.identity,
      outside='linear', grid_range=(-_HIDDEN, _HIDDEN), param_dtype=dtype)


def fit_path(
    model: linen.KAN, table: Table, loss: Loss, *, alpha: float | None = None,
    steps: int = 150, rate: float = 0.01,
    random: np.random.Generator, progress: bool = False) -> FittedPath:
  """Fits a model of `make_model` to a table.

  Compiles once for each model and each size of the table; sizes are rounded
  up, by a third at most, so that the folds of a cross-validation share one.

  Args:
    model: The model.
    table: The rows.
    loss: 'squared' is half the square summed over the outputs; 'sigmoid' and
      'softmax' are cross entropies of log-odds.
    alpha: Weight of the prior against that of a row, >= 0. None chooses it, by
      leaving out the parts of the table in turn; of more than 2000 rows the
      part 0 alone.
    steps: Of Adam, on each alpha.
    rate: Of its steps.
    random: For the first parameters and the order of the rows.
    progress: Whether a terminal shows a bar.

  Raises:
    ValueError: If `loss` is another one.
  """
  if loss not in get_args(Loss):
    raise ValueError(
        f'`loss` is one of {", ".join(get_args(Loss))}; got {loss!r}.')
  parts = 0
  if alpha is None:
    parts = 1 if len(table.x) > _MANY else int(table.part.max()) + 1
  rounds = _Rounds(model, table, loss, steps, rate, parts, random)
  with progress_lib.Bar(steps * 6, progress) as bar:
    if alpha is None:
      tried = list(_search(rounds, bar))
    else:
      tried = [rounds.take(rounds.start(), alpha, _ROUNDS)]
  best = min(tried, key=lambda one: one.validation_loss)
  columns = {
      name: np.array([getattr(one, name) for one in tried])
      for name in ('alpha', 'validation_loss', 'loss')}
  return FittedPath(rounds.variables(best), best.alpha, columns, best.steps)


class _Point(NamedTuple):
  """Where some models have come to on one alpha."""
  params: Any  # A leading axis counts models; the last is that of all rows.
  opt_state: Any
  alpha: float
  validation_loss: float
  loss: float
  steps: int


def _search(rounds: '_Rounds', bar: progress_lib.Bar) -> Iterator[_Point]:
  """Yields points from the middle upwards and, from there again, downwards."""
  def take(*args):
    point = rounds.take(*args)
    bar.show(rounds.steps, {'validation_loss': point.validation_loss})
    return point

  middle = take(rounds.start(), _FIRST, _FIRST_ROUNDS)
  least = middle.validation_loss
  yield middle
  for factor in (_FACTOR, 1 / _FACTOR):
    point, idle = middle, 0
    while idle < _PATIENCE and (
        _LIMITS[0] <= point.alpha * factor <= _LIMITS[1]):
      point = take(point, point.alpha * factor, 1)
      idle = 0 if point.validation_loss < least else idle + 1
      least = min(least, point.validation_loss)
      yield point


class _Rounds:
  """Rows and models on the device, and rounds of steps on one alpha."""

  def __init__(
      self, model: linen.KAN, table: Table, loss: Loss, steps: int,
      rate: float, parts: int, random: np.random.Generator):
    self.model, self.loss, self.rate = model, loss, rate
    self.steps = steps
    kept = np.concatenate(
        [table.part != np.arange(parts)[:, None], np.ones((1, len(table.x)))])
    weight = kept * table.weight
    self._held_out = ((1 - kept) * table.weight)[:-1]
    self._all = table.weight
    self._where, blocks = _arrange(len(table.x), random)
    dtype = model.param_dtype

    def arranged(rows):  # [..., n] -> [blocks, ..., rows in each]
      rows = rows[..., self._where % len(table.x)]
      rows = np.where(self._where < len(table.x), rows, 0)
      return np.moveaxis(rows.reshape(*rows.shape[:-1], *blocks), -2, 0)

    shape = (blocks[0], blocks[1], -1)
    x, y = (np.asarray(a[self._where % len(table.x)], dtype).reshape(shape)
            for a in (table.x, table.y))
    self._data = x, y, arranged(weight).astype(dtype)
    self._total = np.maximum(weight.sum(1), np.finfo(dtype).tiny).astype(dtype)
    self._grid, self._params = _init(
        model, x.reshape(-1, x.shape[-1]), len(weight), random)

  def start(self) -> _Point:
    """Returns where all models begin."""
    return _Point(self._params, optax.adam(self.rate).init(self._params),
                  np.nan, np.nan, np.nan, 0)

  def take(self, point: _Point, alpha: float, rounds: int) -> _Point:
    """Goes on from a point with an alpha."""
    params, opt_state = point.params, point.opt_state
    for _ in range(rounds):
      params, opt_state, losses = _descend(
          params, opt_state, self._grid, self._data, self._total, alpha,
          self.rate, model=self.model, loss=self.loss, steps=self.steps)
    # Of [blocks, models, rows], the models' losses in the order of the table.
    losses = np.moveaxis(np.asarray(losses, np.float64), 0, 1)
    losses = losses.reshape(len(losses), -1)[:, np.argsort(self._where)]
    losses = losses[:, :len(self._all)]
    held_out = self._held_out
    return _Point(
        params, opt_state, alpha,
        float((losses[:-1] * held_out).sum() / held_out.sum())
        if held_out.any() else np.nan,
        float(losses[-1] @ self._all / self._all.sum()),
        point.steps + rounds * self.steps)

  def variables(self, point: _Point) -> dict[str, Any]:
    """Returns those of the model of all rows."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf[-1]), point.params)
    return {'params': params, 'grid': jax.tree.map(np.asarray, self._grid)}


def _arrange(
    n: int, random: np.random.Generator) -> tuple[np.ndarray, tuple[int, int]]:
  """Shuffles rows and what fills them up, into blocks of equal size.

  Returns:
    The row at each place, where n and more fill up, and blocks by rows. A block
    has 2^k or 3 * 2^(k - 1) rows, so that few programs are compiled.
  """
  rows = 1 << max(_LEAST_BITS, (n - 1).bit_length())
  if rows > 2**_LEAST_BITS and n <= 3 * rows // 4:
    rows = 3 * rows // 4
  rows = min(rows, _BLOCK)
  blocks = -(-n // rows), rows
  return random.permutation(blocks[0] * rows), blocks


def _init(
    model: linen.KAN, x: np.ndarray, count: int,
    random: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
  """Grids, which all models share, and first parameters, the same for each.

  In numpy: a compiled `model.init` would take longer than the fit.
  """
  sizes = [layer.size for layer in model.nodes]
  grid, params = {}, {}
  dtype = model.param_dtype
  for k, shape in enumerate(itertools.pairwise(sizes)):
    knots = bsplines.uniform_knots(
        shape[0], model.grid, model.order, model.grid_range, dtype)
    grid[f'layers_{k}'] = {'knots': knots, 'mask': np.ones(shape, dtype)}
    params[f'layers_{k}'] = {
        'coef': np.zeros((shape[0], model.grid + model.order, shape[1])),
        'scale_base': random.normal(size=shape) / shape[0]**0.5,
        'scale_spline': np.ones(shape), 'node_bias': np.zeros(shape[1])}
  grid['layers_0']['knots'] = _knots(x, model.grid, model.order)
  return grid, jax.tree.map(
      lambda a: np.broadcast_to(a, (count, *a.shape)).astype(dtype), params)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _knots(x: jax.Array, grid: int, order: int) -> jax.Array:
  return grids.knots_from_samples(x, grid, order, grid_update=_GRID_UPDATE)


@functools.partial(
    jax.jit, static_argnames=('model', 'loss', 'steps'),
    # Not only compiling them, also the steps take two thirds of the time.
    compiler_options=compiling.OLDER_CPU)
def _descend(
    params, opt_state, grid, data, total, alpha, rate, *, model, loss, steps):
  """Takes steps of all models; returns losses [blocks, models, rows], too.

  Args:
    params: With a leading axis of models, as in `opt_state`.
    opt_state: Of Adam.
    grid: Of all models.
    data: x [blocks, rows, in], y [blocks, rows, out], weights [blocks, models,
      rows].
    total: Sums of the weights, [models].
    alpha: Weight of the prior.
    rate: Of Adam.
    model: The model.
    loss: The loss.
    steps: How many.
  """
  tx = optax.adam(rate)
  x, y, weight = data

  def row_losses(params, k):
    return jax.vmap(lambda params: _loss(loss, model.apply(
        {'params': params, 'grid': grid}, x[k]), y[k]))(params)

  def objective(params, k):
    params = jax.tree.map_with_path(
        lambda path, leaf: jax.lax.stop_gradient(leaf)
        if path[-1].key == 'scale_spline' else leaf, params)
    counted = jnp.maximum(weight[k].sum(1), jnp.finfo(x.dtype).tiny)
    means = (weight[k] * row_losses(params, k)).sum(1) / counted
    # Adam takes objectives of any size; models do not mix in their sum.
    return (means + alpha / total * jax.vmap(_prior)(params)).sum()

  def step(i, carry):
    params, opt_state = carry
    grads = jax.grad(objective)(params, i % len(x))
    updates, opt_state = tx.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state

  params, opt_state = jax.lax.fori_loop(0, steps, step, (params, opt_state))
  return params, opt_state, jax.lax.map(
      lambda k: row_losses(params, k), jnp.arange(len(x)))


def _loss(loss: Loss, outputs: jax.Array, y: jax.Array) -> jax.Array:
  """The loss of each row, [n]."""
  if loss == 'squared':
    return jnp.square(outputs - y).sum(-1) / 2
  if loss == 'sigmoid':
    return optax.sigmoid_binary_cross_entropy(outputs, y)[:, 0]
  return optax.softmax_cross_entropy(outputs, y)


def _prior(params: Any) -> jax.Array:
  """Minus the logarithm of the prior's density, up to a constant, []."""
  total = jnp.zeros(())
  for layer in params.values():
    coef = layer['coef']
    for weight, leaf in ((_ROUGHNESS, jnp.diff(coef, 2, axis=1)),
                         (_SPLINE, coef), (_LINE, layer['scale_base'])):
      total += weight / 2 * jnp.square(leaf).sum()
  return total
