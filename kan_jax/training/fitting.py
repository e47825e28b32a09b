"""Fitting a model to arrays with one call: optimizer, grids, refinement.

It puts together what `train_steps`, `optimizers` and `refinement` offer; for
another order of things, write a loop of your own with these.
"""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import html
import math
from typing import Any
from typing import Generic
from typing import NamedTuple
from typing import TypedDict
from typing import TypeVar

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from kan_jax import _progress
from kan_jax import checks
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers.nnx import accept
from kan_jax.splines import bases
from kan_jax.splines import grids
from kan_jax.training import _batches
from kan_jax.training import _fit_loop
from kan_jax.training import optimizers
from kan_jax.training import train_steps

_Model = TypeVar('_Model', bound=nn.Module)

_PENALTY = regularization.Penalty()
_LBFGS = optimizers.LBFGS()
_GRID_UPDATE = grids.GridUpdate()
_SHOWN = 12  # Most rows of a history in a notebook.
Rows = Any  # An array, or what numpy makes one of, such as a DataFrame.


class LogEntry(NamedTuple):
  """What a `callback` of `fit` gets, every `log_every` steps.

  Attributes:
    step: Number of steps taken.
    loss: Mean loss over the last of them; see `Fitted.history`.
    metrics: The other columns of the history, but for those that are NaN.
  """
  step: int
  loss: float
  metrics: dict[str, float]


class FitOptions(TypedDict, total=False):
  """Options of `fit`, for functions that hand them on; `key` is not among them.
  """
  optimizer: optimizers.Optimizer | optax.GradientTransformation
  steps: int
  loss_fn: train_steps.LossFn
  batch_size: int | None
  lamb: float
  update_steps: Collection[int]
  refine: Sequence[int]
  validation: tuple[Rows, Rows] | None
  patience: int | None
  penalty: train_steps.PenaltyFn
  grid_update: grids.GridUpdate
  log_every: int
  progress: bool | str
  callback: Callable[[LogEntry], None] | None
  compiler_options: Mapping[str, Any] | None


class Fitted(NamedTuple, Generic[_Model]):
  """What `fit` returns.

  Attributes:
    model: The model, with the last grid of `refine`; for a `kan_jax.nnx.KAN`,
      a new one that holds the variables.
    variables: Its variables: the last ones, or with `patience` those of the
      least validation loss.
    history: Columns of equal length, an entry for every `log_every` steps:
      `step`, the steps taken; `grid`, the intervals of the splines; `loss`, the
      mean over these steps of the loss before each, without the penalty;
      `penalty`, likewise and without `lamb`; `validation_loss`, after the last
      of the steps, NaN without validation data.
    reason: Why it ended: 'steps', 'patience', or what was not finite.
  """
  model: _Model
  variables: dict[str, Any]
  history: dict[str, np.ndarray]
  reason: str

  def predict(self, x: Rows) -> jax.Array:
    """Returns the outputs of the model for inputs [n, ...]."""
    model = accept.without_arrays(self.model)
    outputs: Any = model.apply(self.variables, checks.as_numbers('x', x))
    return outputs

  def __repr__(self) -> str:
    """The model, and what each grid of `refine` has reached, a line each."""
    model, history = accept.without_arrays(self.model), self.history
    size = sum(leaf.size for leaf in jax.tree.leaves(self.variables['params']))
    features = getattr(model, 'features', None)
    lines = [f'Fitted {type(model).__name__}'
             + (f' {list(features)}' if isinstance(features, tuple) else '')
             + f', {size} parameters, ended by {self.reason!r}:']
    for grid, last in _ends(history['grid']):
      losses = ', '.join(
          f'{name.replace("_", " ")} {history[name][last]:.3g}'
          for name in ('loss', 'validation_loss')
          if not math.isnan(history[name][last]))
      lines.append((f'  grid {grid:.0f}, ' if grid == grid else '  ')
                   + f'step {history["step"][last]}: {losses}')
    return '\n'.join(lines)


  def _repr_html_(self) -> str:
    """The history as a table, for notebooks."""
    count = len(self.history['step'])
    shown = sorted({
        round(k) for k in np.linspace(0, count - 1, min(count, _SHOWN))})
    columns = {name: column for name, column in self.history.items()
               if not np.isnan(column).all()}
    head = ''.join(f'<th>{name.replace("_", " ")}</th>' for name in columns)
    rows = ''.join('<tr>' + ''.join(
        f'<td>{column[k]:.6g}</td>' for column in columns.values()) + '</tr>'
        for k in shown)
    title = html.escape(repr(self).partition(':')[0])
    return (f'<p>{title}</p><table><thead><tr>{head}</tr></thead>'
            f'<tbody>{rows}</tbody></table>')


