"""Training: state in, state out. The train step, the grid update, evaluation.

Transforms share one state and know nothing of each other. A step optimizes
`params`; a grid update changes `grid` and the spline coefficients;
`update_averages` is for layers such as `nn.BatchNorm`; evaluation changes
nothing. Each compiles on its own. A loop of one's own:

  state = training.create_state(model, tx, jax.random.key(0), x)
  step = jax.jit(training.make_train_step(
      training.make_objective(model, loss_fn), tx))
  for i in range(steps):
    if i in update_steps:
      state = training.update_state_grids(model, state, x)
    state, metrics = step(state, (x, y))
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import functools
from typing import Any

from flax import linen as nn
from flax import struct
import jax
import jax.numpy as jnp
import optax

from kan_jax import checks
from kan_jax.layers import traversal
from kan_jax.splines import grids
from kan_jax.training import sharding

_GRID_UPDATE = grids.GridUpdate()

# From outputs and targets to a number for each row.
LossFn = Callable[[jax.Array, jax.Array], jax.Array]
PenaltyFn = Callable[[Any, Any], jax.Array]  # Of params and edge statistics.
Metrics = dict[str, jax.Array]
Objective = Callable[..., tuple[jax.Array, Metrics]]  # See `make_objective`.


class TrainState(struct.PyTreeNode):
  """All that training reads and writes.

  Attributes:
    step: Number of optimizer steps taken, [], int32.
    params: Trained arrays.
    grid: Collection of knots and masks, changed by grid updates and pruning
      alone; empty for a model without KAN layers.
    opt_state: State of the optimizer.
    others: Other collections, such as the averages of `nn.BatchNorm`, changed
      by `update_averages` alone; empty for most models.
  """
  step: jax.Array
  params: Any
  grid: Any
  opt_state: optax.OptState
  others: Any = struct.field(default_factory=dict)

  @property
  def variables(self) -> dict[str, Any]:
    """What `model.apply` takes."""
    return {'params': self.params, 'grid': self.grid, **self.others}


Step = Callable[[TrainState, tuple[jax.Array, jax.Array]],
                tuple[TrainState, Metrics]]


def create_state(
    model: nn.Module, tx: optax.GradientTransformation, key: jax.Array,
    x: jax.Array, *, averages: Sequence[str] = ()) -> TrainState:
  """Initializes a model and its optimizer.

  Args:
    model: A Flax module with the collections `params` and, if it holds KAN
      layers, `grid`.
    tx: The optimizer.
    key: Random key.
    x: Batch of inputs; its shape is all that counts.
    averages: Names of other collections, such as 'batch_stats', that
      `update_averages` keeps.

  Returns:
    A state whose arrays are all different ones, so that it can be donated.

  Raises:
    ValueError: If the model has other collections, which no step would update.
  """
  variables = jax.jit(model.init)(key, x)
  others = sorted(variables.keys() - {'params', 'grid', *averages})
  if others:
    raise ValueError(
        f'`model` has the collections {others}, which no step updates: name '
        'averages, as of BatchNorm, in `averages`, and see `update_averages`; '
        'for others, write a step of your own around `update_grids`.')
  params = variables['params']
  # Copies, as optimizers may keep the same array twice, or the parameters.
  return TrainState(
      step=jnp.zeros((), jnp.int32), params=params,
      grid=variables.get('grid', {}),
      opt_state=jax.tree.map(jnp.copy, tx.init(params)),
      others={name: variables[name] for name in averages if name in variables})


def make_objective(
    model: nn.Module, loss_fn: LossFn, penalty: PenaltyFn | None = None,
    lamb: float = 0.0, *, averages: Sequence[str] = ()) -> Objective:
  """Returns `objective(params, grid, x, y, key=None) -> (value, metrics)`.

  Args:
    model: Model of the parameters, as it is in training. What it draws at
      random, as `nn.Dropout` does, it draws by `key`.
    loss_fn: Function of outputs and targets that returns the loss of each row;
      the value is its mean plus the weighted penalty.
    penalty: Function of params and edge statistics, a scalar, such as
      `regularization.Penalty()`.
    lamb: Weight of the penalty, >= 0. At 0 no statistics are computed.
    averages: Names of collections that the model writes in training, such as
      'batch_stats'. A step throws them away; see `update_averages`.

  Returns:
    A pure function. Its metrics are `loss` without the penalty, and `penalty`
    without `lamb`.
  """
  written = [*averages, 'edges'] if penalty and lamb else list(averages)

  def objective(params, collection, x, y, key=None):
    outputs, sown = model.apply(
        {'params': params, 'grid': collection}, x, mutable=written,
        rngs=_streams(key))
    loss = row_losses(loss_fn, outputs, y).mean()
    if penalty is None or not lamb:
      return loss, {'loss': loss, 'penalty': jnp.zeros_like(loss)}
    cost = penalty(params, sown.get('edges', {}))
    return loss + lamb * cost, {'loss': loss, 'penalty': cost}

  return objective


def _streams(key: jax.Array | None) -> dict[str, jax.Array]:
  """Returns the keys that Flax's layers ask for by name."""
  return {} if key is None else {'dropout': key}


