"""The training loop of the MNIST experiment: epochs, logs, checkpoints."""

from collections.abc import Callable
from collections.abc import Iterator
import itertools
import time
from typing import NamedTuple

import jax
import numpy as np

from experiments import cli
from experiments.data import feeds
from experiments.data import sets
from experiments.data import sources
from experiments.devices import processes
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import run_folder
from kan_jax import _progress
from kan_jax.training import nonfinite
from kan_jax.training import train_steps

LOG_EVERY = 100  # Steps between two log lines within an epoch.
# The summary warns if the test accuracy ends FALL points below that of the best
# epoch, or, on MNIST, below POOR; both in percent.
FALL, POOR = 3.0, 90.0


class Result(NamedTuple):
  """What a run ends with; accuracies in percent."""
  config: configs.Config
  state: train_steps.TrainState
  loss: float
  acc_train: float
  acc_test: float
  epoch_seconds: tuple[float, ...]
  acc_best: float  # Test accuracy of the best epoch.
  edges_left: int | None = None
  edges: int | None = None
  acc_pruned: float | None = None


def summary(result: Result, name: str) -> str:
  """Returns one line on a run: its losses, accuracies, seconds and edges."""
  text = (f'Summary: {name} seed {result.config.seed}: '
          f'Loss: {result.loss:.6f} Acc(Train): {result.acc_train:.2f} '
          f'Acc(Test): {result.acc_test:.2f}, '
          f'{sum(result.epoch_seconds):.1f} s')
  if result.edges:
    text += (
        f'; {result.edges_left} of {result.edges} edges score '
        f'{result.config.prune_threshold:g} or more, Acc(Test) with these '
        f'alone: {result.acc_pruned:.2f}')
  poor = result.config.dataset == 'mnist' and result.acc_test < POOR
  if poor or result.acc_best - result.acc_test > FALL:
    text += (f'; WARNING: far from what it should reach (best epoch: '
             f'{result.acc_best:.2f}); is --lamb or --learning_rate too large?')
  return text