def _ends(grid: np.ndarray) -> list[tuple[float, int]]:
  """Returns each number of intervals and its last entry of the history."""
  last = [k for k in range(len(grid))
          if k + 1 == len(grid) or grid[k + 1] > grid[k]]
  return [(float(grid[k]), k) for k in last]


@accept.takes_nnx
def fit(
    model: _Model, variables: Mapping[str, Any], x: Rows, y: Rows, *,
    optimizer: optimizers.Optimizer | optax.GradientTransformation = _LBFGS,
    steps: int = 100,
    loss_fn: train_steps.LossFn = optimizers.squared_error,
    batch_size: int | None = None, key: jax.Array | None = None,
    lamb: float = 0.0, update_steps: Collection[int] = range(0, 50, 10),
    refine: Sequence[int] = (), validation: tuple[Rows, Rows] | None = None,
    patience: int | None = None,
    penalty: train_steps.PenaltyFn = _PENALTY,
    grid_update: grids.GridUpdate = _GRID_UPDATE, log_every: int = 10,
    progress: bool | str = True,
    callback: Callable[[LogEntry], None] | None = None,
    compiler_options: Mapping[str, Any] | None = None) -> Fitted[_Model]:
  """Fits a model to data. Pure: the arguments stay as they are.

    fitted = kan_jax.fit(
        model, variables, x, y, optimizer=optax.adam(1e-3), steps=1000)
    y_new = fitted.predict(x_new)

  Args:
    model: Flax module with the collections `params` and, if it holds KAN
      layers, `grid`; or a `kan_jax.nnx.KAN` or `KANLayer`, which comes without
      `variables`.
    variables: Variables to start from, as from `model.init`.
    x: Inputs, [n, ...].
    y: Targets, [n, ...], as `loss_fn` takes them.
    optimizer: `LBFGS()` or an optax transform, such as `optax.adam(1e-3)`, for
      any loss; `LevenbergMarquardt()` for squared errors without penalty in
      small networks. Options such as `frozen` and `tolerance` are theirs.
    steps: Number of steps, for each grid of `refine`.
    loss_fn: Function of outputs and targets that returns the loss of each row,
      [n].
    batch_size: Number of rows in a batch, <= n; every row once in each pass
      over the data, and a batch may reach into the next pass. All rows by
      default, as `LBFGS` and `LevenbergMarquardt` need.
    key: Random key that shuffles the rows, for batches.
    lamb: Weight of the penalty, >= 0.
    update_steps: Steps before which the grids are updated, counted from 0 on
      each grid of `refine`; () for never. The last steps should go without: a
      refit changes the function a little.
    refine: Numbers of intervals, increasing, through which a KAN or KANLayer
      goes, at most `steps` steps on each; its own by default.
    validation: Inputs and targets for the history and for `patience`.
    patience: Number of entries of the history in a row that may be without a
      lower validation loss; then it stops.
    penalty: Penalty on edges; see `training.make_objective`.
    grid_update: How a grid update places the knots.
    log_every: Number of steps from one entry of the history to the next.
    progress: Whether a terminal or a notebook shows a bar; a text stands before
      it. TQDM_DISABLE=1 in the environment turns all bars off.
    callback: Function that gets a `LogEntry` with each entry of the history,
      for a logger of your own.
    compiler_options: Options of `jax.jit` for the steps and the grid updates;
      `compiling.QUICK` suits fits that compile for longer than they run.

  Raises:
    ValueError: If an argument is not what it says, or data are not finite.
  """
  checks.check_model(model)
  _check_variables(variables)
  optimizer = optimizers.as_optimizer(optimizer)
  schedule = _fit_loop.Schedule(
      checks.check_whole('steps', steps, 1),
      checks.check_whole('log_every', log_every, 1),
      _check_update_steps(update_steps))
  checks.check_whole('batch_size', batch_size, 1, optional=True)
  checks.check_whole('patience', patience, 1, optional=True)
  if optimizer.all_rows and batch_size is not None:
    raise ValueError(
        '`batch_size` is for optax transforms; '
        f'{type(optimizer).__name__} needs all rows.')
  if not (math.isfinite(lamb) and lamb >= 0):
    raise ValueError(f'`lamb` is a weight >= 0; got {lamb!r}.')
  data = _check_data(('x', 'y'), (x, y))
  validation_data = validation and _check_data(
      ('validation[0]', 'validation[1]'), validation)
  if patience and not validation_data:
    raise ValueError('`patience` needs `validation` data; got none.')
  stages = _check_refine(model, refine)
  loss = optimizers.Loss(loss_fn, penalty, float(lamb))
  optimizer.make_objective(model, loss)  # Says at once if it cannot.

  batches = _batches.Batches(data, batch_size, key)
  loop = _fit_loop.Loop(
      model, variables, optimizer, loss, grid_update, batches.data,
      validation_data, _fit_loop.programs(**compiler_options or {}))
  with _progress.Bar(
      schedule.steps * len(stages), progress, _progress.COMPILING) as bar:
    for grid in stages:
      loop.refine(grid)
      stage = f'grid {grid}' if len(stages) > 1 else ''
      bar.wait(stage, _progress.COMPILING)
      for window in schedule.windows():
        loop.take(window, batches.next(window.size))
        loop.judge(patience)
        settled = window.may_settle and loop.rests()
        if not window.start:
          bar.count(stage)
        _tell(loop.history[-1], callback, bar, (
            schedule.steps - window.start if settled else window.size))
        if settled or loop.reason != 'steps':
          break
      if loop.reason != 'steps':
        break
  result: Any = loop.result()  # Refinement returns a model of the same class.
  return Fitted(*result)


