"""Training on one device and on eight, in a process that has so many.

  JAX_NUM_CPU_DEVICES=8 python tests/helpers/eight_devices.py 1 float32

Prints, in JSON, what test_sharding.py asserts, for splines of this order and
parameters of this type. How many devices there are is decided before anything
runs.
"""

import json
import sys

import jax
import numpy as np
import optax

from experiments.data import feeds
from experiments.data import sets
from experiments.data import sources
from experiments.devices import collectives
import kan_jax
from kan_jax.layers import regularization
from kan_jax.splines import grids
from kan_jax.training import sharding
from kan_jax.training import train_steps

_STEPS, _FREQ, _BATCH, _ROWS = 100, 10, 64, 500
_TX = optax.adam(0.002)


def _data(dtype):
  rng = np.random.default_rng(0)
  x = rng.normal(size=(_ROWS, 16)).astype(dtype)
  return x, np.argmax(x[:, :4] + x[:, 4:8]**2, 1).astype(np.int32)


def _batches(feed, order):
  """All batches of an epoch; those of the devices together."""
  return [[np.asarray(part[chunk.rows[i - chunk.start]]) for part in chunk.data]
          for chunk in feed.chunks(order, _BATCH)
          for i in range(chunk.start, chunk.stop)]


def _streamed(placement):
  """What data that are read as they are needed have to do with the others."""
  split = sets.Split(*_data(np.float32))
  held = feeds.Held(split, _ROWS, placement)
  feed = feeds.Streamed('training', sources.Arrays(split), 4, placement)
  order = np.random.default_rng(2).permutation(_ROWS)
  first = next(feed.chunks(order, _BATCH))
  run = train_steps.make_run_steps(
      lambda state, batch: (state, {'skipped': batch[0].sum() * 0}),
      placement=placement)
  text = run.lower((), {'skipped': np.float32(0)}, first.data, first.rows,
                   0, 2).compile().as_text()
  found, wanted = _batches(feed, order), _batches(held, order)
  return {
      'steps': len(found),
      'equal': all(map(np.array_equal, jax.tree.leaves(found),
                       jax.tree.leaves(wanted))),
      'taken': np.array_equal(feed.take(order[:13])[0], split[0][order[:13]]),
      'images': first.data[0].addressable_shards[0].data.shape,
      'collectives': collectives.find(text)}


class Run:
  """A training run on a mesh.

  Its programs are compiled here, before they are used: where a part of the
  state came back elsewhere than it was, the next call would fail.
  """

  def __init__(self, mesh, order, dtype):
    self.placement = placement = sharding.Placement(
        sharding.make_mesh(mesh), wide=8)
    model = kan_jax.KAN([16, 8, 4], grid=4, order=order, param_dtype=dtype)
    data = _data(dtype)
    self.data = tuple(placement.put_rows(part, _ROWS) for part in data)
    rng = np.random.default_rng(1)
    self._rows = placement.put(np.stack(
        [rng.permutation(_ROWS)[:_BATCH] for _ in range(_STEPS)]))
    self.state = placement.put(train_steps.create_state(
        model, _TX, jax.random.key(0), data[0][:1]))
    self.totals = placement.put(train_steps.zero_totals())
    objective = train_steps.make_objective(
        model, optax.softmax_cross_entropy_with_integer_labels,
        regularization.Penalty(), 0.001)
    self.steps = train_steps.make_run_steps(
        train_steps.make_train_step(objective, _TX), placement=placement).lower(
            self.state, self.totals, self.data, self._rows, 0, _FREQ).compile()
    self._update = train_steps.update_state_grids.lower(
        model, self.state, self._batch(0),
        grid_update=grids.GridUpdate(rate=0.1), placement=placement).compile()
    self._evaluate = train_steps.make_evaluate(model, {
        'accuracy': lambda outputs, y: (outputs.argmax(-1) == y) + 0.0},
                                            batch_size=200, placement=placement)

  def _batch(self, step):
    return self.data[0][self._rows[step]]

  def train(self):
    """Takes all steps, with a grid update before every tenth."""
    for start in range(0, _STEPS, _FREQ):
      self.state = self._update(self.state, self._batch(start))
      self.state, self.totals = self.steps(
          self.state, self.totals, self.data, self._rows, start, start + _FREQ)
    return self.placement.fetch(self.state)

  def means(self):
    """Of the metrics over all steps, and the accuracy on all rows, in parts
    that leave a remainder."""
    found = self._evaluate(self.state.variables, self.data, _ROWS)
    return {'accuracy': float(found['accuracy']),
            **{name: float(total) / _STEPS
               for name, total in self.totals.items()}}


def _difference(found, wanted):
  """The largest difference of two arrays in each part of a state."""
  return {name: max(jax.tree.leaves(jax.tree.map(
      lambda a, b: float(np.abs(a - b).max()),
      getattr(found, name), getattr(wanted, name))))
          for name in ('params', 'grid')}


def main(order, dtype):
  """Prints the report."""
  jax.config.update('jax_enable_x64', dtype == 'float64')
  one = Run('data:1', order, dtype)
  first = one.placement.fetch(one.state)
  wanted = one.train()
  report = {'moved': _difference(wanted, first), 'one': one.means()}
  for mesh in ('data:8', 'data:4,model:2'):
    run = Run(mesh, order, dtype)
    difference = _difference(run.train(), wanted)
    text = run.steps.as_text()
    coef = run.state.params['layers_0']['coef']
    report[mesh] = {
        'difference': difference, 'means': run.means(),
        'host': [word for word in (
            'callback', 'infeed', 'outfeed', ' send(', ' recv(')
                 if word in text],
        'coef': coef.addressable_shards[0].data.shape,
        'rows': [len(shard.data) for shard in run.data[0].addressable_shards],
        'collectives': collectives.find(text),
        'streamed': _streamed(run.placement)}
  print(json.dumps(report))


if __name__ == '__main__':
  main(int(sys.argv[1]), sys.argv[2])