def make_train_step(
    objective: Objective, tx: optax.GradientTransformation, *,
    same_batch: bool = False, key: jax.Array | None = None) -> Step:
  """Returns `step(state, (x, y)) -> (state, metrics)`: one optimizer step.

  Args:
    objective: What to minimize; see `make_objective`.
    tx: Optimizer of the state: any optax transform, also one that needs the
      value, its gradient or `value_fn`, as line searches do.
    same_batch: Whether all steps between two resets of the optimizer see the
      same batch and the same grids. Then the value and the gradient that the
      line search of `optax.lbfgs` has left in its state are not computed again.
    key: Random key for a model that draws, as `nn.Dropout` does. The objective
      is given a key of its own in each step: this one, folded with the step's
      number, so that a run that goes on draws as if it had not stopped.

  Returns:
    A pure function, not jitted, so that it can be part of a longer program.
    Where the objective or its gradient is not finite, parameters and optimizer
    stay as they were, and the metric `skipped` is 1 instead of 0.
  """
  tx = optax.with_extra_args_support(tx)
  bare = objective

  def step(state, batch):
    objective = bare if key is None else functools.partial(
        bare, key=jax.random.fold_in(key, state.step))

    def value_fn(params):
      return objective(params, state.grid, *batch)[0]

    if same_batch:
      value, grads = optax.value_and_grad_from_state(value_fn)(
          state.params, state=state.opt_state)
      _, metrics = objective(state.params, state.grid, *batch)
    else:
      (value, metrics), grads = jax.value_and_grad(objective, has_aux=True)(
          state.params, state.grid, *batch)
    updates, opt_state = tx.update(
        grads, state.opt_state, state.params, value=value, grad=grads,
        value_fn=value_fn)
    new = optax.apply_updates(state.params, updates), opt_state
    return _accept(state, new, value, grads, metrics)

  return step


def _accept(
    state: TrainState, new: tuple[Any, optax.OptState], value: jax.Array,
    grads: Any, metrics: Metrics) -> tuple[TrainState, Metrics]:
  """Takes new parameters and optimizer, if value and gradient are finite."""
  finite = jnp.isfinite(value)
  for grad in jax.tree.leaves(grads):
    finite &= jnp.isfinite(grad).all()
  params, opt_state = jax.tree.map(
      lambda new, old: jnp.where(finite, new, old), new,
      (state.params, state.opt_state))
  metrics = metrics | {'skipped': 1 - finite.astype(value.dtype)}
  return state.replace(
      step=state.step + 1, params=params, opt_state=opt_state), metrics


