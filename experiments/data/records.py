"""Writes a data set to ArrayRecord files, to be read bit by bit.

  python -m experiments.data.records --dataset=mnist --output=DIR

Then experiments.mnist --dataset=DIR --loader=grain trains on them.
"""

import json
import pathlib

from absl import flags
import numpy as np
import tqdm

from experiments import cli
from experiments.data import sets
from experiments.data import sources

_ROWS = 1000  # In memory at a time.


def write_set(folder: pathlib.Path, source: sources.Set) -> None:
  """Writes a set into a new folder; see `sources.open_records`.

  Args:
    folder: The folder; it is made.
    source: The set. It is read a thousand rows at a time.

  Raises:
    cli.UsageError: If the folder is there and not empty, or cannot be written.
  """
  cli.new_folder(str(folder), 'output')
  try:
    for split in ('train', 'test'):
      _write(folder / f'{split}.array_record', getattr(source, split),
             source.dtype)
    # Last: without it the folder holds no set.
    (folder / sources.INFO).write_text(json.dumps(
        {'shape': source.shape, 'dtype': source.dtype,
         'classes': source.classes}) + '\n')
  except OSError as error:
    raise cli.UsageError(
        f'--output={folder} cannot be written: {error}') from error


def _write(path: pathlib.Path, source: sources.Source, dtype: str) -> None:
  from array_record.python import array_record_module  # Optional, with Grain.
  # Compressed, records would take three times as long to read.
  writer = array_record_module.ArrayRecordWriter(
      str(path), 'group_size:1,uncompressed')
  for start in tqdm.trange(
      0, len(source), _ROWS, desc=path.name, leave=False, disable=None):
    split = source.read(np.arange(start, min(start + _ROWS, len(source))))
    inputs = np.rint(split.images * 255) if dtype == 'uint8' else split.images
    for row, label in zip(
        inputs.astype(np.dtype(dtype).newbyteorder('<')),
        split.labels.astype(sources.LABEL), strict=True):
      writer.write(label.tobytes() + row.tobytes())
  writer.close()


def main() -> None:
  """Runs what the flags say."""
  output, name = flags.FLAGS.output, flags.FLAGS.dataset
  if not output:
    raise cli.UsageError('--output names the folder to write')
  try:
    write_set(pathlib.Path(output), sets.open_set(name, flags.FLAGS.data_dir))
  except ImportError as error:
    raise cli.UsageError(
        "ArrayRecord files need Grain: pip install -e '.[grain]'") from error
  print(f'{output}: {name}')


if __name__ == '__main__':
  flags.DEFINE_string(
      'dataset', 'mnist', 'mnist, or its name in tensorflow_datasets.')
  flags.DEFINE_string(
      'data_dir', None, 'Where tensorflow_datasets keeps its sets.')
  flags.DEFINE_string('output', None, 'The folder to write; it must be new.')
  cli.run(main)
