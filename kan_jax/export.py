"""Export: models for places that know nothing of this library.

`serialize` makes bytes that JAX alone can run, a StableHLO program, see
https://docs.jax.dev/en/latest/export/export.html. It needs flatbuffers:
`pip install -e '.[export]'` in a copy of the repository. `to_onnx` makes a
graph for any runtime of ONNX, https://onnx.ai, and needs onnx:
`pip install -e '.[onnx]'` there.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
from jax import export
import jax.numpy as jnp

from kan_jax.layers import convolution
from kan_jax.layers import linen
from kan_jax.layers.nnx import accept

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


@accept.takes_nnx
def to_onnx(
    model: linen.KAN | linen.KANLayer | convolution.KANConv,
    variables: Mapping[str, Any], *,
    dtype: jax.typing.DTypeLike = jnp.float32,
    shape: Sequence[int] | None = None) -> Any:
  """Returns a KAN as a graph of ONNX, for any number of rows.

      graph = export.to_onnx(model, variables)
      onnx.save(graph, 'model.onnx')
      session = onnxruntime.InferenceSession('model.onnx')
      y, = session.run(None, {'x': x})

  The graph holds nothing but operators of the standard, opset 18. Its numbers
  are of one type, whatever `dtype` and `param_dtype` of the model are.

  Args:
    model: A KAN, a KANLayer or a KANConv, or one of `kan_jax.nnx`, which comes
      without `variables`. With products and symbolic edges as well.
    variables: Its variables.
    dtype: Type of inputs, outputs and all between, float32 or float64. Some
      runtimes lack operators such as Tan in float64.
    shape: For a KANConv, the shape of one input, [*space, in].

  Returns:
    An `onnx.ModelProto` from 'x', [batch, in], to 'y', [batch, out]; of a
    KANConv with axes of space between.

  Raises:
    ValueError: If the model is of another class, the type is another, `shape`
      is missing or does not fit, or a function of the model uses what has no
      operator in ONNX.
    ImportError: If onnx is not installed.
  """
  if jnp.dtype(dtype) not in (jnp.float32, jnp.float64):
    raise ValueError(
        f'`dtype` is float32 or float64; got {jnp.dtype(dtype).name}.')
  from kan_jax.interop import _onnx_layers  # Its onnx is optional.
  return _onnx_layers.export(model, variables, dtype, shape)
