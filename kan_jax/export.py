"""Export: a function and its arrays, as bytes that JAX alone can run.

The bytes hold a StableHLO program, see
https://docs.jax.dev/en/latest/export/export.html. Whoever loads them needs
neither this library nor Flax. Needs flatbuffers: pip install 'kan_jax[export]'.
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

      predict = functools.partial(model.apply, variables)
      data = export.serialize(predict, (2,))
      y = jax.export.deserialize(data).call(x)  # In any process.

  Args:
    fn: Pure function of [batch, *shape]. The arrays that it closes over become
      part of the program.
    shape: Shape of a row; () for one number.
    dtype: Type of the inputs.
    platforms: Platforms that the program can run on, of 'cpu', 'cuda', 'rocm'
      and 'tpu'. This machine need not have them.

  Raises:
    ValueError: If a platform is unknown, a size is not a whole number >= 1, or
      `fn` does not work for every number of rows.
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
    # len() of a batch whose size is a symbol raises a TypeError.
    raise ValueError(
        '`fn` needs to work for any number of rows, as with x.shape[0] for '
        f'len(x): {error}') from error
  return bytes(program.serialize())
