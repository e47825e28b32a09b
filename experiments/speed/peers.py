"""What the benchmark compares: this library, others, an MLP and a floor.

Each contender runs one network forward, and forward and backward: the sum of
its weighted outputs, with its gradient in parameters and inputs. A frozen
network has no gradient.
"""

from collections.abc import Callable
import contextlib
import importlib
import itertools
import time
from typing import Any
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import inference
from kan_jax.layers import linen

ORDER = 3  # All that every peer can do.


class Shape(NamedTuple):
  """A network, a batch, and the number of intervals of each spline."""
  features: tuple[int, ...]
  batch: int
  grid: int

  def __str__(self) -> str:
    return f'{list(self.features)}, batch {self.batch}, G = {self.grid}'


class Contender(NamedTuple):
  """Two functions to time, which return when their results are there."""
  forward: Callable[[], Any]
  # The forward pass included; None where there is none.
  backward: Callable[[], Any] | None


Array = np.ndarray
Build = Callable[[Shape, Array, Array], Contender]


def _of_jax(apply: Callable, params: Any, x: Array, weight: Array) -> Contender:
  """Times `apply(params, x)`; arrays are arguments, not constants."""
  def value(params, x, weight):
    return (apply(params, x) * weight).sum()

  forward = jax.jit(apply)
  backward = jax.jit(jax.value_and_grad(value, (0, 1)))
  on_device, weights = jnp.asarray(x), jnp.asarray(weight)
  return Contender(
      lambda: jax.block_until_ready(forward(params, on_device)),
      lambda: jax.block_until_ready(backward(params, on_device, weights)))


def kan_jax(shape: Shape, x: Array, weight: Array) -> Contender:
  """This library, with knots that are the network's own for every input."""
  model = linen.KAN(shape.features, grid=shape.grid, order=ORDER)
  variables = jax.jit(model.init)(jax.random.key(0), x)

  def apply(variables, x):
    return model.apply(variables, x)

  def params_alone(params, x):
    params, grid = params
    return apply({'params': params, 'grid': jax.lax.stop_gradient(grid)}, x)

  return _of_jax(
      params_alone, (variables['params'], variables['grid']), x, weight)


def frozen(shape: Shape, x: Array, weight: Array) -> Contender:
  """This library, made for inference alone by `freeze`."""
  del weight
  model = linen.KAN(shape.features, grid=shape.grid, order=ORDER)
  run = inference.freeze(model, jax.jit(model.init)(jax.random.key(0), x))
  on_device = jnp.asarray(x)
  return Contender(lambda: jax.block_until_ready(run(on_device)), None)


def mlp(shape: Shape, x: Array, weight: Array) -> Contender:
  """Dense layers of the same widths, with SiLU between them."""
  model = nn.Sequential(list(itertools.islice(itertools.chain.from_iterable(
      (nn.Dense(size), nn.silu) for size in shape.features[1:]),
      2 * len(shape.features) - 3)))
  return _of_jax(model.apply, model.init(jax.random.key(0), x), x, weight)


def floor(shape: Shape, x: Array, weight: Array) -> Contender:
  """The matrix products over the expanded input, in the faster of two layouts.

  Not a network: for each layer, outputs, gradient of the weights and gradient
  of the expanded input, 1 + grid + order values for each input.
  """
  del x, weight
  rng = np.random.default_rng(0)

  def normal(*size):
    return jnp.asarray(rng.normal(size=size), jnp.float32)

  sizes = [(inputs * (1 + shape.grid + ORDER), out)
           for inputs, out in itertools.pairwise(shape.features)]
  rows = [(normal(shape.batch, k), normal(k, out), normal(shape.batch, out))
          for k, out in sizes]
  columns = [(a.T.copy(), w, d.T.copy()) for a, w, d in rows]
  by_row = jax.jit(lambda layers: [(a @ w, a.T @ d, d @ w.T)
                                   for a, w, d in layers])
  by_column = jax.jit(lambda layers: [(w.T @ a, a @ d.T, w @ d)
                                      for a, w, d in layers])
  forward = jax.jit(lambda layers: [a @ w for a, w, _ in layers])
  faster = min(((by_row, rows), (by_column, columns)), key=lambda pair: min(
      seconds(lambda: jax.block_until_ready(pair[0](pair[1])))
      for _ in range(7)))
  return Contender(
      lambda: jax.block_until_ready(forward(rows)),
      lambda: jax.block_until_ready(faster[0](faster[1])))


