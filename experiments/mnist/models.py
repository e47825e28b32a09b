"""The networks of the MNIST experiment."""

from collections.abc import Mapping
from collections.abc import Sequence
import math
from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments.mnist import configs
import kan_jax
from kan_jax.layers import convolution
from kan_jax.layers import edges

_IMAGE = (28, 28)  # Of MNIST.
# Outputs of four 3 x 3 convolutions, as multiples of the first one's, and
# their strides: 28 -> 13 -> 11 -> 5 -> 3.
_CONVOLUTIONS = (1, 2), (2, 1), (4, 2), (4, 1)
_PLACES = 3 * 3  # What the last one gives.
_NORMALIZED = (-2.0, 2.0)  # Where most numbers of deviation 1 are.

# The variance is 1 / (3 * fan_in), as in PyTorch and so in the original. With
# it, features stay within a grid on [-1, 1]; with LeCun's they do not.
_KERNEL_INIT = nn.initializers.variance_scaling(1 / 3, 'fan_in', 'uniform')


class _ConvParams(nn.Module):
  """Kernel and bias of a 5 x 5 convolution, shaped like those of `nn.Conv`."""
  shape: tuple[int, int]  # Channels in and out.

  @nn.compact
  def __call__(self) -> tuple[jax.Array, jax.Array]:
    kernel = self.param('kernel', _KERNEL_INIT, (5, 5, *self.shape))
    return kernel, self.param('bias', nn.initializers.zeros, self.shape[1:])


def _by_patches() -> bool:
  """Whether convolutions are products over patches."""
  return jax.default_backend() == 'cpu'


def _patch_pixels() -> np.ndarray:
  """Returns numbers of pixels, [25 * 4 * 25]: what the first convolution reads.

  The axes are the position in a 5 x 5 patch, the four outputs that a pooled
  value is the maximum of, and the 5 x 5 pooled values. One gather by these
  numbers compiles in a fourth of the time that a hundred slices take.
  """
  i, j, a, b, p, q = np.ogrid[:5, :5, :2, :2, :5, :5]
  return (28 * (i + 2 * a + 4 * p) + j + 2 * b + 4 * q).ravel()


class FrontEnd(nn.Module):
  """Two small convolutions that turn a 28 x 28 image into 16 features.

  Convolution 1 -> 8, 5 x 5, stride 2; max-pool 2; ReLU; convolution 8 -> 16,
  5 x 5, stride 2; no padding. The second convolution has a single output
  position. It reads 5 x 5 pooled values, which come from 10 x 10 outputs of the
  first convolution; only these are computed. On a CPU, both are matrix products
  over patches with the batch last. There this is 5 times as fast as with the
  batch first; XLA's own convolution is slower still. Accelerators have
  libraries and units for convolutions, and take those.

  Attributes:
    precision: Precision of the products.
  """
  precision: edges.Precision = 'highest'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 16]
    kernel1, bias1 = _ConvParams((1, 8), name='conv1')()
    kernel2, bias2 = _ConvParams((8, 16), name='conv2')()
    if not _by_patches():
      return self._convolve(x, (kernel1, kernel2), (bias1, bias2))
    patches = jnp.asarray(x).reshape(-1, 784).at[:, _patch_pixels()].get(
        mode='promise_in_bounds').T
    y = jnp.matmul(kernel1.reshape(25, 8).T, patches.reshape(25, -1),
                   precision=self.precision)
    y = y.reshape(8, 4, 25, -1).max(1) + bias1[:, None, None]
    y = jnp.einsum('cpn,pco->no', nn.relu(y), kernel2.reshape(25, 8, 16),
                   precision=self.precision)
    return y + bias2[None]

  def _convolve(
      self, x: jax.Array, kernels: Sequence[jax.Array],
      biases: Sequence[jax.Array]) -> jax.Array:
    """The same by convolutions: [n, 28, 28] -> [n, 16]."""
    def convolve(x, kernel, bias):
      return bias[None, None, None] + jax.lax.conv_general_dilated(
          x, kernel, (2, 2), 'VALID', precision=self.precision,
          dimension_numbers=('NHWC', 'HWIO', 'NHWC'))

    y = convolve(x[..., None], kernels[0], biases[0])
    y = nn.relu(nn.max_pool(y, (2, 2), (2, 2)))
    return convolve(y, kernels[1], biases[1])[:, 0, 0]