def row_losses(
    loss_fn: LossFn, outputs: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the loss of each row, [n].

  Raises:
    ValueError: If there is no row, or if `loss_fn` does not return one number
      for each, as when outputs [n, 1] and targets [n] broadcast to [n, n], be
      it on the way.
  """
  if not outputs.shape[0]:
    raise ValueError(f'the batch is empty: outputs have {outputs.shape}.')
  # Where targets lack an axis, a mean may hide that they were broadcast.
  missing = y.ndim < outputs.ndim
  try:
    with jax.numpy_rank_promotion('raise') if missing else (
        contextlib.nullcontext()):
      losses = loss_fn(outputs, y)
  except ValueError as error:
    if 'rank_promotion' not in str(error):
      raise
    # What JAX says of it is long, and names neither.
    raise ValueError(
        f'`loss_fn` broadcasts outputs {outputs.shape} against targets '
        f'{y.shape}; index the outputs or reshape the targets, as in '
        'y[:, None].') from None
  if losses.shape != outputs.shape[:1]:
    raise ValueError(
        f'`loss_fn` returned the shape {losses.shape} for outputs '
        f'{outputs.shape} and targets {y.shape}; it needs one number for each '
        f'of the {outputs.shape[0]} rows.')
  return losses


def zero_totals() -> dict[str, jax.Array]:
  """Returns what `run_steps` adds the metrics of a train step to."""
  return {name: jnp.zeros(()) for name in ('loss', 'penalty', 'skipped')}


def make_run_steps(
    step: Step, *, stop_at_skipped: bool = True,
    placement: sharding.Placement | None = None) -> Callable:
  """Returns a jitted loop of train steps over rows picked on the device.

  Args:
    step: Train step, as from `make_train_step`.
    stop_at_skipped: Whether the first step that is skipped, because something
      is not finite, is also the last one.
    placement: Devices of state and rows, if there are many.

  Returns:
    `run_steps(state, totals, data, rows, start, stop) -> (state, totals)`.
    `data` is a tuple of arrays with one entry for each example, `rows` [steps,
    batch] says which examples make up each batch, and steps start <= i < stop
    are taken. `totals`, zero at first, sums each metric over the steps that
    were not skipped; while it counts a skipped one, no more steps are taken if
    they are to stop. The bounds are traced: one program serves every number of
    steps. `state` and `totals` are donated.
  """
  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def run_steps(state, totals, data, rows, start, stop):
    def goes_on(carry):
      i, _, totals = carry
      return (i < stop) & ((totals['skipped'] == 0) | (not stop_at_skipped))

    def body(carry):
      i, state, totals = carry
      batch = jax.tree.map(lambda a: a[rows[i]], data)
      if placement:
        batch = placement.constrain_rows(batch)
      state, metrics = step(state, batch)
      if placement:
        state = placement.constrain(state)
      counted = metrics['skipped'] == 0
      totals = {name: totals[name] + (
          value if name == 'skipped' else jnp.where(counted, value, 0))
                for name, value in metrics.items()}
      return i + 1, state, totals

    done = jax.lax.while_loop(goes_on, body, (start, state, totals))[1:]
    return placement.constrain(done) if placement else done

  return run_steps


@functools.partial(
    jax.jit, static_argnames=('model', 'grid_update', 'placement'))
def update_state_grids(
    model: nn.Module, state: TrainState, x: jax.Array, *,
    grid_update: grids.GridUpdate = _GRID_UPDATE,
    placement: sharding.Placement | None = None) -> TrainState:
  """Moves every grid to the inputs that its layer sees for the batch `x`.

  Touches `grid` and the spline coefficients in `params`, nothing else.

  Args:
    model: Model of the state.
    state: State of its training.
    x: Batch of inputs.
    grid_update: How the knots are placed, and how far they move.
    placement: Devices of state and rows, if there are many.
  """
  if placement:
    x = placement.constrain_rows(x)
  variables = traversal.update_grids(
      model, state.variables, x, grid_update=grid_update)
  state = state.replace(params=variables['params'], grid=variables['grid'])
  return placement.constrain(state) if placement else state


def update_averages(
    model: nn.Module, state: TrainState, x: jax.Array, *,
    key: jax.Array | None = None,
    placement: sharding.Placement | None = None) -> TrainState:
  """Updates the averages of a model by a batch, as those of `nn.BatchNorm`.

  In training, such a layer goes by the batch; its averages are for what comes
  after. So they need not follow every step:

    state = create_state(model, tx, key, x, averages=['batch_stats'])
    step = make_train_step(make_objective(
        model.clone(train=True), loss_fn, averages=['batch_stats']), tx)
    ...
    state = update_averages(model.clone(train=True), state, x)  # Every 10.

  Args:
    model: Model of the state, as it is in training.
    state: State of its training.
    x: Batch of inputs.
    key: Random key for a model that draws, as `nn.Dropout` does.
    placement: Devices of state and rows, if there are many.
  """
  if placement:
    x = placement.constrain_rows(x)
  _, others = model.apply(
      state.variables, x, mutable=list(state.others), rngs=_streams(key))
  state = state.replace(others=others)
  return placement.constrain(state) if placement else state


def make_evaluate(
    model: nn.Module, metrics: dict[str, LossFn], batch_size: int = 1000,
    placement: sharding.Placement | None = None) -> Callable[
        ..., dict[str, jax.Array]]:
  """Returns jitted `evaluate(variables, (x, y), size=None)`: means over rows.

  Args:
    model: Model of the variables.
    metrics: Functions of outputs and targets by name; each returns one number
      a row.
    batch_size: Number of rows that are computed at a time.
    placement: Devices of the rows, if there are many; each computes the metrics
      of its own rows.

  Returns:
    A function of variables and rows. Of these the first `size` count, all of
    them by default.
  """
  parts = placement.data if placement else 1
  step = max(batch_size // parts, 1)

  def total(variables, rows, counted):
    x, y = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), rows)
    outputs = model.apply(variables, x)
    return {name: jnp.where(
        counted.reshape(-1), row_losses(metric, outputs, y), 0).sum()
            for name, metric in metrics.items()}

  @jax.jit
  def evaluate(variables, data, size=None):
    checks.check_rows('data', data[0])
    size = len(data[0]) if size is None else size

    # One row of `rows` for each device: what it holds stays side by side.
    rows, number = jax.tree.map(
        lambda a: a.reshape(parts, -1, *a.shape[1:]),
        (data, jnp.arange(len(data[0]))))

    def total_of_slice(start, width):
      part, index = jax.tree.map(
          lambda a: jax.lax.dynamic_slice_in_dim(a, start, width, 1),
          (rows, number))
      return total(variables, part, index < size)

    # Slices of `step` rows in a loop, then what is left.
    length = number.shape[1]
    whole = length - length % step
    totals = []
    if whole:
      sums = jax.lax.map(
          lambda start: total_of_slice(start, step), jnp.arange(0, whole, step))
      totals.append(jax.tree.map(lambda a: a.sum(0), sums))
    if whole < length:
      totals.append(total_of_slice(whole, length - whole))
    return jax.tree.map(lambda *sums: sum(sums) / size, *totals)

  return evaluate
