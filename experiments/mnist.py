"""Trains a KAN or an MLP on MNIST.

  python -m experiments.mnist --config=kan_reg --lamb=0.005 --seed=7
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
import itertools
import sys
import time
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import optax
import tqdm

from experiments import cli
from experiments import configs
from experiments import data
from experiments import models
from experiments import record
from kan_jax import pruning
from kan_jax import regularization
from kan_jax import training

LOG_EVERY = 100  # Steps between two log lines within an epoch.
SCORED = 10_000  # Training examples on which the edges are scored.


class Programs(NamedTuple):
  """The compiled parts of a run; two seeds of one config share them."""
  model: nn.Module
  init: Callable
  run_steps: Callable
  update_grids: Callable
  evaluate: Callable
  edge_stats: Callable


class Result(NamedTuple):
  """What a run ends with; accuracies in percent."""
  config: configs.Config
  state: training.TrainState
  loss: float
  acc_train: float
  acc_test: float
  epoch_seconds: tuple[float, ...]
  edges_left: int | None = None
  edges: int | None = None
  acc_pruned: float | None = None


def build_programs(config: configs.Config, classes: int) -> Programs:
  """Returns the jitted functions of a config; its seed is not read."""
  model = models.build(config, classes)
  tx = optax.adam(config.learning_rate)
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  penalty = regularization.Penalty(
      l1=config.lamb_l1, entropy=config.lamb_entropy, coef=config.lamb_coef,
      coefdiff=config.lamb_coefdiff, metric=config.reg_metric)
  step = training.make_train_step(
      model, tx, cross_entropy, penalty,
      0.0 if config.model == 'conv_mlp' else config.lamb)
  return Programs(
      model=model,
      init=functools.partial(training.create_state, model, tx),
      run_steps=training.make_run_steps(step),
      update_grids=functools.partial(
          training.update_grids, model=model, grid_eps=config.grid_eps,
          rate=config.grid_rate),
      evaluate=training.make_evaluate(
          model, {'accuracy': _correct}, batch_size=250),
      edge_stats=jax.jit(lambda variables, x: model.apply(
          variables, x, mutable=['edges'])[1]['edges']))


def _correct(outputs: jax.Array, labels: jax.Array) -> jax.Array:
  return (outputs.argmax(-1) == labels).astype(jnp.float32)


def train(
    config: configs.Config, dataset: data.Dataset, programs: Programs, *,
    log: Callable[[str], None] = print,
    recorder: record.Recorder | None = None) -> Result:
  """Trains one network from scratch.

  Args:
    config: The run.
    dataset: Its examples.
    programs: Made by `build_programs` for this config, up to the seed.
    log: Takes each log line.
    recorder: Takes the metrics of each epoch, if they are to be kept.
  """
  train_set, test_set = jax.device_put((tuple(dataset.train),
                                        tuple(dataset.test)))
  init_key, order_key = jax.random.split(jax.random.key(config.seed))
  state = programs.init(init_key, train_set[0][:1])
  seconds = []
  for epoch in range(config.epochs):
    start = time.perf_counter()
    order = jax.random.permutation(
        jax.random.fold_in(order_key, epoch), len(dataset.train.labels))
    state, totals = _run_epoch(
        config, programs, state, train_set, order, epoch, log)
    acc_train, acc_test = (
        100 * float(programs.evaluate(state.variables, split)['accuracy'])
        for split in (train_set, test_set))
    seconds.append(time.perf_counter() - start)
    size = len(order)
    log(f'Epoch: {epoch} [{size}/{size}] Loss: {totals["loss"]:.6f} '
        f'Acc(Train): {acc_train:.2f} Acc(Test): {acc_test:.2f}')
    if recorder:
      recorder.epoch(state, {
          'epoch': epoch, 'step': int(state.step), **totals,
          'acc_train': acc_train, 'acc_test': acc_test,
          'seconds': seconds[-1]})
  result = Result(
      config, state, totals['loss'], acc_train, acc_test, tuple(seconds))
  return _score_edges(result, programs, train_set, test_set)


def _run_epoch(
    config: configs.Config, programs: Programs, state: training.TrainState,
    train_set: tuple[jax.Array, jax.Array], order: jax.Array, epoch: int,
    log: Callable[[str], None]) -> tuple[training.TrainState, dict[str, float]]:
  """Takes all steps of an epoch; returns the mean of each metric over them."""
  size, batch = len(order), config.batch_size
  whole = order[:size - size % batch].reshape(-1, batch)
  short = order[whole.size:][None]
  steps = -(-size // batch)
  first = epoch * steps
  totals = {'loss': 0.0, 'penalty': 0.0}
  with tqdm.tqdm(total=steps, desc=f'Epoch {epoch}', leave=False,
                 disable=None) as bar:
    for start, stop in _spans(config, first, steps, len(whole)):
      rows, offset = (
          (whole, 0) if start < len(whole) else (short, len(whole)))
      if config.update_grid and not (first + start) % config.grid_update_freq:
        state = programs.update_grids(
            state, train_set[0][rows[start - offset]])
      state, sums = programs.run_steps(
          state, train_set, rows, start - offset, stop - offset)
      totals = jax.tree.map(jnp.add, totals, sums)
      bar.update(stop - start)
      if stop % LOG_EVERY == 1:
        log(f'Epoch: {epoch} [{min(stop * batch, size)}/{size}] '
            f'Loss: {float(totals["loss"]) / stop:.6f}')
  return state, {name: float(total) / steps for name, total in totals.items()}


def _spans(
    config: configs.Config, first: int, steps: int,
    whole: int) -> Iterator[tuple[int, int]]:
  """Splits an epoch into spans that the device runs without the host.

  A span ends before a grid update, after a step that is logged, and where the
  short batch begins.
  """
  cuts = {0, whole, steps}
  cuts.update(range(1, steps, LOG_EVERY))
  cuts.update(range(-first % config.grid_update_freq, steps,
                    config.grid_update_freq))
  return itertools.pairwise(sorted(cuts))


def _score_edges(
    result: Result, programs: Programs, train_set: tuple[jax.Array, jax.Array],
    test_set: tuple[jax.Array, jax.Array]) -> Result:
  """Adds how many edges matter, and the accuracy with these alone."""
  config, state = result.config, result.state
  if not config.lamb or not state.grid:
    return result
  stats = programs.edge_stats(state.variables, train_set[0][:SCORED])
  grid = pruning.mask_edges(
      state.grid, stats, config.prune_threshold, config.reg_metric)
  left, edges = pruning.count_edges(grid)
  accuracy = programs.evaluate({**state.variables, 'grid': grid}, test_set)
  return result._replace(
      edges_left=int(left), edges=edges,
      acc_pruned=100 * float(accuracy['accuracy']))


def summary(result: Result, name: str) -> str:
  """Returns the line that sums up a run."""
  text = (f'Summary: {name} seed {result.config.seed}: '
          f'Loss: {result.loss:.6f} Acc(Train): {result.acc_train:.2f} '
          f'Acc(Test): {result.acc_test:.2f}, '
          f'{sum(result.epoch_seconds):.1f} s')
  if result.edges:
    text += (
        f'; {result.edges_left} of {result.edges} edges score '
        f'{result.config.prune_threshold:g} or more, Acc(Test) with these '
        f'alone: {result.acc_pruned:.2f}')
  return text


def main() -> None:
  """Runs what the flags say."""
  config = configs.config_from_flags()
  name, workdir = flags.FLAGS.config, flags.FLAGS.workdir
  with record.open_recorder(workdir, config) as recorder:
    dataset = data.load(config.dataset, flags.FLAGS.data_dir)
    programs = build_programs(config, dataset.classes)
    result = train(config, dataset, programs, log=_log, recorder=recorder)
    line = summary(result, name)
    _log(line)
    if recorder:
      recorder.finish(programs.model, result.state,
                      dataset.test.images[:SCORED], line)


def _log(line: str) -> None:
  tqdm.tqdm.write(line)
  sys.stdout.flush()


if __name__ == '__main__':
  configs.define_flags()
  flags.DEFINE_string(
      'workdir', None, 'Folder for config, metrics, checkpoint and pictures. '
      'Without it nothing is written.')
  flags.DEFINE_string(
      'data_dir', None, 'Where tensorflow_datasets keeps its sets.')
  cli.run(main)