def _tell(
    entry: Mapping[str, float], callback: Callable[[LogEntry], None] | None,
    bar: _progress.Bar, steps: int) -> None:
  """Hands an entry of the history to the callback and to the bar."""
  bar.show(steps, {name: entry[name] for name in ('loss', 'validation_loss')})
  if callback:
    callback(LogEntry(int(entry['step']), entry['loss'], {
        name: value for name, value in entry.items()
        if name not in ('step', 'loss') and not math.isnan(value)}))


def _check_update_steps(update_steps: Collection[int]) -> frozenset[int]:
  """Returns the steps; raises a ValueError unless they are whole numbers."""
  if not isinstance(update_steps, Collection) or isinstance(update_steps, str):
    raise ValueError(
        '`update_steps` are steps before which the grids are updated, such as '
        f'range(0, 50, 10) or () for never; got {update_steps!r}.')
  return frozenset(
      checks.check_whole('update_steps', step, 0) for step in update_steps)


def _check_variables(variables: Any) -> None:
  """Raises a ValueError unless there are parameters."""
  if not isinstance(variables, Mapping) or 'params' not in variables:
    got = list(variables) if isinstance(variables, Mapping) else (
        f'a {type(variables).__name__}')
    raise ValueError(
        '`variables` needs the collection `params`, as from `model.init('
        f'jax.random.key(0), x)`; got {got}. `fit_best` begins without.')


def _check_data(
    names: tuple[str, str], data: tuple[Rows, Rows]) -> _fit_loop.Data:
  """Returns arrays; raises a ValueError unless rows are finite and as many."""
  for name, rows in zip(names, data, strict=True):
    checks.check_rows(name, rows)
  x, y = (jnp.asarray(checks.as_numbers(name, rows))
          for name, rows in zip(names, data, strict=True))
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
  bases.check_refine(model.basis)
  if list(refine) != sorted(set(refine)) or refine[0] < model.grid:
    raise ValueError(
        f'`refine` increases, from the {model.grid} intervals that there are '
        f'or more; got {refine!r}.')
  return refine
