"""Runs MNIST configs over several seeds; prints their accuracies.

  python -m experiments.mnist.sweep --seeds=5 --csv=mnist.csv
  python -m experiments.mnist.sweep --configs=kan_reg --lambs=0.003,0.01 \\
      --seeds=20
"""

import csv
import dataclasses
import pathlib
import statistics

from absl import flags
import jax
import tqdm

from experiments import cli
from experiments.data import sets
from experiments.data import tables
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop

# Test accuracy of the original: a blog's single runs with pykan e6078bc8.
ORIGINAL = {'mlp': 97.15, 'kan': 97.53, 'kan_no_update_grid': 97.44,
            'kan_reg': 95.79, 'kan_reg_strong': 10.09}


def table(results: dict[str, list[loop.Result]]) -> str:
  """Returns a Markdown table: a row for each config, over its seeds."""
  rows = []
  for name, runs in results.items():
    accuracy = [run.acc_test for run in runs]
    # The first epoch of the first seed also compiles.
    seconds = statistics.median(
        s for run in runs for s in run.epoch_seconds[1:] or run.epoch_seconds)
    parameters = sum(
        array.size for array in jax.tree.leaves(runs[0].state.params))
    rows.append((
        f'`{name}`', f'{parameters:,}', len(runs),
        *(f'{value:.2f}' for value in (
            statistics.mean(accuracy), min(accuracy), max(accuracy))),
        ORIGINAL.get(name, '–'), f'{seconds:.1f}'))
  return tables.markdown((
      'config', 'parameters', 'seeds', 'test accuracy, mean', 'least',
      'greatest', 'original', 'seconds an epoch'), rows)


def run(
    chosen: dict[str, configs.Config], seeds: int,
    dataset: sets.Dataset) -> dict[str, list[loop.Result]]:
  """Trains every config with the seeds 0, 1, …; one compilation a config."""
  results: dict[str, list[loop.Result]] = {}
  for name, config in chosen.items():
    programs = compiled.build(
        config, dataset.classes, examples=len(dataset.train.labels))
    results[name] = []
    for seed in range(seeds):
      config = dataclasses.replace(config, seed=seed)
      result = loop.Loop(
          config, dataset, programs, log=lambda _: None).run()
      results[name].append(result)
      tqdm.tqdm.write(loop.summary(result, name))
  return results


def write(path: pathlib.Path, results: dict[str, list[loop.Result]]) -> None:
  """Writes a line on each run to a CSV file."""
  with path.open('w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['config', 'seed', 'acc_train', 'acc_test', 'edges_left',
                     'edges', 'acc_pruned'])
    writer.writerows(
        [name, r.config.seed, f'{r.acc_train:.2f}', f'{r.acc_test:.2f}',
         r.edges_left, r.edges,
         None if r.acc_pruned is None else f'{r.acc_pruned:.2f}']
        for name, runs in results.items() for r in runs)


def choose(names: list[str], lambs: list[str]) -> dict[str, configs.Config]:
  """Returns configs by name, each with every weight of the penalty, if any.

  Raises:
    cli.UsageError: If a name is unknown or a weight is no number >= 0.
  """
  chosen = {name: configs.CONFIGS[name]
            for name in cli.choose('configs', names, configs.CONFIGS)}
  if not lambs:
    return chosen
  try:
    return {f'{name} --lamb={lamb}': dataclasses.replace(
        config, lamb=float(lamb))
            for name, config in chosen.items() for lamb in lambs}
  except ValueError as error:
    raise cli.UsageError(f'--lambs needs numbers; got {lambs}') from error


def main() -> None:
  """Runs what the flags say."""
  chosen = choose(flags.FLAGS.configs, flags.FLAGS.lambs)
  path = cli.new_file(flags.FLAGS.csv, 'csv') if flags.FLAGS.csv else None
  results = run(chosen, flags.FLAGS.seeds,
                sets.load('mnist', holdout=flags.FLAGS.holdout))
  print(table(results), flush=True)
  if path:
    with cli.writing(path):
      write(path, results)


if __name__ == '__main__':
  flags.DEFINE_list(
      'configs', list(ORIGINAL), 'Which configs. Others than those of the '
      'original take up to three quarters of an hour for five seeds.')
  flags.DEFINE_list(
      'lambs', [], 'Weights of the penalty, each to be tried; by default that '
      'of the config.')
  cli.define_number('seeds', 5, 'Seeds of each config, from 0 on.', low=1)
  cli.define_number(
      'holdout', 0, 'Training examples that take the place of the test set.',
      low=0)
  flags.DEFINE_string('csv', None, 'File for a line on each run; it is new.')
  cli.run(main)