class ConvKAN(nn.Module):
  """The front-end and a KAN on its features."""
  kan: kan_jax.KAN

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    return self.kan(FrontEnd(self.kan.precision, name='front')(x))


class ConvMLP(nn.Module):
  """The front-end and an MLP, with a ReLU before each of its layers."""
  features: Sequence[int] = (20, 10)
  precision: edges.Precision = 'highest'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    x = FrontEnd(self.precision, name='front')(x)
    for size in self.features:
      x = nn.Dense(size, precision=self.precision)(nn.relu(x))
    return x


class KANConvNet(nn.Module):
  """KAN convolutions and a KAN: every weight is one of a learned function.

  Attributes:
    convolutions: They are normalized by the batch, each.
    kan: The KAN on all that the last one gives.
    dropout: Part of it that is left out in training.
    train: Whether to normalize by the batch, or by averages of batches.
  """
  convolutions: tuple[kan_jax.KANConv, ...]
  kan: kan_jax.KAN
  dropout: float = 0.0
  train: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    x = x[..., None]
    for layer in self.convolutions:
      x = _normalize(layer(x), self.train)
    return self.kan(_drop(x, self.dropout, self.train))


class CNN(nn.Module):
  """The same with plain convolutions, a ReLU after each, and a plain layer.

  A convolution is a product over patches, as in a `KANConv`. In a loop on a
  CPU, XLA's own takes ten times as long.

  Attributes:
    width: Number of outputs of the first convolution.
    outputs: Number of outputs.
    precision: Precision of the products.
    dropout: Part of what enters the plain layer that is left out in training.
    train: Whether to normalize by the batch, or by averages of batches.
  """
  width: int
  outputs: int
  precision: edges.Precision = 'highest'
  dropout: float = 0.0
  train: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    x = x[..., None]
    for i, (times, stride) in enumerate(_CONVOLUTIONS):
      patches = convolution.extract_patches(
          x, (3, 3), strides=(stride, stride), padding='VALID', dilation=(1, 1))
      x = nn.DenseGeneral(
          times * self.width, (-2, -1), precision=self.precision,
          name=f'Conv_{i}')(patches)
      x = nn.relu(_normalize(x, self.train))
    return nn.Dense(self.outputs, precision=self.precision)(
        _drop(x, self.dropout, self.train))


def _normalize(x: jax.Array, train: bool) -> jax.Array:
  return nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)


def _drop(x: jax.Array, part: float, train: bool) -> jax.Array:
  """Returns [n, ...] as rows, of which a part is 0 in training."""
  rows = x.reshape(x.shape[0], -1)
  return nn.Dropout(part, deterministic=not train)(rows)


class PixelMLP(nn.Module):
  """An MLP on bare pixels, or on the columns of a table."""
  features: Sequence[int]
  precision: edges.Precision = 'highest'

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, ...] -> [n, 10]
    *hidden, outputs = self.features
    x = x.reshape(x.shape[0], -1)
    for size in hidden:
      x = nn.relu(nn.Dense(size, precision=self.precision)(x))
    return nn.Dense(outputs, precision=self.precision)(x)


class PixelKAN(nn.Module):
  """A KAN on bare pixels, or on the columns of a table."""
  kan: kan_jax.KAN

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, ...] -> [n, 10]
    return self.kan(x.reshape(x.shape[0], -1))


