"""Fitting a model to arrays with one call: optimizer, grids, refinement.

A loop over the transforms of `training`, `least_squares` and `refinement`; who
needs another order of things writes it with these.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
import math
import operator
from typing import Any
from typing import NamedTuple
import warnings

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import _progress as progress_lib
from kan_jax import checks
from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.training import _batches as batches_lib
from kan_jax.training import levenberg_marquardt
from kan_jax.training import nonfinite
from kan_jax.training import optimizers
from kan_jax.training import refinement
from kan_jax.training import train_steps

_PENALTY = regularization.Penalty()
Data = tuple[jax.Array, jax.Array]
Pair = tuple[jax.typing.ArrayLike, jax.typing.ArrayLike]


class Fitted(NamedTuple):
  """What `fit` returns.

  Attributes:
    model: The model, with the last grid of `refine`.
    variables: Its variables: the last ones, or with `patience` those of the
      least validation loss.
    history: Columns of equal length, an entry for every `interval` steps:
      `step`, the steps taken; `grid`, the intervals of the splines; `loss`, the
      mean over these steps of the loss before each, without the penalty;
      `penalty`, likewise and without `lamb`; `validation_loss`, after the last
      of the steps, NaN without validation data.
    reason: Why it ended: 'steps', 'patience', or what was not finite.
  """
  model: nn.Module
  variables: dict[str, Any]
  history: dict[str, np.ndarray]
  reason: str


def fit(
    model: nn.Module, variables: Mapping[str, Any], x: jax.typing.ArrayLike,
    y: jax.typing.ArrayLike, *,
    loss_fn: train_steps.LossFn = optimizers.squared_error,
    optimizer: optimizers.Optimizer = 'lbfgs', steps: int = 100,
    batch_size: int | None = None, key: jax.Array | None = None,
    lamb: float = 0.0,
    penalty: train_steps.PenaltyFn = _PENALTY,
    interval: int = 10, stop_grid_update: int = 50,
    grid_options: Mapping[str, float] | None = None,
    refine: Sequence[int] = (), tolerance: float = 0.0,
    frozen: Sequence[str] = (), smooth: float = 0.0,
    residuals: optimizers.MakeResiduals = levenberg_marquardt.model_residuals,
    validation: Pair | None = None,
    patience: int | None = None, progress: bool = True,
    compiler_options: Mapping[str, Any] | None = None) -> Fitted:
  """Fits a model to data. Pure: the arguments stay as they are.

  Args:
    model: A Flax module with the collections `params` and `grid`.
    variables: Where to start, as from `model.init`.
    x: Inputs, [n, ...].
    y: Targets, [n, ...], as `loss_fn` takes them.
    loss_fn: Of outputs and targets, the loss of each row, [n].
    optimizer: 'lbfgs', or an optax transform such as `optax.adam(1e-3)`, for
      any loss; 'lm', Levenberg-Marquardt, for squared errors without penalty in
      small networks, at its best in float64. 'lbfgs' forgets its curvature
      after a grid update.
    steps: Steps of the optimizer, for each grid of `refine`.
    batch_size: Rows in a batch, <= n; every row once in each pass over the
      data, and a batch may reach into the next pass. All rows by default, as
      'lbfgs' and 'lm' need.
    key: Random key that shuffles the rows, for batches.
    lamb: Weight of the penalty.
    penalty: See `training.make_objective`.
    interval: Steps from one grid update to the next, and from one entry of the
      history to the next.
    stop_grid_update: Grids are updated only before this many steps, on each
      grid of `refine`; 0 never. The last steps should go without: a refit
      changes the function a little.
    grid_options: Options of `layers.update_grids`, such as `grid_eps`.
    refine: Numbers of intervals, increasing, through which a KAN or KANLayer
      goes, at most `steps` steps on each; its own by default.
    tolerance: A grid of `refine` has had enough steps once `interval` of them,
      after the last grid update, lowered the loss by less than this part of
      it; in [0, 1), and 0 takes all `steps`. For losses without batches.
    frozen: Names of parameters, such as 'scale_base', that stay as they are.
    smooth: For 'lm', the weight of the `roughness` for targets of about 1.
      About 1e-14 keeps the ends of fine grids from following single samples
      and lets them have more coefficients than there are rows; it costs smooth
      functions nothing.
    residuals: For 'lm', what is squared and averaged: of the model, a function
      of params, grid, x and y that returns what each row leaves, [n, ...]; by
      default outputs minus targets, see `least_squares.model_residuals`.
    validation: Inputs and targets for the history and for `patience`.
    patience: With validation data, how many entries of the history in a row
      may be without a lower validation loss; then it stops.
    progress: Whether a terminal shows a bar; it needs tqdm.
    compiler_options: Of `jax.jit`, for the steps and the grid updates;
      `compiling.QUICK` suits fits that compile for longer than they run.

  Raises:
    ValueError: If an argument is not what it says, or data are not finite.
  """
  _check_counts(steps, interval, stop_grid_update, batch_size, patience)
  task = optimizers.Task(
      optimizer, loss_fn, penalty, float(lamb), tuple(frozen), float(smooth),
      residuals)
  optimizers.check(task, variables['params'], batch_size, tolerance)
  data = _check_data(('x', 'y'), (x, y))
  held_out = validation and _check_data(
      ('validation[0]', 'validation[1]'), validation)
  if patience and not held_out:
    raise ValueError('`patience` needs `validation` data; got none.')
  grids = _check_refine(model, refine)
  batches = batches_lib.Batches(data, batch_size, key)
  loop = _Loop(model, variables, task, dict(grid_options or {}),
               _programs(**compiler_options or {}))
  with progress_lib.Bar(steps * len(grids), progress) as bar:
    for grid, start in itertools.product(grids, range(0, steps, interval)):
      if start == 0:
        loop.refine(grid)
        settled = False
      elif settled:
        continue
      rows = batches.next(min(interval, steps - start))
      if start < stop_grid_update:
        loop.update_grids(batches.data[0][rows[0]])
      loop.take(batches.data, rows, held_out)
      loop.judge(patience)
      settled = start >= stop_grid_update + interval and loop.rests(tolerance)
      bar.show(steps - start if settled else len(rows), {
          name: loop.history[-1][name] for name in ('loss', 'validation_loss')})
      if loop.reason != 'steps':
        break
  return loop.result()


class _Best(NamedTuple):
  """Where the validation loss was least."""
  loss: float
  entry: int  # Of the history.
  model: nn.Module
  variables: dict[str, Any]


class _Loop:
  """Where the fit has come to. Its arrays are new ones after every change."""

  def __init__(
      self, model: nn.Module, variables: Mapping[str, Any],
      task: optimizers.Task, grid_options: dict[str, float],
      programs: '_Programs'):
    self.model: Any = model
    self.task, self.grid_options, self.programs = task, grid_options, programs
    self.taken, self.reason = 0, 'steps'
    self.history: list[dict[str, float]] = []
    self.best: _Best | None = None
    params = variables['params']
    self.state = train_steps.TrainState(
        step=jnp.zeros((), jnp.int32), params=params,
        grid=variables.get('grid', {}),
        opt_state=optimizers.start(task, params))

  def refine(self, grid: int | None) -> None:
    """Goes on with more intervals; `grid` is None for as many as there are."""
    if grid is None or grid == self.model.grid:
      return
    self.model = self.model.clone(grid=grid)
    if isinstance(self.task.optimizer, str):
      variables = edits.refine_variables(self.state.variables, grid)
      self.state = self.state.replace(
          params=variables['params'], grid=variables['grid'])
      self._forget()
    else:
      self.state = refinement.refine_state(
          self.state, grid, self.task.optimizer)

  def update_grids(self, x: jax.Array) -> None:
    """Moves the grids to a batch."""
    self.state = self.programs.update_grids(
        self.state, x, model=self.model, **self.grid_options)
    self._forget()

  def _forget(self) -> None:
    """Starts anew what the optimizer remembers of other coefficients."""
    if self.task.optimizer == 'lbfgs':
      opt_state = optimizers.start(self.task, self.state.params)
    elif self.task.optimizer == 'lm':
      opt_state = levenberg_marquardt.restart(self.state.opt_state)
    else:
      return
    self.state = self.state.replace(opt_state=opt_state)

  def take(
      self, data: Data, rows: np.ndarray, held_out: Data | None) -> None:
    """Takes a step for each of the rows and notes the metrics."""
    before = self.state.step
    self.state, totals, validation_loss = self.programs.take(
        self.state, data, rows, held_out, model=self.model, task=self.task)
    done = int(self.state.step - before)
    self.taken += done
    if totals['skipped']:
      self.reason = self._explain(data, rows[done - 1])
      warnings.warn(f'fit stopped: {self.reason}', stacklevel=3)
    counted = done - int(totals['skipped'])
    mean = {name: float(totals[name]) / counted if counted else math.nan
            for name in ('loss', 'penalty')}
    self.history.append({
        'step': self.taken, 'grid': getattr(self.model, 'grid', math.nan),
        **mean, 'validation_loss': float(validation_loss)})

  def _explain(self, data: Data, row: np.ndarray) -> str:
    objective = optimizers.make_objective(self.model, self.task)
    batch = jax.tree.map(lambda a: a[row], data)
    kind = nonfinite.find_nonfinite(self.model, objective, self.state, batch)
    return f'in step {self.taken}, {kind} is not finite'

  def rests(self, tolerance: float) -> bool:
    """Whether the last entry lowers the loss of that before it no further."""
    before, now = (entry['loss'] for entry in self.history[-2:])
    return tolerance > 0 and now > (1 - tolerance) * before

  def judge(self, patience: int | None) -> None:
    """Keeps what is best on the validation data, and may say to stop."""
    loss = self.history[-1]['validation_loss']
    if patience and (self.best is None or loss < self.best.loss):
      self.best = _Best(
          loss, len(self.history), self.model, self.state.variables)
    elif patience and self.best and (
        len(self.history) - self.best.entry >= patience):
      self.reason = 'patience'

  def result(self) -> Fitted:
    model, variables = self.model, self.state.variables
    if self.best:
      model, variables = self.best.model, self.best.variables
    columns = {name: np.array([entry[name] for entry in self.history])
               for name in self.history[0]}
    return Fitted(model, variables, columns, self.reason)


class _Programs(NamedTuple):
  """What is compiled."""
  take: Callable
  update_grids: Callable


@functools.cache
def _programs(**compiler_options: Any) -> _Programs:
  """Returns the programs of all fits with the same options of the compiler."""
  if not compiler_options:
    return _Programs(
        jax.jit(_take, static_argnames=('model', 'task')),
        train_steps.update_grids)
  jit = functools.partial(jax.jit, compiler_options=compiler_options)

  def update_grids(state, x, model, options):
    return train_steps.update_grids(state, x, model=model, **dict(options))

  compiled = jit(update_grids, static_argnums=(2, 3))
  return _Programs(
      jit(_take, static_argnames=('model', 'task')),
      lambda state, x, model, **options: compiled(
          state, x, model, tuple(options.items())))


def _take(state, data, rows, held_out, *, model, task):
  """Takes a step for each of the rows, a batch each, and evaluates."""
  run_steps = train_steps.make_run_steps(optimizers.make_step(model, task))
  state, totals = run_steps(
      state, train_steps.zero_totals(), data, rows, 0, len(rows))
  if held_out is None:
    return state, totals, math.nan
  evaluate = train_steps.make_evaluate(model, {'loss': task.loss_fn})
  return state, totals, evaluate(state.variables, held_out)['loss']


def _check_counts(
    steps: int, interval: int, stop_grid_update: int, batch_size: int | None,
    patience: int | None) -> None:
  """Raises a ValueError for what is not a whole number of the right size."""
  for name, value, least in (
      ('steps', steps, 1), ('interval', interval, 1),
      ('stop_grid_update', stop_grid_update, 0), ('batch_size', batch_size, 1),
      ('patience', patience, 1)):
    if value is None and name in ('batch_size', 'patience'):
      continue
    try:
      sound = operator.index(value) >= least  # type: ignore[arg-type]
    except TypeError:
      sound = False
    if not sound:
      raise ValueError(
          f'`{name}` is a whole number >= {least}; got {value!r}.')


def _check_data(
    names: tuple[str, str], data: Pair) -> tuple[jax.Array, jax.Array]:
  """Returns arrays; raises a ValueError unless rows are finite and as many."""
  for name, rows in zip(names, data, strict=True):
    checks.check_rows(name, rows)
  x, y = (jnp.asarray(rows) for rows in data)
  if len(x) != len(y):
    raise ValueError(
        f'`{names[0]}` and `{names[1]}` need as many rows; got {x.shape} and '
        f'{y.shape}.')
  return x, y


def _check_refine(
    model: nn.Module, refine: Sequence[int]) -> Sequence[int | None]:
  """Returns the stages; raises a ValueError for what cannot be refined."""
  if not refine:
    return (None,)
  if not isinstance(model, linen.KAN | linen.KANLayer):
    raise ValueError(
        '`refine` needs a KAN or a KANLayer, whose attribute `grid` it '
        f'changes; got a {type(model).__name__}.')
  if list(refine) != sorted(set(refine)) or refine[0] < model.grid:
    raise ValueError(
        f'`refine` increases, from the {model.grid} intervals that there are '
        f'or more; got {refine!r}.')
  return refine
