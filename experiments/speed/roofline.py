"""Reckons what bounds a KAN on an accelerator; nothing runs.

  python -m experiments.speed.roofline --shapes=2,4

For each shape of `bench`: arithmetic and bytes of its parts, and the least time
that a chip needs for them (the roofline of Williams, Waterman and Patterson,
doi 10.1145/1498765.1498785). Every array goes to memory and back once a part;
caches make that less, and the start of each kernel, some microseconds, adds to
it. 'fused' is one kernel that never stores the B-splines. All but the last two
columns are for products in float32.
"""

from collections.abc import Iterator
import itertools
from typing import NamedTuple

from absl import flags

from experiments import cli
from experiments.data import tables
from experiments.speed import bench
from experiments.speed import peers

_FLOAT = 4  # Bytes.
_SILU = 4  # Operations, about.
_TILE = 128  # Outputs of which one kernel holds the sums at a time.
_HEADER = (
    'shape', 'GFLOP', 'MB', 'FLOP a byte', 'basis', 'product', 'gradient',
    'longest, bound by', 'all', 'fused', 'all, TF32', 'fused, TF32')


class Chip(NamedTuple):
  """Peak figures of a chip, each a second.

  Attributes:
    name: The chip.
    bandwidth: Bytes to and from its memory.
    float32: Floating-point operations of matrix products in float32.
    tf32: The same in TF32, without sparsity.
    lanes: Elementwise operations. A data sheet counts a multiplication with an
      addition as two; here each takes a turn of its own.
  """
  name: str
  bandwidth: float
  float32: float
  tf32: float
  lanes: float


# NVIDIA H100 Tensor Core GPU data sheet, SXM: 67 TFLOPS in float32, 989 in TF32
# with sparsity, which doubles it, and 3.35 TB/s.
H100 = Chip('H100 SXM', 3.35e12, 67e12, 989e12 / 2, 67e12 / 2)


class Part(NamedTuple):
  """A part of a pass over one layer.

  Attributes:
    name: 'basis', 'product' or 'gradient'.
    flops: Operations of matrix products.
    operations: Elementwise ones.
    moved: Bytes read and written.
  """
  name: str
  flops: float
  operations: float
  moved: float

  def bounds(self, chip: Chip, tf32: bool = False) -> dict[str, float]:
    """Least seconds by each of the things that take time.

    Products in float32 take the units that elementwise operations need; those
    in TF32 have units of their own, which work at the same time.
    """
    elementwise = self.operations / chip.lanes
    return {'memory': self.moved / chip.bandwidth} | (
        {'products': self.flops / chip.tf32, 'elementwise': elementwise}
        if tf32 else {'arithmetic': self.flops / chip.float32 + elementwise})

  def seconds(self, chip: Chip, tf32: bool = False) -> float:
    """Least seconds."""
    return max(self.bounds(chip, tf32).values())


class _Sizes(NamedTuple):
  """Sizes of one layer: numbers of values, not of bytes."""
  inputs: int  # Of the batch.
  outputs: int
  features: int  # Base function and B-splines of the batch.
  weights: int
  flops: int  # Of one matrix product.
  operations: int  # To evaluate the features, or their slopes.


def _sizes(batch: int, inputs: int, outputs: int, grid: int) -> _Sizes:
  order, splines = peers.ORDER, grid + peers.ORDER
  features = batch * inputs * (1 + splines)
  # See `_polynomials._evaluate`: comparisons and selections for each piece,
  # Horner's rule, and what is outside.
  each = order * (order + 3) + 2 * order + 1 + 3
  return _Sizes(
      batch * inputs, batch * outputs, features,
      inputs * (1 + splines) * outputs, 2 * features * outputs,
      batch * inputs * (splines * each + _SILU))


def parts(shape: peers.Shape) -> Iterator[Part]:
  """Yields the parts of all layers, forward and backward, each a kernel."""
  for inputs, outputs in itertools.pairwise(shape.features):
    n = _sizes(shape.batch, inputs, outputs, shape.grid)
    yield Part('basis', 0, n.operations, _FLOAT * (n.inputs + n.features))
    yield Part('product', n.flops, 0, _FLOAT * (
        n.features + n.weights + n.outputs))
    for _ in ('weights', 'features'):
      yield Part('gradient', n.flops, 0, _FLOAT * (
          n.features + n.weights + n.outputs))
    yield Part('gradient', 0, n.operations + 2 * n.features, _FLOAT * (
        n.features + 2 * n.inputs))


def fused(shape: peers.Shape) -> Iterator[Part]:
  """Yields the same for one kernel a pass, which stores no B-splines.

  The B-splines are evaluated again for every tile of outputs, and for each of
  both gradients.
  """
  for inputs, outputs in itertools.pairwise(shape.features):
    n = _sizes(shape.batch, inputs, outputs, shape.grid)
    again = -(-outputs // _TILE)
    moved = _FLOAT * (n.inputs + n.weights + n.outputs)
    yield Part('product', n.flops, again * n.operations, moved)
    yield Part('gradient', n.flops, again * n.operations, moved)
    yield Part('gradient', n.flops, n.operations + 2 * n.features,
               moved + _FLOAT * n.inputs)


def row(shape: peers.Shape, chip: Chip) -> tuple[str, ...]:
  """Returns what the table has for a shape; times in microseconds."""
  apart, together = list(parts(shape)), list(fused(shape))
  flops, moved = (sum(getattr(part, name) for part in apart)
                  for name in ('flops', 'moved'))
  each = {name: sum(part.seconds(chip) for part in apart
                    if part.name == name)
          for name in ('basis', 'product', 'gradient')}
  longest = max(each, key=lambda name: each[name])
  bounds = [part.bounds(chip) for part in apart if part.name == longest]
  bound = max(bounds[0], key=lambda kind: sum(b[kind] for b in bounds))
  totals = [sum(part.seconds(chip, tf32) for part in some)
            for tf32 in (False, True) for some in (apart, together)]
  return (str(shape), f'{flops / 1e9:.3g}', f'{moved / 1e6:.3g}',
          f'{flops / moved:.3g}', *(f'{1e6 * s:.3g}' for s in each.values()),
          f'{longest}, {bound}', *(f'{1e6 * s:.3g}' for s in totals))


def table(shapes: list[peers.Shape], chip: Chip = H100) -> str:
  """Returns a Markdown table with a row for each shape."""
  return tables.markdown(_HEADER, [row(shape, chip) for shape in shapes])


def main() -> None:
  """Runs what the flags say."""
  print(f'Least microseconds on one {H100.name}, forward and backward:\n')
  print(table(bench.shapes_of(flags.FLAGS.shapes)))


if __name__ == '__main__':
  bench.define_shapes()
  cli.run(main)