def build(
    config: configs.Config, classes: int = 10,
    shape: tuple[int, ...] = _IMAGE) -> nn.Module:
  """Returns the network that a config describes.

  Args:
    config: The run.
    classes: Number of outputs.
    shape: Shape of one input.

  Raises:
    cli.UsageError: If the network cannot take inputs of this shape, or has no
      dropout.
  """
  if config.dropout and config.model not in ('kan_conv', 'cnn'):
    raise cli.UsageError(
        f'--dropout={config.dropout} is for --model=kan_conv and --model=cnn; '
        f'got --model={config.model}')
  if config.model not in ('kan', 'mlp') and shape != _IMAGE:
    raise cli.UsageError(
        f'--model={config.model} is for images of {list(_IMAGE)}; those of '
        f'--dataset={config.dataset} have {list(shape)}, which --model=kan '
        'takes')
  if config.model == 'cnn':
    return CNN(config.hidden, classes, config.precision, config.dropout)
  if config.model == 'kan_conv':
    return _kan_conv(config, classes)
  features = *(config.hidden,) * config.layers, classes
  if not config.is_kan:
    mlp = ConvMLP if config.model == 'conv_mlp' else PixelMLP
    return mlp(features, config.precision)
  size, wrap = (16, ConvKAN) if config.model == 'conv_kan' else (
      math.prod(shape), PixelKAN)
  return wrap(kan_jax.KAN([size, *features], **_options(config)))


def _options(config: configs.Config) -> dict[str, Any]:
  """Returns the options of KAN layers."""
  init = nn.initializers.ones if config.scale_spline == 'one' else _fan_in
  return {
      'grid': config.grid, 'order': config.order, 'outside': config.outside,
      'precision': config.precision,
      'base_fn': getattr(nn, config.base_fn),
      'scale_spline_init': init,
      'scale_base_init': nn.initializers.variance_scaling(
          config.scale_base, 'fan_in', 'normal')}


def _kan_conv(config: configs.Config, classes: int) -> KANConvNet:
  convolutions = tuple(
      kan_jax.KANConv(
          times * config.hidden, (3, 3), strides=stride, padding='VALID',
          grid_range=_NORMALIZED if i else (0.0, 1.0), **_options(config))
      for i, (times, stride) in enumerate(_CONVOLUTIONS))
  inputs = _PLACES * convolutions[-1].features
  return KANConvNet(convolutions, kan_jax.KAN(
      [inputs, classes], grid_range=_NORMALIZED, **_options(config)),
                    config.dropout)


def in_training(model: nn.Module) -> nn.Module:
  """Returns a network as it is in training."""
  return model.clone(train=True) if hasattr(model, 'train') else model


def sizes(variables: Mapping[str, Any]) -> tuple[tuple[int, ...], int]:
  """Returns what `build` needs: the shape of an input, the number of classes.

  Args:
    variables: Variables of a network that `build` made. Inputs of a KAN that
      are not 28 x 28 numbers count as a vector.
  """
  params = variables['params']
  name, weight, bias, layers = (
      ('layers', 'scale_base', 'node_bias', params['kan']) if 'kan' in params
      else ('Dense', 'kernel', 'bias', params))
  count = sum(key.startswith(name) for key in layers)
  inputs = len(layers[f'{name}_0'][weight])
  is_image = inputs == math.prod(_IMAGE) or bool(
      {'front', 'convolutions_0', 'Conv_0'} & params.keys())
  return (_IMAGE if is_image else (inputs,),
          len(layers[f'{name}_{count - 1}'][bias]))


def check_variables(
    model: nn.Module, shape: tuple[int, ...],
    variables: Mapping[str, Any]) -> None:
  """Compares what a run has kept with the network of its config.

  Args:
    model: The network, as `build` makes it from the config.
    shape: Shape of one input.
    variables: The variables of the run's checkpoint.

  Raises:
    cli.UsageError: If they are of another network.
  """
  def shapes(tree):
    return {jax.tree_util.keystr(path, simple=True, separator='/'): leaf.shape
            for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}

  kept = shapes(variables)
  expected = shapes(jax.eval_shape(
      model.init, jax.random.key(0),
      jax.ShapeDtypeStruct((1, *shape), jnp.float32)))
  for name in sorted(kept.keys() | expected.keys()):
    if kept.get(name) != expected.get(name):
      raise cli.UsageError(
          f'config.json and checkpoint are of different networks: {name} has '
          f'the shape {kept.get(name, "of nothing")} in the checkpoint, and '
          f'{expected.get(name, "of nothing")} by the config')


def _fan_in(
    key: jax.Array, shape: tuple[int, ...],
    dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
  """Returns 1 / inputs, [in, out]: Adam moves all splines of a sum alike."""
  del key
  return jnp.full(shape, 1 / shape[0], dtype)
