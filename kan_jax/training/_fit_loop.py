"""The loop of `fit`: windows of steps, grid updates, history, patience."""

from collections.abc import Callable
from collections.abc import Mapping
import functools
import itertools
import math
from typing import Any
from typing import NamedTuple
import warnings

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import grids
from kan_jax.training import nonfinite
from kan_jax.training import optimizers
from kan_jax.training import train_steps

Data = tuple[jax.Array, jax.Array]


class Window(NamedTuple):
  """Steps that one entry of the history is about.

  Attributes:
    start: Number of the first step.
    size: Number of steps.
    room: Number of steps in the longest window.
    updates: Which of the steps, counted from 0, begin with a grid update.
    may_settle: Whether all grid updates are over, also in the window before.
  """
  start: int
  size: int
  room: int
  updates: frozenset[int]
  may_settle: bool


class Schedule(NamedTuple):
  """What happens when, on each grid of `refine`."""
  steps: int
  log_every: int
  update_steps: frozenset[int]

  def windows(self) -> list[Window]:
    """Returns the windows of all steps."""
    room = min(self.log_every, self.steps)
    updates = [step for step in self.update_steps if step < self.steps]
    # The entry of the last update's window is not compared with any other.
    settled_from = self.log_every + (
        (max(updates) // self.log_every + 1) * self.log_every
        if updates else 0)
    return [Window(
        start, min(self.log_every, self.steps - start), room,
        frozenset(step - start for step in updates
                  if start <= step < start + self.log_every),
        start >= settled_from)
            for start in range(0, self.steps, self.log_every)]


class _Best(NamedTuple):
  """Where the validation loss was least."""
  loss: float
  entry: int  # Of the history.
  model: nn.Module
  variables: dict[str, Any]


class Programs(NamedTuple):
  """What is compiled."""
  take: Any
  update_grids: Callable[..., train_steps.TrainState]
  evaluate: Callable[..., jax.Array]


@functools.cache
def programs(**compiler_options: Any) -> Programs:
  """Returns the programs of all fits with the same options of the compiler."""
  jit = functools.partial(jax.jit, compiler_options=compiler_options)
  return Programs(
      jit(_take, static_argnames=('model', 'optimizer', 'loss')),
      jit(_update_grids, static_argnames=('model', 'grid_update')),
      jit(_evaluate, static_argnames=('model', 'loss_fn')))


def _take(
    state, totals, data, rows, start, stop, *, model, optimizer, loss):
  """Takes steps start <= i < stop, and adds their metrics to the totals."""
  step = optimizer.make_step(model, loss)
  return train_steps.make_run_steps(step)(
      state, totals, data, rows, start, stop)


def _update_grids(model, state, x, *, grid_update):
  return train_steps.update_state_grids(
      model, state, x, grid_update=grid_update)


def _evaluate(variables, data, *, model, loss_fn):
  """Returns the mean loss over rows."""
  evaluate = train_steps.make_evaluate(model, {'loss': loss_fn})
  return evaluate(variables, data)['loss']


class Loop:
  """How far the fit has come. Its arrays are new ones after every change."""

  def __init__(
      self, model: nn.Module, variables: Mapping[str, Any],
      optimizer: optimizers.Optimizer, loss: optimizers.Loss,
      grid_update: grids.GridUpdate, data: Data, validation: Data | None,
      programs: Programs):
    self.model: Any = model
    self.optimizer, self.loss, self.grid_update = optimizer, loss, grid_update
    self.data, self.validation, self.programs = data, validation, programs
    self.taken, self.reason = 0, 'steps'
    self.history: list[dict[str, float]] = []
    self.best: _Best | None = None
    params = variables['params']
    self.state = train_steps.TrainState(
        step=jnp.zeros((), jnp.int32), params=params,
        grid=variables.get('grid', {}), opt_state=optimizer.init(params))

  def refine(self, grid: int | None) -> None:
    """Goes on with more intervals; `grid` is None for as many as there are."""
    if grid is not None and grid != self.model.grid:
      self.model, self.state = self.optimizer.refine(
          self.model, self.state, grid)

  def take(self, window: Window, rows: np.ndarray) -> None:
    """Takes the steps of a window, a batch each, and notes the metrics."""
    # All windows and their parts have the same shape, so one program does.
    rows = np.pad(rows, [(0, window.room - window.size)] + [(0, 0)] * (
        rows.ndim - 1))
    before, totals = self.state.step, train_steps.zero_totals()
    cuts = sorted({0, window.size, *window.updates})
    for start, stop in itertools.pairwise(cuts):
      if start in window.updates:
        self._update_grids(self.data[0][rows[start]])
      self.state, totals = self.programs.take(
          self.state, totals, self.data, rows, start, stop, model=self.model,
          optimizer=self.optimizer, loss=self.loss)
      if totals['skipped']:
        break
    done = int(self.state.step - before)
    self.taken += done
    if totals['skipped']:
      self.reason = self._explain(rows[done - 1])
      # Whoever called `fit`, which a decorator wraps.
      warnings.warn(f'fit stopped: {self.reason}', stacklevel=4)
    self._note(done - int(totals['skipped']), totals)

  def _update_grids(self, x: jax.Array) -> None:
    """Moves the grids to a batch."""
    state = self.programs.update_grids(
        self.model, self.state, x, grid_update=self.grid_update)
    self.state = state.replace(
        opt_state=self.optimizer.restart(state.opt_state, state.params))

  def _note(self, counted: int, totals: dict[str, jax.Array]) -> None:
    """Adds an entry to the history: means over the steps that counted."""
    means = {name: float(totals[name]) / counted if counted else math.nan
             for name in ('loss', 'penalty')}
    validation_loss = math.nan
    if self.validation is not None:
      validation_loss = float(self.programs.evaluate(
          self.state.variables, self.validation, model=self.model,
          loss_fn=self.loss.loss_fn))
    self.history.append({
        'step': self.taken, 'grid': getattr(self.model, 'grid', math.nan),
        **means, 'validation_loss': validation_loss})

  def _explain(self, row: np.ndarray) -> str:
    """Says what was not finite in the step just taken."""
    objective = self.optimizer.make_objective(self.model, self.loss)
    batch = jax.tree.map(lambda a: a[row], self.data)
    kind = nonfinite.find_nonfinite(self.model, objective, self.state, batch)
    return f'in step {self.taken}, {kind} is not finite'

  def rests(self) -> bool:
    """Whether the last entry of the history hardly lowers the loss."""
    tolerance = self.optimizer.tolerance
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

  def result(self) -> tuple[
      nn.Module, dict[str, Any], dict[str, np.ndarray], str]:
    """Returns model, variables, history and why it ended."""
    model, variables = self.model, self.state.variables
    if self.best:
      model, variables = self.best.model, self.best.variables
    columns = {name: np.array([entry[name] for entry in self.history])
               for name in self.history[0]}
    return model, variables, columns, self.reason
