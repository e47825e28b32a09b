"""The folder of a run: config, metrics, checkpoint, pictures."""

from collections.abc import Iterator
import contextlib
import csv
import dataclasses
import fcntl
import io
import json
import os
import pathlib
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.devices import processes
from experiments.mnist import configs
from kan_jax.training import train_steps

_CONFIG, _METRICS = 'config.json', 'metrics.csv'
_CHECKPOINTS = 'checkpoints'
_KAN = 'kan.safetensors'
_COLUMNS = {'epoch', 'step', 'loss', 'acc_train', 'acc_test'}


class Progress(NamedTuple):
  """What a checkpoint holds.

  Attributes:
    state: Parameters, grids, optimizer and step, which also says the position
      in the epoch.
    totals: Sums of the metrics in this epoch so far.
    order_key: Data of the key that decides the order of the examples.
  """
  state: train_steps.TrainState
  totals: train_steps.Metrics
  order_key: jax.Array


class Recorder:
  """Keeps metrics, checkpoints and pictures of a run in one folder.

  Where several processes share a run, each makes the same calls: each writes
  its part of a checkpoint, and the first one writes everything else. Libraries
  are imported when they are needed, so that a run without a folder does not
  wait for them.
  """

  def __init__(self, workdir: pathlib.Path):
    self._workdir = workdir
    self._checkpoints = workdir / _CHECKPOINTS
    self._history: list[dict[str, float]] = []
    self._events: Any = None

  def restore(
      self, like: Progress) -> tuple[Progress, list[dict[str, float]]]:
    """Returns the last checkpoint and the metrics of the epochs before it.

    Args:
      like: The progress before the first step; returned if there is no
        checkpoint yet.

    Raises:
      cli.UsageError: If the checkpoint cannot be used.
    """
    if processes.is_first() and self._checkpoints.exists():
      from kan_jax import checkpoints
      checkpoints.clean(self._checkpoints)
    progress = self.last(like)
    step = int(progress.state.step)
    self._history = [row for row in self.rows() if row['step'] <= step]
    self._write_rows()
    self._open_events(step)
    return progress, list(self._history)

  def check_epochs(self, ended: int) -> None:
    """Compares the rows that `restore` returned with the last checkpoint.

    Args:
      ended: How many epochs the checkpoint has behind it.

    Raises:
      cli.UsageError: If rows of these epochs are missing.
    """
    epochs = [row['epoch'] for row in self._history]
    missing = sorted(set(range(ended)).difference(epochs))
    if missing:
      raise cli.UsageError(
          f'{self._workdir / _METRICS} has no row of epoch {missing[0]}, after '
          'which the run has a checkpoint; put the file back, or name another '
          'folder')

  def unfinished(self) -> str:
    """See `unfinished`, for the folder of this run."""
    return unfinished(self._workdir)

  def last(self, like: Progress) -> Progress:
    """Returns the last checkpoint, or `like` if there is none yet."""
    return _load_last(self._checkpoints, like) or like

  def rows(self) -> list[dict[str, float]]:
    """Returns the metrics of the epochs that were kept.

    Raises:
      cli.UsageError: If their file is damaged.
    """
    path = self._workdir / _METRICS
    if not path.exists():
      return []
    try:
      with path.open(newline='') as file:
        reader = csv.DictReader(file)
        missing = _COLUMNS.difference(reader.fieldnames or ())
        rows = [{name: _number(value) for name, value in row.items()}
                for row in reader]
    except (AttributeError, ValueError) as error:  # A cell is missing, or text.
      raise cli.UsageError(f'{path} is damaged: {error}') from error
    if missing:
      raise cli.UsageError(
          f'{path} is damaged: it has no column {", ".join(sorted(missing))}')
    return rows

  def _write_rows(self) -> None:
    """Replaces the file as a whole, so that it is complete after any kill."""
    if not self._history or not processes.is_first():
      return
    text = io.StringIO()
    writer = csv.DictWriter(text, list(self._history[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(self._history)
    _replace(self._workdir / _METRICS, text.getvalue())

  def _open_events(self, step: int) -> None:
    if not processes.is_first():
      return
    import tensorboardX
    self._events = tensorboardX.SummaryWriter(
        str(self._workdir / 'tensorboard'), purge_step=step + 1)

  def checkpoint(self, progress: Progress) -> None:
    """Keeps a checkpoint, and of the older ones the latest two."""
    from kan_jax import checkpoints
    step, kept = int(progress.state.step), checkpoints.steps(self._checkpoints)
    if step in kept:
      return
    try:
      checkpoints.save(self._checkpoints, step, progress)
      for old in kept[:-2] if processes.is_first() else ():
        checkpoints.delete(self._checkpoints, old)
    except checkpoints.CheckpointError as error:
      raise cli.RunError(
          f'{error}; --resume goes on from the last checkpoint') from error

  def epoch(self, progress: Progress, row: dict[str, float]) -> None:
    """Keeps the metrics of an epoch, then a checkpoint.

    Raises:
      cli.RunError: If they cannot be written.
    """
    self._history.append(row)
    try:
      self._write_rows()
      if self._events:
        for name in row.keys() - {'step'}:
          self._events.add_scalar(name, row[name], row['step'])
        self._events.flush()
    except OSError as error:
      raise cli.RunError(
          f'{self._workdir} cannot be written: {error.strerror or error}; '
          '--resume goes on from the last checkpoint') from error
    # Last: a run that is killed before this repeats the epoch with its row.
    self.checkpoint(progress)

  def finish(
      self, model: nn.Module, state: train_steps.TrainState, images: np.ndarray,
      summary: str) -> None:
    """Keeps the summary line and the KAN in a file, and draws the run.

    Raises:
      cli.RunError: If they cannot be written.
    """
    if not processes.is_first():
      return
    from kan_jax import model_file
    from kan_jax.plotting import edge_panels
    with cli.writing(self._workdir):
      (self._workdir / 'summary.txt').write_text(summary + '\n')
      _plot_history(self._history).savefig(
          self._workdir / 'history.png', dpi=120)
      if state.grid:
        edge_panels.plot_edges(
            model, state.variables, jnp.asarray(images)).savefig(
                self._workdir / 'activations.png', dpi=120)
        kan: Any = model
        try:
          model_file.save(self._workdir / _KAN, kan.kan, {
              'params': state.params['kan'], 'grid': state.grid['kan']
          }, overwrite=True)
        except model_file.ModelFileError as error:
          raise cli.RunError(str(error)) from error

  def close(self) -> None:
    """Closes the files that are open."""
    if self._events:
      with contextlib.suppress(OSError):  # `epoch` has told it.
        self._events.close()


def _number(text: str) -> float:
  """Reads a number back as it was written, whole or not."""
  return int(text) if text.isdecimal() else float(text)


def _replace(path: pathlib.Path, text: str) -> None:
  """Writes a file that is never there in part, whenever the run is killed."""
  partial = path.with_name(path.name + '.partial')
  partial.write_text(text)
  os.replace(partial, path)


def read_config(workdir: pathlib.Path) -> configs.Config:
  """Returns the config of the run that is in a folder.

  Raises:
    cli.UsageError: If there is none, or it is not one of this version.
  """
  try:
    return configs.Config(**json.loads((workdir / _CONFIG).read_text()))
  except (OSError, ValueError, TypeError, RecursionError,
          cli.UsageError) as error:
    raise cli.UsageError(
        f'--workdir={workdir} holds no run of experiments.mnist that this '
        f'version knows: {error}') from error


def read_variables(workdir: pathlib.Path) -> tuple[int, dict[str, Any]]:
  """Returns the step and the variables of a run's last checkpoint.

  Raises:
    cli.UsageError: If there is none, or it is damaged.
  """
  progress = _load_last(workdir / _CHECKPOINTS)
  if progress is None:
    raise cli.UsageError(
        f'--workdir={workdir} has no complete checkpoint yet; the first comes '
        'at the end of the first epoch')
  state = progress['state']
  return int(state['step']), {
      'params': state['params'], 'grid': state.get('grid', {}),
      **state.get('others', {})}


def unfinished(workdir: pathlib.Path) -> str:
  """Says so if a checkpoint later than the last complete one is incomplete.

  A killed run leaves it like that; so does whoever deletes its checksums.
  """
  from kan_jax import checkpoints
  folder = workdir / _CHECKPOINTS
  last = max(checkpoints.steps(folder), default=-1)
  later = sorted(int(path.name) for path in folder.glob('*')
                 if path.name.isdecimal() and int(path.name) > last)
  return '' if not later else (
      f'{folder / str(later[-1])} is incomplete and not used; the last '
      f'complete checkpoint is {f"of step {last}" if last >= 0 else "none"}')


def _load_last(folder: pathlib.Path, like: Any = None) -> Any:
  """Returns the last checkpoint in a folder; None if there is none."""
  from kan_jax import checkpoints
  steps = checkpoints.steps(folder)
  try:
    return checkpoints.load(folder, steps[-1], like) if steps else None
  except checkpoints.CheckpointError as error:
    before = f'; without it, --resume goes back to step {steps[-2]}' if (
        len(steps) > 1) else ''
    raise cli.UsageError(
        f'the run cannot be read: {error}{before}') from error


@contextlib.contextmanager
def open_recorder(
    workdir: str | None, config: configs.Config,
    resume: bool = False) -> Iterator[Recorder | None]:
  """Yields a recorder for the folder `workdir`, or None without one.

  Args:
    workdir: Folder of the run; made where it is missing.
    config: The run.
    resume: Whether to go on with the run that the folder may hold already.

  Raises:
    cli.UsageError: If the folder cannot be made, another run is using it, or
      it holds anything but a run of the same config that is to be resumed.
  """
  if workdir is None:
    yield None
    return
  path = pathlib.Path(workdir)
  with contextlib.ExitStack() as stack:
    try:
      path.mkdir(parents=True, exist_ok=True)
      if processes.is_first():
        stack.enter_context(_lock(path))
        _claim(path, dataclasses.asdict(config), resume)
    except OSError as error:
      raise cli.UsageError(
          f'--workdir={workdir} cannot be used: {error.strerror}') from error
    yield stack.enter_context(contextlib.closing(Recorder(path)))


@contextlib.contextmanager
def _lock(workdir: pathlib.Path) -> Iterator[None]:
  """Keeps a second run out of a folder; a killed process lets go of it."""
  folder = os.open(workdir, os.O_RDONLY)
  try:
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError as error:
    os.close(folder)
    raise cli.UsageError(
        f'--workdir={workdir} is in use by another run; name another '
        'folder') from error
  except OSError:  # Some file systems have no locks.
    pass
  try:
    yield
  finally:
    os.close(folder)


def _claim(
    workdir: pathlib.Path, config: dict[str, Any], resume: bool) -> None:
  """Writes the config into a new folder, or compares it with the one there."""
  file = workdir / _CONFIG
  text = json.dumps(config, indent=2) + '\n'
  if not any(workdir.iterdir()):
    _replace(file, text)
    return
  try:
    # A run from before a setting existed had what is its default now.
    kept = dataclasses.asdict(configs.Config()) | json.loads(file.read_text())
    differing = sorted(name for name in config.keys() | kept.keys()
                       if config.get(name) != kept.get(name))
  except (FileNotFoundError, ValueError, TypeError, RecursionError):
    raise cli.UsageError(
        f'--workdir={workdir} is not empty and holds no run of this program; '
        'name another folder') from None
  epochs = kept.get('epochs')
  if (differing == ['epochs'] and isinstance(epochs, int)
      and config['epochs'] > epochs):
    differing = []
  if differing:
    raise cli.UsageError(
        f'--workdir={workdir} holds a run of another config (it differs in '
        f'{", ".join(differing)}); name another folder')
  if not resume:
    raise cli.UsageError(
        f'--workdir={workdir} holds this run already; --resume goes on with '
        'it, or name another folder')
  _replace(file, text)


def _plot_history(history: list[dict[str, float]]):
  """Returns a figure of loss and accuracy over the epochs."""
  from matplotlib import figure
  fig = figure.Figure(figsize=(8, 3), layout='constrained')
  left, right = fig.subplots(1, 2)
  draw_loss(left, history)
  draw_accuracy(right, history)
  return fig


def draw_loss(ax: Any, history: list[dict[str, float]]) -> None:
  """Draws the training loss over the epochs."""
  _draw_epochs(ax, history, 'training loss', {'loss': None}, 'k.-')


def draw_accuracy(ax: Any, history: list[dict[str, float]]) -> None:
  """Draws both accuracies over the epochs."""
  _draw_epochs(ax, history, 'accuracy, %',
               {'acc_train': 'training', 'acc_test': 'test'}, '.-')
  ax.legend(frameon=False)


def _draw_epochs(
    ax: Any, history: list[dict[str, float]], what: str,
    labels: dict[str, str | None], style: str) -> None:
  from matplotlib import ticker
  epochs = [row['epoch'] for row in history]
  for name, label in labels.items():
    ax.plot(epochs, [row[name] for row in history], style, label=label)
  ax.set(xlabel='epoch', ylabel=what)
  ax.xaxis.set_major_locator(
      ticker.MaxNLocator(integer=True, min_n_ticks=1))  # Even for one epoch.
  ax.spines[['top', 'right']].set_visible(False)
