"""Export: a function and the arrays it holds, as bytes that JAX alone can run.

Needs flatbuffers: pip install 'kan_jax[export]'. What is kept is StableHLO, see
https://docs.jax.dev/en/latest/export/export.html; neither this library nor Flax
is needed to load it.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import jax
from jax import export
import jax.numpy as jnp

_KNOWN = ('cpu', 'cuda', 'rocm', 'tpu')
PLATFORMS = ('cpu', 'cuda', 'tpu')


def serialize(
    fn: Callable[[jax.Array], Any], shape: Sequence[int], *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    platforms: Sequence[str] = PLATFORMS) -> bytes:
  """Returns a function of a batch as a program for any number of rows.

  `jax.export.deserialize(data).call(x)` computes it again.

  Args:
    fn: A pure function of [batch, *shape], such as
      `functools.partial(model.apply, variables)`. The arrays that it holds go
      along.
    shape: Shape of a row; () for one number.
    dtype: Type of the inputs.
    platforms: What the program shall run on: of 'cpu', 'cuda', 'rocm' and
      'tpu', none of which need be here.

  Raises:
    ValueError: If a platform is not known, a size is not a whole number >= 1,
      or `fn` does not work for any number of rows.
  """
  unknown = sorted(set(platforms).difference(_KNOWN))
  if unknown or not platforms:
    raise ValueError(
        f'`platforms` are some of {", ".join(_KNOWN)}; got '
        f'{", ".join(map(str, unknown)) or "none"}.')
  if any(not isinstance(size, int) or size < 1 for size in shape):
    raise ValueError(
        f'`shape` has whole numbers >= 1, and not the batch; got {shape!r}.')
  rows, = export.symbolic_shape('batch')
  try:
    program = export.export(jax.jit(fn), platforms=tuple(platforms))(
        jax.ShapeDtypeStruct((rows, *shape), dtype))
  except (jax.errors.InconclusiveDimensionOperation, TypeError) as error:
    # A TypeError is what len() of a batch without a size raises.
    raise ValueError(
        '`fn` needs to work for any number of rows, as with x.shape[0] for '
        f'len(x): {error}') from error
  return bytes(program.serialize())
