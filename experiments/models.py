"""The networks of the MNIST experiment."""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from experiments import configs
import kan_jax


class PatchConv(nn.Module):
  """A convolution without padding, as one matrix product over its patches.

  Equal to `nn.Conv(..., padding='VALID')`, whose kernel has the same shape; on
  a CPU several times faster, since XLA's own convolution is slow there.
  """
  features: int
  kernel_size: int
  stride: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, h, w, c] -> [n, ...]
    k, stride = self.kernel_size, self.stride
    kernel = self.param('kernel', nn.initializers.lecun_normal(),
                        (k, k, x.shape[-1], self.features))
    bias = self.param('bias', nn.initializers.zeros, (self.features,))
    high, wide = (size - k + 1 for size in x.shape[1:3])
    patches = jnp.concatenate(
        [x[:, i:i + high:stride, j:j + wide:stride]
         for i in range(k) for j in range(k)], -1)
    return patches @ kernel.reshape(-1, self.features) + bias


class FrontEnd(nn.Module):
  """Two small convolutions that turn a 28 x 28 image into 16 features."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 16]
    x = PatchConv(8, kernel_size=5, stride=2, name='conv1')(x[..., None])
    n, high, wide, channels = x.shape
    x = x.reshape(n, high // 2, 2, wide // 2, 2, channels).max((2, 4))
    x = PatchConv(16, kernel_size=5, stride=2, name='conv2')(nn.relu(x))
    return x.reshape(n, -1)


class ConvKAN(nn.Module):
  """The front-end and a KAN on its features."""
  kan: kan_jax.KAN

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    return self.kan(FrontEnd(name='front')(x))


class ConvMLP(nn.Module):
  """The front-end and an MLP, with a ReLU before each of its layers."""
  features: Sequence[int] = (20, 10)

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    x = FrontEnd(name='front')(x)
    for size in self.features:
      x = nn.Dense(size)(nn.relu(x))
    return x


class PixelKAN(nn.Module):
  """A KAN on the bare pixels."""
  kan: kan_jax.KAN

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [n, 28, 28] -> [n, 10]
    return self.kan(x.reshape(len(x), -1))


def build(config: configs.Config, classes: int = 10) -> nn.Module:
  """Returns the network that a config describes."""
  if config.model == 'conv_mlp':
    return ConvMLP((config.hidden, classes))
  size, wrap = (16, ConvKAN) if config.model == 'conv_kan' else (784, PixelKAN)
  return wrap(kan_jax.KAN(
      [size, config.hidden, classes], grid=config.grid, order=config.order,
      outside=config.outside))
