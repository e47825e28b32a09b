"""The folder of a run: config, metrics, checkpoint, pictures."""

from collections.abc import Iterator
import contextlib
import csv
import dataclasses
import json
import pathlib
from typing import Any

from flax import linen as nn
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments import configs
from kan_jax import training


class Recorder:
  """Writes what a run leaves behind into one folder.

  Its libraries are imported when it is made: a run that keeps nothing should
  not wait for them.
  """

  def __init__(self, workdir: pathlib.Path):
    import tensorboardX
    self._workdir = workdir
    self._history: list[dict[str, float]] = []
    self._events = tensorboardX.SummaryWriter(str(workdir / 'tensorboard'))
    self._csv = (workdir / 'metrics.csv').open('w', newline='')

  def epoch(self, state: training.TrainState, row: dict[str, float]) -> None:
    """Keeps the metrics of an epoch, and the state as a checkpoint."""
    from kan_jax import checkpoints
    self._history.append(row)
    writer = csv.DictWriter(self._csv, list(row))
    if len(self._history) == 1:
      writer.writeheader()
    writer.writerow(row)
    self._csv.flush()
    for name in row.keys() - {'step'}:
      self._events.add_scalar(name, row[name], row['step'])
    self._events.flush()
    checkpoints.save(self._workdir / 'checkpoints', int(row['step']), state)

  def finish(
      self, model: nn.Module, state: training.TrainState, images: np.ndarray,
      summary: str) -> None:
    """Keeps the summary line and draws the run."""
    from kan_jax import plotting
    (self._workdir / 'summary.txt').write_text(summary + '\n')
    _plot_history(self._history).savefig(self._workdir / 'history.png', dpi=120)
    if state.grid:
      plotting.plot_edges(model, state.variables, jnp.asarray(images)).savefig(
          self._workdir / 'activations.png', dpi=120)

  def close(self) -> None:
    """Closes the files that are open."""
    self._events.close()
    self._csv.close()


@contextlib.contextmanager
def open_recorder(
    workdir: str | None, config: configs.Config) -> Iterator[Recorder | None]:
  """Yields a recorder for the folder `workdir`, or None without one.

  Raises:
    cli.UsageError: If the folder cannot be made, or holds anything but a run
      of the same config, which would then be run over again.
  """
  if workdir is None:
    yield None
    return
  path = pathlib.Path(workdir)
  try:
    path.mkdir(parents=True, exist_ok=True)
    _claim(path, dataclasses.asdict(config))
    recorder = Recorder(path)
  except OSError as error:
    raise cli.UsageError(
        f'--workdir={workdir} cannot be used: {error.strerror}') from error
  with contextlib.closing(recorder):
    yield recorder


def _claim(workdir: pathlib.Path, config: dict[str, Any]) -> None:
  """Writes the config into an empty folder; elsewhere it must be there."""
  file = workdir / 'config.json'
  if not any(workdir.iterdir()):
    file.write_text(json.dumps(config, indent=2) + '\n')
    return
  try:
    kept = json.loads(file.read_text())
    differing = sorted(name for name in config.keys() | kept.keys()
                       if config.get(name) != kept.get(name))
  except (FileNotFoundError, ValueError, AttributeError):
    raise cli.UsageError(
        f'--workdir={workdir} is not empty and holds no run of this program; '
        'name another folder') from None
  if differing:
    raise cli.UsageError(
        f'--workdir={workdir} holds a run of another config (it differs in '
        f'{", ".join(differing)}); name another folder')


def _plot_history(history: list[dict[str, float]]):
  """Returns a figure of loss and accuracy over the epochs."""
  from matplotlib import figure
  from matplotlib import ticker
  epochs = [row['epoch'] + 1 for row in history]
  fig = figure.Figure(figsize=(8, 3), layout='constrained')
  left, right = fig.subplots(1, 2)
  left.plot(epochs, [row['loss'] for row in history], 'k.-')
  left.set(xlabel='epoch', ylabel='training loss')
  for name, label in (('acc_train', 'training'), ('acc_test', 'test')):
    right.plot(epochs, [row[name] for row in history], '.-', label=label)
  right.set(xlabel='epoch', ylabel='accuracy, %')
  right.legend(frameon=False)
  for ax in (left, right):
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    ax.spines[['top', 'right']].set_visible(False)
  return fig
