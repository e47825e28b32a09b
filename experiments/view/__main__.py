"""Writes a page that shows a run of mnist; formula writes its own.

  python -m experiments.view --workdir=DIR

One HTML file that needs nothing else: how training went, the network with the
functions on its edges, the confusion matrix, the test images it gets wrong.
"""

from collections.abc import Mapping
import pathlib
import sys
from typing import Any

from absl import flags
from flax import linen as nn
import jax
import numpy as np

from experiments import cli
from experiments.data import sets
from experiments.mnist import models
from experiments.mnist import run_folder
from experiments.view import page
from kan_jax.layers import inference
from kan_jax.layers import traversal
from kan_jax.plotting import _interactive

_BATCH = 500  # Images that are computed at a time.
_SAMPLED = 1000  # Images whose values decide how the network is drawn.
_WAY_OUT = '--overwrite replaces it, --output names another file'


def view(
    workdir: pathlib.Path, *, edges: int, images: int,
    dataset: sets.Dataset | None = None, data_dir: str | None = None) -> str:
  """Returns the page of the run in a folder.

  Args:
    workdir: The folder.
    edges: Most edges of each layer that are drawn.
    images: Most wrong images that are shown.
    dataset: The run's examples, if they are at hand.
    data_dir: Else, where tensorflow_datasets keeps its sets.

  Raises:
    cli.UsageError: If the folder holds no run, or one without a checkpoint, or
      a file of it is damaged.
  """
  config = run_folder.read_config(workdir)
  dataset = dataset or sets.load(
      config.dataset, data_dir, config.holdout)
  sets.check(dataset)
  step, variables = run_folder.read_variables(workdir)
  rows = [row for row in run_folder.Recorder(workdir).rows()
          if row['step'] <= step]
  model, test = models.build(config, dataset.classes), dataset.test
  models.check_variables(model, dataset.shape, variables)
  picture = _draw(
      model, variables, test.images[:_SAMPLED],
      edges) if variables['grid'] else None
  ended = step // -(-len(dataset.train.labels) // config.batch_size)
  return page.render(page.Run(
      workdir.absolute().name, config, rows, step, ended, *test,
      _evaluate(model, variables, test.images), picture), images)


def _evaluate(
    model: nn.Module, variables: Mapping[str, Any],
    images: np.ndarray) -> np.ndarray:
  """Returns the probabilities of the classes, [n, classes]."""
  compute = inference.freeze(model, variables, images[:1])
  return np.concatenate([
      jax.nn.softmax(compute(images[start:start + _BATCH]))
      for start in range(0, len(images), _BATCH)])


def _draw(
    model: nn.Module, variables: Mapping[str, Any], images: np.ndarray,
    most: int) -> _interactive.Picture:
  """Draws the KAN in a model on what reaches it."""
  views = traversal.view_layers(model, variables, images)
  x = views['kan', 'layers_0'].inputs
  rows, columns = images.shape[1:]
  kind, inputs = ('pixel', [
      f'{i},{j}' for i in range(rows) for j in range(columns)])
  if x.shape[1] != len(inputs):
    kind, inputs = 'feature', [str(i) for i in range(x.shape[1])]
  kan = model.kan  # type: ignore[attr-defined]
  outputs = [str(k) for k in range(kan.features[-1])]
  return _interactive.draw(
      kan, {name: variables[name]['kan'] for name in ('params', 'grid')}, x,
      _interactive.Names(inputs, outputs, kind, 'class', 'test images'), most)


def write(path: pathlib.Path, text: str, overwrite: bool = False) -> None:
  """Writes a page.

  Raises:
    cli.UsageError: If the file is there already and is to stay, or cannot be
      written.
  """
  try:
    with path.open('w' if overwrite else 'x', encoding='utf-8') as file:
      file.write(text)
  except FileExistsError:
    raise cli.UsageError(f'{path} is there already; {_WAY_OUT}') from None
  except OSError as error:
    raise cli.UsageError(
        f'--output={path} cannot be written: {error.strerror}') from error


def main() -> None:
  """Runs what the flags say."""
  if not flags.FLAGS.workdir:
    raise cli.UsageError('--workdir is needed: the folder of a run')
  edges, images = flags.FLAGS.edges, flags.FLAGS.images
  workdir = pathlib.Path(flags.FLAGS.workdir)
  if (workdir / 'formula.txt').exists() and (workdir / 'view.html').exists():
    # The program that finds formulas writes its page by itself.
    print(f'{workdir / "view.html"}: open it in a browser')
    return
  run_folder.read_config(workdir)  # Says so first if there is no run.
  overwrite = flags.FLAGS.overwrite
  path = cli.new_file(
      flags.FLAGS.output or str(workdir / 'view.html'), 'output', _WAY_OUT,
      overwrite)
  cli.compile_quickly()
  text = view(workdir, edges=edges, images=images,
              data_dir=flags.FLAGS.data_dir)
  write(path, text, overwrite)
  if note := run_folder.unfinished(workdir):
    print(note, file=sys.stderr)
  print(f'{path}: {len(text) / 1e6:.1f} MB; open it in a browser')


if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'Folder of the run.')
  flags.DEFINE_string(
      'output', None, 'File to write (default: view.html in --workdir).')
  flags.DEFINE_bool(
      'overwrite', False, 'Whether --output may be there already.')
  cli.define_number(
      'edges', 24, 'Edges of each layer that are drawn, the strongest.', low=1)
  cli.define_number(
      'images', 300, 'Wrong images that are shown, the surest mistakes.', low=1)
  flags.DEFINE_string(
      'data_dir', None, 'Where tensorflow_datasets keeps its sets.')
  cli.run(main)
