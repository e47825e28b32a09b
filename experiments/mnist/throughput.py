"""Measures how busy a device is while its data are being read.

  python -m experiments.mnist.throughput --config=kan_full --dataset=DIR

Trains on the first rows of a set, one epoch at a time, in turn from memory and
through Grain. The device is busy for a part of the time: that of an epoch from
memory divided by that of an epoch through Grain.
"""

import dataclasses
import math
import statistics

from absl import flags

from experiments import cli
from experiments.data import sets
from experiments.data import sources
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop


def measure(
    config: configs.Config, source: sources.Set,
    rounds: int, log=print) -> dict[str, list[float]]:
  """Returns the seconds of epochs, `rounds` for each way to read the data.

  Args:
    config: The run.
    source: Its examples.
    rounds: Number of timed epochs, after one to warm up.
    log: Takes a line for each epoch.
  """
  config = dataclasses.replace(config, epochs=1)
  programs = compiled.build(config, source.classes, source.shape)
  examples: dict[str, sets.Dataset | sources.Set] = {
      'memory': sets.read(source), 'grain': source}
  seconds: dict[str, list[float]] = {name: [] for name in examples}
  for i in range(rounds + 1):
    for name, dataset in examples.items():
      result = loop.Loop(
          config, dataset, programs, log=lambda line: None).run()
      log(f'{"warm-up" if not i else f"round {i}"}, {name}: '
          f'{result.epoch_seconds[0]:.2f} s')
      if i:
        seconds[name].append(result.epoch_seconds[0])
  return seconds


def main() -> None:
  """Runs what the flags say."""
  config = configs.config_from_flags()
  rounds, rows = flags.FLAGS.rounds, flags.FLAGS.rows
  if rows < config.batch_size:
    raise cli.UsageError(
        f'--rows={rows} is less than a batch, {config.batch_size}')
  source = sets.open_set(config.dataset, flags.FLAGS.data_dir)
  part = min(1, rows / len(source.train))
  source = source._replace(
      train=sources.Part(source.train, 0, rows),
      test=sources.Part(
          source.test, 0, math.ceil(part * len(source.test))))
  seconds = measure(config, source, rounds)
  memory, grain = (statistics.median(seconds[name])
                   for name in ('memory', 'grain'))
  print(f'{len(source.train)} rows: {memory:.2f} s from memory, {grain:.2f} s '
        f'through Grain; the device is busy {100 * memory / grain:.0f} % of '
        'the time')


if __name__ == '__main__':
  configs.define_flags()
  flags.DEFINE_string(
      'data_dir', None, 'Where tensorflow_datasets keeps its sets.')
  cli.define_number(
      'rows', 12_800, 'Training examples to read, and of the test examples the '
      'same part.', low=1)
  cli.define_number(
      'rounds', 5, 'Epochs to time, after one to warm up.', low=1)
  cli.run(main)
