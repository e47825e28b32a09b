"""What suits each kind of processor: one table, with its reasons.

All choices here change how long a program takes and what it holds, never what
it computes. So a program that runs elsewhere than where it was traced, as an
exported one may, is right there, too, if not as fast.

The table is read while a program is traced, by `jax.default_backend()`.
`jax.lax.platform_dependent` would choose when it is lowered. But it traces and
differentiates every way, and a gradient then keeps what any of them needs:
twice the time to trace and more memory, on every processor.

The column for CPUs was measured, on two cores of an AMD EPYC. The others are
reckoned from data sheets; no accelerator was at hand. See docs/accelerators.md.
"""

from typing import NamedTuple

import jax


class Choices(NamedTuple):
  """What suits one kind of processor.

  Attributes:
    node_values: Most values of B-splines that a layer's outputs take at a time.
    edge_values: Most edge values that a layer's statistics take at a time.
    many: With more B-splines than this, those that are not zero are looked up.
    many_in_wide: The same for at least `wide` outputs.
    wide: Least number of outputs of a wide layer.
    counted: With more B-splines than this times order + 1, a frozen layer looks
      up polynomials, if its intervals are of equal size.
    looked_up: The same for intervals of any size.
    slopes_by_product: Whether slopes are spread over the B-splines by a product
      with ones, so that their sum on the way back is a product, too.
    jacobian: Most entries of a Jacobian at a time.
    fit_values: Values of a function at a time while it is fitted to edges.
  """
  node_values: int
  edge_values: int
  many: int
  many_in_wide: int
  wide: int
  counted: int
  looked_up: int
  slopes_by_product: bool
  jacobian: int
  fit_values: int


# Blocks that fit into the caches of a core. `node_values` (4 MiB in float32):
# of sizes from 2**16 to 2**23 the fastest, or as fast, at most shapes; more
# leave the caches, fewer make small products and many rounds of a loop.
# `edge_values` (2 MiB): of 2**17 to 2**23 the fastest. `many`: for cubics both
# ways took as long near 100 B-splines if there were few outputs, and between 40
# and 55 in wide layers. A lookup takes order + 1 rows, and a row as long as
# four of a product: `counted` is where both took as long, in small networks and
# for 100 x 100; for 256 x 256 it is a little early. `slopes_by_product`: three
# times as fast as a sum over the middle axis. `jacobian` is 64 MiB in float64.
_CPU = Choices(
    node_values=2**20, edge_values=2**19, many=128, many_in_wide=48, wide=64,
    counted=3, looked_up=5, slopes_by_product=True, jacobian=2**23,
    fit_values=2**13)

# A round of a loop costs some microseconds to start its kernels, as long as it
# takes to move about 2**22 values: blocks are large, and end where memory would
# (256 MiB in float32, for the Jacobian 1 GiB in float64). Looking up takes a
# round of a loop for each input, and its gradient adds to memory in no order:
# products with all B-splines win for as long as these fit into a block or two.
# A sum is fused with what it sums; a product is not, and would write it out.
_ACCELERATOR = Choices(
    node_values=2**26, edge_values=2**26, many=2048, many_in_wide=2048, wide=64,
    counted=512, looked_up=512, slopes_by_product=False, jacobian=2**27,
    fit_values=2**17)

_TABLE = {'cpu': _CPU, 'gpu': _ACCELERATOR, 'tpu': _ACCELERATOR}


def choices() -> Choices:
  """Returns what suits the processor that JAX uses by default."""
  return _TABLE.get(jax.default_backend(), _ACCELERATOR)