class Loop:
  """One run.

  Attributes:
    progress: What the run has reached; a checkpoint holds just this.
  """

  def __init__(
      self, config: configs.Config, dataset: sets.Dataset | sources.Set,
      programs: compiled.Programs, *, log: Callable[[str], None] = print,
      recorder: run_folder.Recorder | None = None,
      signals: cli.Signals | None = None, checkpoint_every: int = 0):
    """Prepares a run, or continues the one that the recorder resumes.

    Args:
      config: The run.
      dataset: Its examples: in memory, or to be read as they are needed.
      programs: Made by `compiled.build` for this config, up to the seed.
      log: Takes each log line.
      recorder: Keeps metrics and checkpoints; without one, nothing is kept.
      signals: Asks the run to end early.
      checkpoint_every: Steps between checkpoints within an epoch; with 0, the
        only checkpoint of an epoch is at its end.

    Raises:
      cli.UsageError: If the data, or what the recorder resumes, cannot be used.
    """
    self._config, self._programs, self._log = config, programs, log
    self._recorder, self._signals = recorder, signals or cli.Signals()
    self._checkpoint_every = checkpoint_every
    self._train, self._test = feeds.open_feeds(dataset, programs.placement)
    self._size = len(self._train)
    self._steps = -(-self._size // config.batch_size)  # In an epoch.
    self.progress = compiled.begin(
        config, programs, np.zeros((1, *dataset.shape), np.float32))
    self._rows: list[dict[str, float]] = []
    self._compiled = False  # Whether the first span of steps is done.
    if recorder:
      self.progress, self._rows = recorder.restore(self.progress)
      recorder.check_epochs(int(self.progress.state.step) // self._steps)

  def run(self) -> Result:
    """Trains to the end; evaluates after each epoch.

    Raises:
      cli.RunError: If a step was not finite and the config says to stop.
      cli.InterruptedRunError: If a signal came.
    """
    first, part = divmod(int(self.progress.state.step), self._steps)
    if first or part:
      self._log(f'Resuming after step {self.progress.state.step}')
    if self._recorder and (note := self._recorder.unfinished()):
      self._log(note)
    for epoch in range(first, self._config.epochs):
      start = time.perf_counter()
      order = np.asarray(
          compiled.permute(self.progress.order_key, epoch, self._size))
      self._run_epoch(epoch, order)
      self._finish_epoch(epoch, start)
    last = self._rows[-1]
    result = Result(
        self._config, self.progress.state, last['loss'], last['acc_train'],
        last['acc_test'], tuple(row['seconds'] for row in self._rows),
        max(row['acc_test'] for row in self._rows))
    return self._score_edges(result)

  def _run_epoch(self, epoch: int, order: np.ndarray) -> None:
    """Takes the steps of an epoch that have not been taken yet."""
    batch, first = self._config.batch_size, epoch * self._steps
    done = int(self.progress.state.step) - first
    with _progress.Bar(
        self._steps, processes.is_first() and f'Epoch {epoch}',
        '' if self._compiled else _progress.COMPILING) as bar:
      for chunk, start, stop in self._spans(first, done, order):
        self._run_span(first, chunk, start, stop)
        if not self._compiled:
          jax.block_until_ready(self.progress.totals)
          bar.count()
          self._compiled = True
        bar.show(stop - start, {})
        if stop % LOG_EVERY == 1:
          self._check(order)
          loss = float(self.progress.totals['loss']) / self._counted(stop)
          self._log(
              f'Epoch: {epoch} [{min(stop * batch, self._size)}/{self._size}] '
              f'Loss: {loss:.6f}')
        if stop < self._steps:
          self._maybe_save(stop, order)
    self._check(order)

  def _spans(
      self, first: int, done: int,
      order: np.ndarray) -> Iterator[tuple[feeds.Chunk, int, int]]:
    """Splits an epoch into spans that the device runs without the host.

    A span ends before each grid update, after each logged step, at each
    checkpoint, and at the end of each chunk of batches.
    """
    freq = self._config.grid_update_freq
    cuts = {*range(1, self._steps, LOG_EVERY),
            *range(-first % freq, self._steps, freq)}
    if self._checkpoint_every:
      cuts.update(range(0, self._steps, self._checkpoint_every))
    before = None
    for chunk in self._train.chunks(order, self._config.batch_size, done):
      low = max(done, chunk.start)
      ends = sorted({low, chunk.stop, *(
          cut for cut in cuts if low < cut < chunk.stop)})
      for start, stop in itertools.pairwise(ends):
        yield chunk, start, stop
      # The host may be one chunk ahead of the device: more chunks would fill
      # its memory. The sum is a copy, as the next step reuses the total's.
      reached = compiled.copy(self.progress.totals['loss'])
      if before is not None:
        before.block_until_ready()
      before = reached

  def _run_span(
      self, first: int, chunk: feeds.Chunk, start: int, stop: int) -> None:
    """Updates grids and averages if that is due, then takes the steps."""
    state, totals, key = self.progress
    batch = chunk.data[0], chunk.rows, start - chunk.start
    if self._moves_grids(first + start):
      state = self._programs.update_grids(state, *batch)
    if state.others and not (first + start) % self._config.grid_update_freq:
      state = self._programs.update_averages(state, *batch)
    state, totals = self._programs.run_steps(
        state, totals, chunk.data, chunk.rows, start - chunk.start,
        stop - chunk.start)
    self.progress = run_folder.Progress(state, totals, key)

  def _moves_grids(self, step: int) -> bool:
    """Whether the grids are updated before a step."""
    config = self._config
    epochs = config.grid_update_epochs or config.epochs
    return (config.update_grid and not step % config.grid_update_freq
            and step < epochs * self._steps)

  def _maybe_save(self, stop: int, order: np.ndarray) -> None:
    """Within an epoch: saves if that is due, and ends the run on a signal."""
    due = self._checkpoint_every and not stop % self._checkpoint_every
    number = self._signals.number
    if jax.process_count() > 1:
      # All processes must end after the same step. They agree on it seldom,
      # since the devices wait while they do.
      number = processes.agree(number) if (
          due or stop % LOG_EVERY == 1) else 0
    if number or due:
      self._check(order)
      if self._recorder:
        self._recorder.checkpoint(self.progress)
    if number:
      self._end(number)

  def _end(self, number: int) -> None:
    kept = ('its checkpoint is in the workdir, --resume continues'
            if self._recorder else 'nothing was kept, as there is no --workdir')
    raise cli.InterruptedRunError(
        f'interrupted after step {self.progress.state.step}; {kept}', number)

  def _finish_epoch(self, epoch: int, start: float) -> None:
    """Evaluates, logs and records."""
    totals, state = self.progress.totals, self.progress.state
    skipped, counted = int(totals['skipped']), self._counted(self._steps)
    row: dict[str, float] = {'epoch': epoch, 'step': int(state.step)}
    row |= {name: float(totals[name]) / counted for name in ('loss', 'penalty')}
    waiting = 'evaluating' + (
        '' if self._rows else f', {_progress.COMPILING}')
    with _progress.Bar(
        None, processes.is_first() and f'Epoch {epoch}', waiting):
      for name, feed in (('acc_train', self._train), ('acc_test', self._test)):
        row[name] = 100 * feed.evaluate(
            self._programs.evaluate, state.variables)
    row |= {'skipped': skipped, 'seconds': time.perf_counter() - start}
    self._log(
        f'Epoch: {epoch} [{self._size}/{self._size}] Loss: {row["loss"]:.6f} '
        f'Acc(Train): {row["acc_train"]:.2f} Acc(Test): {row["acc_test"]:.2f}'
        + (f' Skipped: {skipped} steps' if skipped else ''))
    self._rows.append(row)
    self.progress = self.progress._replace(
        totals=self._programs.placement.put(train_steps.zero_totals()))
    if self._recorder:
      self._recorder.epoch(self.progress, row)
    number = processes.agree(self._signals.number)
    if number and epoch + 1 < self._config.epochs:
      self._end(number)

  def _counted(self, steps: int) -> int:
    """Returns how many of this epoch's steps were not skipped, at least 1."""
    return max(steps - int(self.progress.totals['skipped']), 1)

  def _check(self, order: np.ndarray) -> None:
    """Ends the run if a step was skipped that must not be."""
    if self._config.on_nonfinite == 'skip' or not int(
        self.progress.totals['skipped']):
      return
    state, batch = self.progress.state, self._config.batch_size
    step = int(state.step) - 1
    start = step % self._steps * batch
    rows = order[start:start + batch]
    reason = nonfinite.find_nonfinite(
        self._programs.model, self._programs.objective,
        *self._programs.placement.fetch((state, self._train.take(rows))))
    raise cli.RunError(
        f'step {step} was not finite: {reason}. Training has stopped'
        + (', the last checkpoint is kept' if self._recorder else '')
        + '; --on_nonfinite=skip leaves such steps out')

  def _score_edges(self, result: Result) -> Result:
    """Adds the number of edges that matter and the accuracy with only these."""
    config, state = result.config, result.state
    if not config.lamb or not state.grid:
      return result
    count = min(self._size, compiled.SCORED)
    masked, left, edges = self._programs.drop_edges(
        state.variables, self._train.first(count), count)
    accuracy = self._test.evaluate(self._programs.evaluate, masked)
    return result._replace(
        edges_left=int(left), edges=int(edges), acc_pruned=100 * accuracy)

  def test_images(self) -> np.ndarray:
    """Returns the first test images, for pictures."""
    count = min(len(self._test), compiled.SCORED)
    return self._programs.placement.fetch(self._test.first(count))[:count]
