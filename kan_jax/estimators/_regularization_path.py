"""Fits a KAN to a noisy table; the rows choose how strong its prior is.

The prior pulls every edge towards a straight line, and every line towards zero.
Its weight, `alpha`, is counted in rows: with alpha 10 it counts as much as ten
rows do. The best alpha depends on the noise, which is not known. So several
networks are fitted side by side: one to all rows, and for each part of the rows
one to the others. The alpha is taken with which these networks predict best
what they have not seen. All networks share one program and one first grid, so
the splines of the inputs are evaluated once for all of them.

The search begins in the middle. It tries larger alphas first, then smaller ones
from the middle again, and each fit goes on from its neighbour's. To begin with
the largest is worse: a network that was shrunk to nothing is at a saddle, from
which it finds less.

The state and the losses are those of `training` and optax. What has its place
here is not there: the prior, networks side by side, and the path over alphas.
"""

from collections.abc import Callable
import functools
import itertools
from typing import Any
from typing import NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn import exceptions

from kan_jax import _progress
from kan_jax import compiling
from kan_jax.estimators import _losses
from kan_jax.layers import linen
from kan_jax.splines import bsplines
from kan_jax.splines import grids
from kan_jax.training import train_steps

# Alphas that 'auto' may try: 10^(k / 2), in rows of mean weight.
_EXPONENTS = range(-8, 7)
_NEGLIGIBLE = 1e-3  # Loss of rows left out; numbers about 1 lose 0.5 unfitted.
_PATIENCE = 2  # Alphas in one direction without a lower loss.
_FIRST_ROUNDS, _ROUNDS = 2, 3  # Of steps: on the first alpha, on a given one.
_STRONGEST = 1e15  # The squares of its gradients are finite in float32.
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
    y: Targets, [n, out], as the loss takes them.
    weight: How often each row counts, [n], > 0.
    part: Part of the table that the row belongs to, [n], whole numbers from 0.
      Parts are left out in turn.
  """
  x: np.ndarray
  y: np.ndarray
  weight: np.ndarray
  part: np.ndarray


class FittedPath(NamedTuple):
  """A fitted network, and how its alpha was chosen.

  Attributes:
    variables: Variables of the model, numpy arrays.
    alpha: Weight of the prior.
    path: Columns with an entry for each alpha that was tried: `alpha`;
      `validation_loss`, the mean loss of rows that were left out (NaN for a
      given alpha); `loss`, the mean loss of all rows by the network that was
      fitted to all of them.
    steps: Steps that led to these variables.
  """
  variables: dict[str, Any]
  alpha: float
  path: dict[str, np.ndarray]
  steps: int


def make_model(
    features: tuple[int, ...], grid: int, order: int, *,
    dtype: jax.typing.DTypeLike = jnp.float32) -> linen.KAN:
  """Returns a KAN that `fit_path` takes: straight lines plus splines."""
  return linen.KAN(
      features, grid=grid, order=order, base_fn=jax.nn.identity,
      outside='linear', grid_range=(-_HIDDEN, _HIDDEN), param_dtype=dtype)


def fit_path(
    model: linen.KAN, table: Table, loss_fn: train_steps.LossFn, *,
    random: np.random.Generator, alpha: float | None = None, steps: int = 150,
    rate: float = 0.01,
    log: Callable[[str], None] = lambda line: None,
    progress: bool = False) -> FittedPath:
  """Fits a model of `make_model` to a table.

  Compiles once for each model, loss and size of the table. Sizes are rounded
  up, by a third at most, so that the folds of a cross-validation share one.

  Args:
    model: The model.
    table: The rows.
    loss_fn: Loss of each row, such as those of `_losses`.
    random: Source of the first parameters and of the order of the rows.
    alpha: Weight of the prior against that of a row, >= 0. None chooses it by
      leaving out the parts of the table in turn; of more than 2000 rows the
      part 0 alone. What is tried then follows the mean weight of the rows, so
      that weights of another size choose the same network.
    steps: Steps of Adam on each alpha.
    rate: Learning rate of Adam.
    log: Function that gets a line on each alpha.
    progress: Whether a terminal or a notebook shows how far it is.

  Raises:
    ValueError: If the loss does not stay finite.
  """
  # Within, rows weigh 1 on average. The largest goes first: a sum of weights
  # might overflow.
  largest = table.weight.max()
  unit = float(largest * (table.weight / largest).mean())
  parts = 0
  if alpha is None:
    parts = 1 if len(table.x) > _MANY else int(table.part.max()) + 1
  networks = _Networks(
      model, table._replace(weight=table.weight / unit), loss_fn, steps, rate,
      parts, random)

  def take(point: _Point, alpha: float, rounds: int) -> _Point:
    point = networks.take(point, alpha, rounds)._replace(alpha=alpha * unit)
    bar.count('weights of the prior')
    bar.show(1, {'loss': point.loss, 'left_out': point.validation_loss})
    log(f'alpha {point.alpha:.3g}: loss {point.loss:.4g}' + (
        f', of rows left out {point.validation_loss:.4g}' if parts else ''))
    return point

  with _progress.Bar(None, progress, _progress.COMPILING) as bar:
    if alpha is None:
      tried = _search(take, networks.start())
    else:
      # Beyond the strongest one, nothing is left to pull.
      relative = _STRONGEST if alpha / _STRONGEST > unit else alpha / unit
      tried = [take(networks.start(), relative, _ROUNDS)._replace(alpha=alpha)]
  best = min(tried, key=lambda point: point.validation_loss)
  columns = {
      name: np.array([getattr(point, name) for point in tried])
      for name in ('alpha', 'validation_loss', 'loss')}
  return FittedPath(
      _last_network(best.state), best.alpha, columns, int(best.state.step))


class _Point(NamedTuple):
  """Where the networks have come to on one alpha."""
  state: train_steps.TrainState  # Of all networks; the last has all rows.
  alpha: float
  validation_loss: float
  loss: float


def _search(
    take: Callable[[_Point, float, int], _Point],
    start: _Point) -> list[_Point]:
  """Returns points from the middle upwards and, from there again, downwards."""
  points = {0: take(start, 1.0, _FIRST_ROUNDS)}
  least = points[0].validation_loss
  for direction in (1, -1):
    k, idle = 0, 0
    while idle < _PATIENCE and k + direction in _EXPONENTS:
      point = take(points[k], 10**((k + direction) / 2), 1)
      k += direction
      points[k] = point
      idle = 0 if point.validation_loss < least else idle + 1
      least = min(least, point.validation_loss)
  _warn_of_limits(points)
  return list(points.values())


def _warn_of_limits(points: dict[int, _Point]) -> None:
  """Warns if the best alpha is the largest or the smallest that is tried.

  Not where hardly any loss is left, as for data without noise: there, a still
  smaller alpha would change nothing that matters.
  """
  best = min(points, key=lambda k: points[k].validation_loss)
  if best == _EXPONENTS[-1]:
    limit, further, why = 'largest', 'larger', 'there is hardly any signal'
  elif best == _EXPONENTS[0] and points[best].validation_loss > _NEGLIGIBLE:
    limit, further, why = (
        'smallest', 'smaller', 'more than the prior holds the network back')
  else:
    return
  warnings.warn(
      f"alpha='auto' ended at the {limit} alpha that it tries, "
      f'{points[best].alpha:.3g}: {why}. To try a {further} one, set `alpha` '
      'to a number.', exceptions.ConvergenceWarning,
      stacklevel=6)  # Whoever called `fit`.


class _Rows(NamedTuple):
  """Rows on the device, in blocks: a step takes one of them.

  Attributes:
    x: Inputs, [blocks, rows, in].
    y: Targets, [blocks, rows, out].
    weight: Weight in the fit of each network, [blocks, networks, rows]; 0 for
      rows that it leaves out.
    judged: Weight in the loss that is reported of it, of the same shape: for
      the last network all rows, for the others those that they leave out.
    total: Sum of the weights, [networks].
  """
  x: np.ndarray
  y: np.ndarray
  weight: np.ndarray
  judged: np.ndarray
  total: np.ndarray


class _Networks:
  """Networks side by side, each without one part of the rows; the last has all.
  """

  def __init__(
      self, model: linen.KAN, table: Table, loss_fn: train_steps.LossFn,
      steps: int, rate: float, parts: int, random: np.random.Generator):
    self._options = {'model': model, 'loss_fn': loss_fn, 'steps': steps}
    self._rate = rate
    kept = np.concatenate(
        [table.part != np.arange(parts)[:, None], np.ones((1, len(table.x)))])
    judged = np.concatenate([1 - kept[:-1], kept[-1:]]) * table.weight
    self._judged = judged.sum(1)
    self._rows = _arrange(
        table, kept * table.weight, judged, model.param_dtype, random)
    self._grid, self._params = _init(
        model, self._rows.x.reshape(-1, table.x.shape[1]), len(kept), random)

  def start(self) -> _Point:
    """Returns where all networks begin."""
    # Adam begins with zeros. In numpy: each shape would be a program.
    opt_state: Any = jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(optax.adam(self._rate).init, self._params))
    state = train_steps.TrainState(
        step=jax.device_put(np.int32(0)), params=self._params, grid=self._grid,
        opt_state=opt_state)
    return _Point(state, np.nan, np.nan, np.nan)

  def take(self, point: _Point, alpha: float, rounds: int) -> _Point:
    """Goes on from a point with an alpha."""
    state = point.state
    for _ in range(rounds):
      state, losses = _descend(
          state, self._rows, alpha, self._rate, **self._options)
    sums = np.asarray(losses, np.float64).sum(0)
    if not np.isfinite(sums).all():
      raise ValueError(
          f'the loss is not finite after {int(state.step)} steps: '
          f'`learning_rate` {self._rate} is too large.')
    left_out = self._judged[:-1].sum()
    return _Point(
        state, alpha,
        float(sums[:-1].sum() / left_out) if left_out else np.nan,
        float(sums[-1] / self._judged[-1]))


def _last_network(state: train_steps.TrainState) -> dict[str, Any]:
  """Returns the variables of the network of all rows."""
  params = jax.tree.map(lambda leaf: np.asarray(leaf)[-1], state.params)
  return {'params': params, 'grid': jax.tree.map(np.asarray, state.grid)}


def _arrange(
    table: Table, weight: np.ndarray, judged: np.ndarray,
    dtype: jax.typing.DTypeLike, random: np.random.Generator) -> _Rows:
  """Shuffles rows into blocks of equal size, filled up with rows of weight 0.

  A block has 2^k or 3 * 2^(k - 1) rows, so that few programs are compiled.

  Args:
    table: The rows.
    weight: Weight of each row in each fit, [networks, n].
    judged: Weight of each row in each loss, [networks, n].
    dtype: Type of the arrays.
    random: Source of the order.
  """
  n = len(table.x)
  size = 1 << max(_LEAST_BITS, (n - 1).bit_length())
  if size > 2**_LEAST_BITS and n <= 3 * size // 4:
    size = 3 * size // 4
  size = min(size, _BLOCK)
  blocks = -(-n // size)
  order = random.permutation(blocks * size)

  def by_row(rows: np.ndarray) -> np.ndarray:  # [n, k] -> [blocks, size, k]
    return rows[order % n].reshape(blocks, size, -1).astype(dtype)

  def by_network(weights: np.ndarray) -> np.ndarray:
    counted = np.where(order < n, weights[:, order % n], 0)
    return np.moveaxis(
        counted.reshape(-1, blocks, size), 1, 0).astype(dtype)

  total = np.maximum(weight.sum(1), np.finfo(dtype).tiny).astype(dtype)
  return _Rows(by_row(table.x), by_row(table.y), by_network(weight),
               by_network(judged), total)


def _init(
    model: linen.KAN, x: np.ndarray, count: int,
    random: np.random.Generator) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns grids, shared by all networks, and the same parameters for each.

  In numpy: compiling `model.init` would add a fifth to the time of a first fit,
  and tracing it, for the shapes alone, a twentieth.
  """
  sizes = [layer.size for layer in model.nodes]
  grid, params = {}, {}
  dtype = model.param_dtype
  first, hidden = map(np.asarray, _knots(x, model))
  for k, shape in enumerate(itertools.pairwise(sizes)):
    knots = np.tile(hidden, (shape[0], 1)) if k else first
    grid[f'layers_{k}'] = {'knots': knots, 'mask': np.ones(shape, dtype)}
    params[f'layers_{k}'] = {
        'coef': np.zeros((shape[0], model.grid + model.order, shape[1])),
        'scale_base': random.normal(size=shape) / shape[0]**0.5,
        'scale_spline': np.ones(shape), 'node_bias': np.zeros(shape[1])}
  return grid, jax.tree.map(
      lambda a: np.broadcast_to(a, (count, *a.shape)).astype(dtype), params)


