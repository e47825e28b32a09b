"""Says what a run on many devices would need, without having them.

  python -m experiments.devices.rehearse --mesh=data:8,model:8
  python -m experiments.devices.rehearse --features=784,64,10 \\
      --batch_size=128 --mesh=data:1 --mesh=data:2 --mesh=data:4 --mesh=data:8

No array is made. A train step and a grid update are compiled for the shapes of
a KAN, its optimizer and a batch. The printed numbers are counted in the
compiled programs, so they hold wherever this runs: bytes on each device, work
of each device, and what the devices exchange.
"""

import functools
import math
from typing import Any
from typing import NamedTuple

from absl import flags
import jax
import jax.numpy as jnp
import optax

from experiments import cli
from experiments.data import tables
from experiments.devices import collectives
import kan_jax
from kan_jax.layers import regularization
from kan_jax.training import sharding
from kan_jax.training import train_steps

_MIB = 2**20
_MOST_DEVICES = 4096  # Each has threads of its own here.
_HEADER = ('mesh', 'program', 'GFLOP a device', 'of an even share',
           'state and batch', 'at most held', 'collectives', 'exchanged',
           'largest gather', 'largest shard')


class Count(NamedTuple):
  """One program on one mesh; all numbers are those of one device.

  Attributes:
    mesh: Axes of the mesh.
    program: 'step' or 'grid update'.
    gflop: Floating-point operations in 1e9 as XLA counts them; None if it
      counts a loop as one round.
    state_mib: State and batch, in MiB.
    peak_mib: Most memory at any time, state and batch included, in MiB.
    messages: Number of collectives.
    exchanged_mib: Size of their results, in MiB.
    gathered_mib: Size of the largest all-gather's result, in MiB.
    shard_mib: Size of the largest part of state and batch, in MiB.
  """
  mesh: str
  program: str
  gflop: float | None
  state_mib: float
  peak_mib: float
  messages: int
  exchanged_mib: float
  gathered_mib: float
  shard_mib: float


def count(
    model: kan_jax.KAN, batch_size: int, lamb: float,
    placement: sharding.Placement, name: str) -> list[Count]:
  """Compiles a train step and a grid update, and counts.

  Args:
    model: The network; its loss is the squared error.
    batch_size: Rows on all devices.
    lamb: Weight of the sparsity penalty.
    placement: The devices.
    name: What to call the mesh.
  """
  tx = optax.adam(1e-3)
  objective = train_steps.make_objective(
      model, lambda outputs, y: jnp.square(outputs - y).mean(-1),
      regularization.Penalty(), lamb)
  step = train_steps.make_train_step(objective, tx)

  def shape(size, sharding):
    return jax.ShapeDtypeStruct(
        (batch_size, size), jnp.float32, sharding=sharding)

  batch = tuple(shape(size, placement.by_row)
                for size in (model.features[0], model.features[-1]))
  state = jax.eval_shape(
      functools.partial(train_steps.create_state, model, tx), jax.random.key(0),
      batch[0])
  state = jax.tree.map(
      lambda a, where: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=where),
      state, placement.shardings(state))

  @functools.partial(jax.jit, donate_argnums=0)
  def placed_step(state, batch):
    state, metrics = step(state, placement.constrain_rows(batch))
    return placement.constrain((state, metrics))

  largest = max(_held(leaf) for leaf in jax.tree.leaves((state, batch)))
  return [
      _count(name, 'step', placed_step.lower(state, batch), largest),
      _count(name, 'grid update', train_steps.update_state_grids.lower(
          model, state, batch[0], placement=placement), largest)]


def _held(leaf: jax.ShapeDtypeStruct) -> int:
  """Bytes of an array on one device."""
  return leaf.dtype.itemsize * math.prod(leaf.sharding.shard_shape(leaf.shape))


