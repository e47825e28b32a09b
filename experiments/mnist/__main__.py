"""Trains a KAN or an MLP on MNIST.

  python -m experiments.mnist --config=kan_reg --lamb=0.005 --seed=7
"""

import contextlib
import sys

from absl import flags
import jax
import tqdm

from experiments import cli
from experiments.data import sets
from experiments.devices import processes
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from experiments.mnist import run_folder
from kan_jax.training import sharding


def main() -> None:
  """Runs what the flags say."""
  config = configs.config_from_flags()
  cli.enough_threads()
  processes.join(flags.FLAGS.distributed)
  placement = _placement()
  name, workdir = flags.FLAGS.config, flags.FLAGS.workdir
  every = _checkpoint_every()
  source = sets.open_set(
      config.dataset, flags.FLAGS.data_dir, config.holdout)
  in_memory = flags.FLAGS.loader == 'memory'
  with (processes.together(),
        run_folder.open_recorder(
            workdir, config, flags.FLAGS.resume) as recorder,
        cli.signals() as signals,
        contextlib.ExitStack() as stack):
    programs = compiled.build(
        config, source.classes, source.shape, placement,
        examples=len(source.train))
    stack.callback(programs.cancel)
    if in_memory and jax.process_count() == 1:
      programs.prepare(
          config, source.shape, (len(source.train), len(source.test)))
    # Threads compile while the data are read.
    dataset = sets.read(source, placement.local_rows) if in_memory else source
    job = loop.Loop(
        config, dataset, programs, log=_log, recorder=recorder,
        signals=signals, checkpoint_every=every)
    if flags.FLAGS.resume and not job.progress.state.step:
      _log(f'Nothing to resume in {workdir}: the run begins there')
    result = job.run()
    line = loop.summary(result, name)
    _log(line)
    if recorder:
      recorder.finish(programs.model, placement.fetch(result.state),
                      job.test_images(), line)


def _placement() -> sharding.Placement:
  devices = jax.device_count() if jax.process_count() > 1 else 1
  text = flags.FLAGS.mesh or f'data:{devices}'
  try:
    return sharding.Placement(sharding.make_mesh(text))
  except ValueError as error:
    raise cli.UsageError(f'--mesh: {error}') from error


def _checkpoint_every() -> int:
  every, workdir = flags.FLAGS.checkpoint_every, flags.FLAGS.workdir
  if not workdir and (every or flags.FLAGS.resume):
    raise cli.UsageError(
        f'--checkpoint_every and --resume need a --workdir; got {workdir}')
  return every


def _log(line: str) -> None:
  if not processes.is_first():
    return
  tqdm.tqdm.write(line)
  sys.stdout.flush()


if __name__ == '__main__':
  configs.define_flags()
  flags.DEFINE_string(
      'workdir', None, 'Folder for config, metrics, checkpoints and pictures. '
      'Without it nothing is written.')
  flags.DEFINE_bool(
      'resume', False, 'Whether to go on with the run in --workdir, from its '
      'last checkpoint. --epochs may be larger than it was. Without a '
      'checkpoint, the run begins there.')
  cli.define_number(
      'checkpoint_every', 0, 'Steps between checkpoints within an epoch; there '
      'is always one at its end.', low=0)
  flags.DEFINE_enum(
      'loader', 'memory', ['memory', 'grain'], 'Where batches come from: the '
      "device's memory, or Grain, which reads a data set that is larger than "
      'memory bit by bit.')
  flags.DEFINE_string(
      'mesh', None, 'Devices, such as data:8 or data:4,model:2: batches are '
      'split over data, wide KAN layers over model. The default is one device, '
      'or, with several processes, all their devices along data.')
  flags.DEFINE_bool(
      'distributed', False, 'Whether to join the other processes of a job that '
      'Slurm, Open MPI, a TPU pod or Kubernetes started.')
  flags.DEFINE_string(
      'data_dir', None, 'Where tensorflow_datasets keeps its sets.')
  cli.run(main)