@functools.partial(
    jax.jit, static_argnums=1, compiler_options=compiling.QUICK)
def _knots(x: jax.Array, model: linen.KAN) -> tuple[jax.Array, jax.Array]:
  """Returns the knots of the inputs, and a row for those of hidden nodes."""
  return (grids.knots_from_samples(
      x, model.grid, model.order, grid_update=_GRID_UPDATE),
          bsplines.uniform_knots(
              1, model.grid, model.order, model.grid_range, model.param_dtype))


@functools.partial(
    jax.jit, static_argnames=('model', 'loss_fn', 'steps'),
    # Not only compiling them, also the steps take two thirds of the time.
    compiler_options=compiling.OLDER_CPU)
def _descend(
    state: train_steps.TrainState, rows: _Rows, alpha: jax.Array,
    rate: jax.Array, *, model: linen.KAN, loss_fn: train_steps.LossFn,
    steps: int) -> tuple[train_steps.TrainState, jax.Array]:
  """Takes steps of Adam, each on a block of rows, with all networks.

  Not by `make_train_step`: that it leaves out steps that are not finite costs a
  fifth of the time to compile, and here a look at the losses is enough.

  Args:
    state: State of all networks: a leading axis of `params` counts them, and
      they have one grid.
    rows: The rows.
    alpha: Weight of the prior, [].
    rate: Learning rate of Adam, [].
    model: The model.
    loss_fn: Loss of each row.
    steps: How many steps.

  Returns:
    The state, and the sums of the losses of the rows that count for each
    network, [blocks, networks].
  """
  @jax.jit  # Traced once, for the gradient and for the losses at the end.
  def row_losses(params, grid, x, y):  # [networks, rows]
    return jax.vmap(lambda params: train_steps.row_losses(
        loss_fn, model.apply({'params': params, 'grid': grid}, x), y))(params)

  def objective(params, grid, x, y, weight):
    params = _freeze(params)
    counted = jnp.maximum(weight.sum(1), jnp.finfo(x.dtype).tiny)
    means = (weight * row_losses(params, grid, x, y)).sum(1) / counted
    # Adam takes objectives of any size; networks do not mix in their sum.
    return (means + alpha / rows.total * jax.vmap(_losses.prior)(params)).sum()

  def step(i, state):
    k = i % len(rows.x)
    grads = jax.grad(objective)(
        state.params, state.grid, rows.x[k], rows.y[k], rows.weight[k])
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    return state.replace(
        step=state.step + 1, opt_state=opt_state,
        params=optax.apply_updates(state.params, updates))

  tx = optax.adam(rate)
  state = jax.lax.fori_loop(0, steps, step, state)
  return state, jax.lax.map(lambda k: (rows.judged[k] * row_losses(
      state.params, state.grid, rows.x[k], rows.y[k])).sum(1),
                            jnp.arange(len(rows.x)))


def _freeze(params: Any) -> Any:
  """Lets no gradient reach scale_spline, a factor that coef has already."""
  return jax.tree.map_with_path(
      lambda path, leaf: jax.lax.stop_gradient(leaf)
      if path[-1].key == 'scale_spline' else leaf, params)