def _count(name: str, program: str, lowered: Any, largest: int) -> Count:
  compiled = lowered.compile()
  text, memory = compiled.as_text(), compiled.memory_analysis()
  exchanges = collectives.find(text)
  arguments = memory.argument_size_in_bytes
  new = memory.output_size_in_bytes - memory.alias_size_in_bytes
  return Count(
      name, program,
      None if collectives.has_loops(text) else (
          compiled.cost_analysis()['flops'] / 1e9),
      arguments / _MIB, (arguments + new + memory.temp_size_in_bytes) / _MIB,
      sum(exchange.times for exchange in exchanges),
      sum(exchange.size * exchange.times for exchange in exchanges) / _MIB,
      max((exchange.size for exchange in exchanges
           if exchange.kind == 'all-gather'), default=0) / _MIB,
      largest / _MIB)


def table(counts: list[Count]) -> str:
  """Returns a Markdown table; a step's work is compared with the first mesh's.
  """
  first: dict[str, float] = {}
  lines = []
  for row in counts:
    devices = math.prod(sharding.parse_mesh(row.mesh))
    work, share = '–', '–'
    if row.gflop is not None:
      whole = first.setdefault(row.program, row.gflop * devices)
      work, share = f'{row.gflop:.4f}', f'{whole / devices / row.gflop:.0%}'
    stored, peak, exchanged, gathered, shard = (
        f'{size:.2f} MiB' for size in (
            row.state_mib, row.peak_mib, row.exchanged_mib, row.gathered_mib,
            row.shard_mib))
    lines.append((row.mesh, row.program, work, share, stored, peak,
                  row.messages, exchanged, gathered, shard))
  return tables.markdown(_HEADER, lines)


def main() -> None:
  """Runs what the flags say."""
  meshes = flags.FLAGS.mesh
  try:
    devices = max(math.prod(sharding.parse_mesh(mesh)) for mesh in meshes)
  except ValueError as error:
    raise cli.UsageError(f'--mesh: {error}') from error
  if devices > _MOST_DEVICES:
    raise cli.UsageError(
        f'--mesh: {devices} devices are too many; at most {_MOST_DEVICES} can '
        'be rehearsed')
  jax.config.update('jax_num_cpu_devices', devices)
  jax.config.update('jax_platforms', 'cpu')
  model, counts = _model(), []
  for mesh in meshes:
    placement = sharding.Placement(sharding.make_mesh(mesh))
    try:
      placement.check_batch(flags.FLAGS.batch_size)
    except ValueError as error:
      raise cli.UsageError(f'--mesh={mesh}: {error}') from error
    counts += count(
        model, flags.FLAGS.batch_size, flags.FLAGS.lamb, placement, mesh)
  print(table(counts))
  over = [f'{row.mesh} ({row.program})' for row in counts
          if row.gathered_mib > row.shard_mib]
  print(f'More than the largest shard is gathered: {", ".join(over)}' if over
        else 'Nothing larger than the largest shard is gathered.')


def _model() -> kan_jax.KAN:
  try:
    features = [int(size) for size in flags.FLAGS.features]
    for size in features:
      cli.check_number(size, low=1)
    return kan_jax.KAN(
        features, grid=flags.FLAGS.grid, order=flags.FLAGS.order)
  except ValueError as error:
    raise cli.UsageError(f'the network: {error}') from error


if __name__ == '__main__':
  flags.DEFINE_multi_string(
      'mesh', ['data:8,model:8'], 'Devices, as for mnist; again for more rows.')
  flags.DEFINE_list(
      'features', ['4096', '4096', '4096'], 'Nodes of the layers of the KAN.')
  cli.define_number('grid', 5, 'Intervals of each spline.', low=1)
  cli.define_number('order', 3, 'Degree of the splines.', low=0)
  cli.define_number('batch_size', 1024, 'Rows on all devices.', low=1)
  cli.define_number('lamb', 0.0, 'Weight of the sparsity penalty.', low=0)
  cli.run(main)
