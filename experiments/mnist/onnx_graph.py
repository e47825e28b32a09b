"""The networks of the MNIST experiment as graphs of ONNX.

A KAN exports itself; here is what stands before it, and the MLP.
"""

from collections.abc import Mapping
import math
from typing import Any

from flax import linen as nn
import numpy as np
from onnx import compose
from onnx import numpy_helper
from onnx import parser

from experiments.mnist import models
from kan_jax import export

_FRONT_END = '''
  axis = Constant <value_ints = [1]> ()
  channel = Unsqueeze(images, axis)
  conv1 = Conv <strides = [2, 2]> (channel, kernel1, bias1)
  pooled = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (conv1)
  active = Relu(pooled)
  conv2 = Conv <strides = [2, 2]> (active, kernel2, bias2)
  features = Flatten(conv2)'''
_FLATTEN = '''
  features = Flatten(images)'''
_RELU = '''
  active{0} = Relu({1})'''
_DENSE = '''
  dense{0} = Gemm({1}, weight{0}, offset{0})'''


def build(
    model: nn.Module, variables: Mapping[str, Any],
    shape: tuple[int, ...]) -> Any:
  """Returns an `onnx.ModelProto` from 'images', [batch, *shape], to logits.

  Args:
    model: A network that `models.build` made.
    variables: Its variables.
    shape: Shape of one input.

  Raises:
    ValueError: If ONNX is not to be had of this network.
  """
  if isinstance(model, models.KANConvNet | models.CNN):
    raise ValueError(
        'ONNX takes --model=conv_kan, conv_mlp, kan and mlp so far; a file '
        'that does not end in .onnx takes this one, too')
  params = variables['params']
  has_front = 'front' in params
  steps = _FRONT_END if has_front else _FLATTEN
  arrays = _convolutions(params['front']) if has_front else {}
  if isinstance(model, models.ConvMLP | models.PixelMLP):
    value = 'features'
    for k in range(len(model.features)):
      if k or has_front:
        steps, value = steps + _RELU.format(k, value), f'active{k}'
      steps, value = steps + _DENSE.format(k, value), f'dense{k}'
      arrays[f'weight{k}'] = params[f'Dense_{k}']['kernel']
      arrays[f'offset{k}'] = params[f'Dense_{k}']['bias']
    return _parse(steps, arrays, shape, value, model.features[-1])
  assert isinstance(model, models.ConvKAN | models.PixelKAN)
  front = _parse(steps, arrays, shape, 'features',
                 16 if has_front else math.prod(shape))
  kan = export.to_onnx(model.kan, {
      kind: variables[kind]['kan'] for kind in ('params', 'grid')})
  return compose.merge_models(front, kan, io_map=[('features', 'x')])


def _convolutions(params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the arrays of the front-end, kernels as [out, in, 5, 5]."""
  arrays = {}
  for k in '12':
    layer = params[f'conv{k}']
    arrays[f'kernel{k}'] = np.transpose(layer['kernel'], (3, 2, 0, 1))
    arrays[f'bias{k}'] = layer['bias']
  return arrays


def _parse(
    steps: str, arrays: Mapping[str, Any], shape: tuple[int, ...], value: str,
    size: int) -> Any:
  """Returns the graph that is written in `steps`, of the versions of a KAN's.

  Args:
    steps: Operators in the text format of ONNX, from 'images'.
    arrays: The constants in it.
    shape: Shape of one input.
    value: Name of its output.
    size: Size of its output, [batch, size].
  """
  sizes = ', '.join(['batch', *map(str, shape)])
  model = parser.parse_model(
      f'<ir_version: 8, opset_import: ["" : 18]>\n'
      f'front (float[{sizes}] images) => (float[batch, {size}] {value}) '
      f'{{{steps}\n}}')
  model.graph.initializer.extend(
      numpy_helper.from_array(np.asarray(array, np.float32), name)
      for name, array in arrays.items())
  return model
