"""Writes the model of a run to a file that JAX, or ONNX, can run.

  python -m experiments.mnist.export --workdir=DIR --output=FILE

The run is one of experiments.mnist that kept a folder. The file holds its last
checkpoint's parameters and grids and computes logits, [batch, classes], of
images in [0, 1], [batch, 28, 28] float32, for any number of them (of other
inputs, as vectors):

  from jax import export
  model = export.deserialize(open('FILE', 'rb').read())
  logits = model.call(images)

A FILE that ends in .onnx holds a graph for the runtimes of ONNX instead:

  session = onnxruntime.InferenceSession('FILE.onnx')
  logits, = session.run(None, {'images': images})
"""

from collections.abc import Sequence
import pathlib
import sys

from absl import flags
import numpy as np

from experiments import cli
from experiments.mnist import models
from experiments.mnist import run_folder
from kan_jax import export
from kan_jax.layers import inference

_ONNX = '.onnx'


def export_run(
    workdir: pathlib.Path, output: pathlib.Path,
    platforms: Sequence[str] = export.PLATFORMS) -> int:
  """Writes the model of a run to a new file; returns its size in bytes.

  Args:
    workdir: Folder of the run.
    output: The file; for ONNX if it ends in .onnx.
    platforms: What it shall run on, but for ONNX; see `export.serialize`.

  Raises:
    cli.UsageError: If the folder holds no run that can be read, a platform is
      not known, or the file is there already or cannot be written.
  """
  config = run_folder.read_config(workdir)
  _, variables = run_folder.read_variables(workdir)
  shape, classes = models.sizes(variables)
  model = models.build(config, classes, shape)
  models.check_variables(model, shape, variables)
  try:
    if output.suffix == _ONNX:
      from experiments.mnist import onnx_graph  # Its onnx is optional.
      program = onnx_graph.build(model, variables, shape).SerializeToString()
    else:
      row = np.zeros((1, *shape), np.float32)
      program = export.serialize(
          inference.freeze(model, variables, row), shape, platforms=platforms)
  except ImportError as error:
    raise cli.UsageError(
        f"{output} needs onnx: pip install -e '.[onnx]' in a copy of the "
        'repository') from error
  except ValueError as error:
    raise cli.UsageError(f'the model cannot be exported: {error}') from error
  try:
    with output.open('xb') as file:
      file.write(program)
  except OSError as error:
    raise cli.UsageError(
        f'--output={output} cannot be written: {error.strerror}') from error
  return len(program)


def main() -> None:
  """Runs what the flags say."""
  workdir, output = flags.FLAGS.workdir, flags.FLAGS.output
  if not workdir or not output:
    raise cli.UsageError(
        '--workdir names the folder of a run and --output the file to write; '
        f'got {workdir} and {output}')
  cli.new_file(output, 'output')  # Says so first if it cannot be written.
  size = export_run(
      pathlib.Path(workdir), pathlib.Path(output), flags.FLAGS.platforms)
  if note := run_folder.unfinished(pathlib.Path(workdir)):
    print(note, file=sys.stderr)
  where = ('runtimes of ONNX' if output.endswith(_ONNX)
           else ', '.join(flags.FLAGS.platforms))
  print(f'{output}: {size:,} bytes, for {where}')


if __name__ == '__main__':
  flags.DEFINE_string('workdir', None, 'Folder of the run.')
  flags.DEFINE_string(
      'output', None, 'The file to write; it must be new. One that ends in '
      '.onnx is for ONNX.')
  flags.DEFINE_list(
      'platforms', list(export.PLATFORMS),
      'What it shall run on: some of cpu, cuda, rocm and tpu.')
  cli.run(main)