def jaxkan(shape: Shape, x: Array, weight: Array) -> Contender:
  """jaxKAN, whose layers of the type `spline` have one basis for each input."""
  nnx = importlib.import_module('flax.nnx')
  models = importlib.import_module('jaxkan.models.KAN')
  model = models.KAN(
      layer_dims=list(shape.features), layer_type='spline',
      required_parameters={'k': ORDER, 'G': shape.grid}, seed=0)
  graph, params, rest = nnx.split(model, nnx.Param, ...)
  return _of_jax(
      lambda params, x: nnx.merge(graph, params, rest)(x), params, x, weight)


def pykan(shape: Shape, x: Array, weight: Array) -> Contender:
  """pykan in its speed mode."""
  kan = importlib.import_module('kan')
  with contextlib.redirect_stdout(None):
    model = kan.KAN(width=list(shape.features), grid=shape.grid, k=ORDER,
                    seed=0, auto_save=False)
  return _of_torch(model.speed(), x, weight)


def pykan_on_mnist(*, speed: bool = False) -> Callable[[Array, Array], Any]:
  """Training steps of the MNIST job in torch and pykan, after a grid update.

  Args:
    speed: Whether in pykan's speed mode, without symbolic edges.

  Returns:
    A function of a batch for each step, images [steps, n, 28, 28] and labels
    [steps, n].
  """
  torch = importlib.import_module('torch')
  kan = importlib.import_module('kan')
  with contextlib.redirect_stdout(None):
    model = kan.KAN(width=[16, 20, 10], grid=5, k=ORDER, seed=0,
                    auto_save=False)
  if speed:
    model = model.speed()
  front = torch.nn.Sequential(
      torch.nn.Conv2d(1, 8, 5, stride=2), torch.nn.MaxPool2d(2),
      torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 5, stride=2), torch.nn.Flatten())
  adam = torch.optim.Adam([*front.parameters(), *model.parameters()], lr=0.002)

  def run(images, labels):
    images = torch.from_numpy(images[:, :, None])
    with torch.no_grad():
      model.update_grid_from_samples(front(images[0]))
    for x, y in zip(images, torch.from_numpy(labels).long(), strict=True):
      adam.zero_grad()
      torch.nn.functional.cross_entropy(model(front(x)), y).backward()
      adam.step()

  return run


def inkan(shape: Shape, x: Array, weight: Array) -> Contender:
  """InKAN, closed-form cubics on a fixed uniform grid."""
  return _of_network('inkan', shape, x, weight)


def flashkan(shape: Shape, x: Array, weight: Array) -> Contender:
  """FlashKAN, truncated powers on a fixed uniform grid."""
  return _of_network('flashkan', shape, x, weight)


def _of_network(
    name: str, shape: Shape, x: Array, weight: Array) -> Contender:
  module = importlib.import_module(name)
  return _of_torch(module.KANNetwork(
      list(shape.features), grid_size=shape.grid, spline_order=ORDER), x,
                   weight)


def _of_torch(model: Any, x: Array, weight: Array) -> Contender:
  """Times a model of torch, compiled as a whole if that works and is faster."""
  torch = importlib.import_module('torch')
  torch.compiler.reset()  # Else what it compiled before counts to its limit.
  torch.manual_seed(0)
  # On a GPU where JAX is on one, too; there a call returns before it is done.
  on_gpu = jax.default_backend() == 'gpu' and torch.cuda.is_available()
  device = 'cuda' if on_gpu else 'cpu'
  wait = torch.cuda.synchronize if on_gpu else lambda: None
  model = model.to(device)
  given = torch.from_numpy(x).to(device).requires_grad_()
  weights = torch.from_numpy(weight).to(device)

  def passes(run):
    def forward():
      with torch.no_grad():
        y = run(given)
      wait()
      return y

    def backward():
      model.zero_grad()
      given.grad = None
      (run(given) * weights).sum().backward()
      wait()

    return forward, backward

  plain = passes(model)
  try:
    compiled = passes(torch.compile(model, dynamic=False))
    for run in compiled:
      run()
  except Exception as error:  # Whatever a compiler may say to a peer's code.
    print(f'torch.compile fails: {str(error).splitlines()[:1]}', flush=True)
    return Contender(*plain)
  # Each pass by the faster of the two.
  chosen = [min(pair, key=lambda run: min(seconds(run) for _ in range(5)))
            for pair in zip(plain, compiled, strict=True)]
  print('faster compiled: ' + ', '.join(
      'yes' if run in compiled else 'no' for run in chosen), flush=True)
  return Contender(*chosen)


def seconds(run: Callable[[], Any]) -> float:
  """Returns how long a call takes."""
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


CONTENDERS: dict[str, Build] = {
    'kan_jax': kan_jax, 'frozen': frozen, 'pykan': pykan, 'jaxkan': jaxkan,
    'inkan': inkan, 'flashkan': flashkan, 'mlp': mlp, 'floor': floor}
PEERS = ('pykan', 'jaxkan', 'inkan', 'flashkan')
