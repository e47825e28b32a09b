"""Checks that the layers keep their limits of time and memory.

  python -m experiments.speed.goals --goals=flat,penalty

Each goal is a quotient that should not exceed a limit. It is of bytes, or of
median times, which are taken in turns, forward and backward in float32:

  flat     cost that does not grow with the number of intervals: [100, 100],
           batch 1024, and against a product with all B-splines
  uneven   grids by quantiles against uniform ones
  penalty  a training step with the exact l1 and entropy penalty against one
           without, [784, 64, 10], batch 128
  nnx      a training step of the model for NNX against one for Linen, [784, 64,
           10], batch 128, by nnx.jit, by nnx.cached_partial and by nnx.split
  equal    a KAN against an MLP with as many parameters, batch 100
  mnist    ten steps of the MNIST job after a grid update, config kan, against
           the same in torch and pykan 0.2.8 (extra `bench`)
  process  five epochs of it as a process of its own, with imports, compiling
           and evaluation, against pykan's, without the last; takes minutes
  memory   temporary arrays of the compiled training step, [784, 64, 10],
           against an MLP on the expanded input, whose input counts
"""

from collections.abc import Callable
from collections.abc import Iterator
import functools
import subprocess
import sys
from typing import Any
from typing import NamedTuple

from absl import flags
from flax import nnx as flax_nnx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.speed import bench
from experiments.speed import peers
from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.layers.nnx import modules
from kan_jax.splines import grids
from kan_jax.training import train_steps

_WIDE = (784, 64, 10)
_MIB = 2**20


class Row(NamedTuple):
  """A goal and what was measured.

  Attributes:
    text: What is divided by what.
    above: Numerator, in milliseconds or MiB.
    below: Denominator.
    limit: What the quotient should not exceed.
  """
  text: str
  above: float
  below: float
  limit: float

  def __str__(self) -> str:
    quotient = self.above / self.below
    return (f'{self.text}: {self.above:.4g} / {self.below:.4g} = '
            f'{quotient:.3g}, limit {self.limit:.3g}: '
            + ('met' if quotient <= self.limit else 'MISSED'))


def _medians(
    runs: list[Callable[[], Any]], seconds: float) -> list[float]:
  """Milliseconds of functions whose results may still be on their way."""
  def wait(run):
    return lambda: jax.block_until_ready(run())

  waiting = [wait(run) for run in runs]
  for run in waiting * 2:  # To compile, and to fill the caches.
    run()
  return [1e3 * float(np.median(times))
          for times in bench.in_turns(waiting, seconds)]


def _compare(
    text: str, runs: list[Callable[[], Any]], seconds: float,
    limit: float) -> Row:
  """A row of the times of two functions."""
  above, below = _medians(runs, seconds)
  return Row(text, above, below, limit)


def _backward(apply: Callable, *args: Any) -> Callable[[], Any]:
  """Gradients of the summed outputs in all arguments; all of them floating."""
  slope = jax.jit(jax.grad(lambda args: apply(*args).sum()))
  return lambda: slope(args)


def _kan(
    features: tuple[int, ...], x: jax.Array, grid: int,
    eps: float | None = None) -> Callable[[], Any]:
  """A network's gradients in parameters and input; grids by `eps`."""
  model = linen.KAN(features, grid=grid)
  variables = jax.jit(model.init)(jax.random.key(0), x)
  if eps is not None:
    variables = traversal.update_grids(
        model, variables, x, grid_update=grids.GridUpdate(eps=eps))
  apply: Callable = model.apply
  run = jax.jit(jax.grad(
      lambda params, x, grid: apply(
          {'params': params, 'grid': grid}, x).sum(), (0, 1)))
  return lambda: run(variables['params'], x, variables['grid'])


def flat(seconds: float) -> Iterator[Row]:
  """Compares few intervals with many."""
  x = jax.random.uniform(jax.random.key(1), (1024, 100), minval=-1)
  sizes = 50, 200, 1000
  model = linen.KANLayer(100, grid=200)
  variables = jax.jit(model.init)(jax.random.key(0), x)

  def product(params, x):
    arrays = edges.Edges(
        **variables['grid'], **{
            name: params[name] for name in (
                'coef', 'scale_base', 'scale_spline')})
    return edges.contract(
        edges.features(x, arrays.knots, 3, nn.silu), edges.weights(arrays))

  few, some, many, every = _medians(
      [_kan((100, 100), x, size) for size in sizes]
      + [_backward(product, variables['params'], x)], seconds)
  yield Row('G = 1000 over G = 50', many, few, 1.5)
  yield Row('G = 200, looked up over a product with all B-splines', some, every,
            1 / 6)


def uneven(seconds: float) -> Iterator[Row]:
  """Compares grids by quantiles of normal samples with uniform ones."""
  for features, batch, grid in ((_WIDE, 128, 5), ((100, 100), 1024, 200)):
    x = jax.random.normal(jax.random.key(1), (batch, features[0]))
    runs = [_kan(features, x, grid, eps) for eps in (0.0, 1.0)]
    yield _compare(
        f'{list(features)}, batch {batch}, G = {grid}: quantiles over uniform',
        runs, seconds, 1.5)


def _train_step(lamb: float):
  """A step and its initial state, for the wide network."""
  model, tx = linen.KAN(_WIDE), optax.adam(1e-3)
  objective = train_steps.make_objective(
      model, optax.softmax_cross_entropy_with_integer_labels,
      regularization.Penalty(), lamb)

  def init(x):
    return train_steps.create_state(model, tx, jax.random.key(0), x)

  return init, train_steps.make_train_step(objective, tx)


def penalty(seconds: float) -> Iterator[Row]:
  """Compares training steps with and without the exact penalty."""
  x = jax.random.uniform(jax.random.key(1), (128, _WIDE[0]), minval=-1)
  y = jnp.zeros(len(x), jnp.int32)

  def run(lamb):
    init, step = _train_step(lamb)
    state, step = init(x), jax.jit(step)
    return lambda: step(state, (x, y))

  yield _compare('a step with the penalty over one without',
                 [run(0.003), run(0.0)], seconds, 1.5)


def nnx(seconds: float) -> Iterator[Row]:
  """The same step in both APIs of Flax; each goes on from the last."""
  x = jax.random.uniform(jax.random.key(1), (128, _WIDE[0]), minval=-1)
  y = jnp.zeros(len(x), jnp.int32)
  init, step = _train_step(0.0)
  state, jitted = init(x), jax.jit(step)

  def run():
    nonlocal state
    state, metrics = jitted(state, (x, y))
    return metrics

  ways = {'nnx.jit': _nnx_step, 'nnx.cached_partial': _nnx_cached_step,
          'nnx.split': _nnx_split_step}
  *times, below = _medians([make(x, y) for make in ways.values()] + [run],
                           seconds)
  for way, above in zip(ways, times, strict=True):
    yield Row(f'a step by {way} over one of Linen', above, below, 1.05)


def _nnx_parts() -> tuple[modules.KAN, flax_nnx.Optimizer[modules.KAN]]:
  model = modules.KAN(_WIDE, rngs=flax_nnx.Rngs(0))
  return model, flax_nnx.Optimizer(
      model, optax.adam(1e-3), wrt=flax_nnx.Param)


def _change(
    model: modules.KAN, optimizer: flax_nnx.Optimizer[modules.KAN],
    x: jax.Array, y: jax.Array) -> jax.Array:
  """A step that changes its model and its optimizer."""
  def loss_fn(model):
    return optax.softmax_cross_entropy_with_integer_labels(model(x), y).mean()

  loss, grads = flax_nnx.value_and_grad(loss_fn)(model)
  optimizer.update(model, grads)
  return loss


def _nnx_step(x: jax.Array, y: jax.Array) -> Callable[[], Any]:
  parts, step = _nnx_parts(), flax_nnx.jit(_change)
  return lambda: step(*parts, x, y)


def _nnx_cached_step(x: jax.Array, y: jax.Array) -> Callable[[], Any]:
  step = flax_nnx.cached_partial(flax_nnx.jit(_change), *_nnx_parts())
  return lambda: step(x, y)


def _nnx_split_step(x: jax.Array, y: jax.Array) -> Callable[[], Any]:
  """A step from arrays to arrays: Python looks at no module between steps."""
  graph, arrays = flax_nnx.split(_nnx_parts())

  @jax.jit
  def step(arrays, x, y):
    parts = flax_nnx.merge(graph, arrays)
    loss = _change(*parts, x, y)
    return flax_nnx.state(parts), loss

  def run():
    nonlocal arrays
    arrays, loss = step(arrays, x, y)
    return loss

  return run


def equal(seconds: float) -> Iterator[Row]:
  """Compares a KAN with an MLP of as many parameters, which has more nodes."""
  x = jax.random.uniform(jax.random.key(1), (100, 1000), minval=-1)
  mlp = nn.Sequential([nn.Dense(10_000), nn.silu, nn.Dense(1)])
  params = jax.jit(mlp.init)(jax.random.key(0), x)
  runs = [_kan((1000, 1000, 1), x, 5), _backward(mlp.apply, params, x)]
  yield _compare('KAN [1000, 1000, 1] over MLP [1000, 10000, 1]', runs, seconds,
                 1.5)


def mnist(seconds: float) -> Iterator[Row]:
  """Ten steps and a grid update, without evaluation; an epoch has 469 steps."""
  config = configs.CONFIGS['kan']
  rows = np.arange(10 * config.batch_size).reshape(10, -1)
  images, labels = sets.load('mnist').train
  images, labels = images[rows], labels[rows]
  others = [functools.partial(
      peers.pykan_on_mnist(speed=speed), images, labels)
      for speed in (True, False)]
  ours, fast, plain = _medians(
      [_mnist_steps(config, images, labels), *others], seconds)
  yield Row("the MNIST job over pykan's", ours, plain, 1 / 40)
  yield Row("the MNIST job over pykan's in its speed mode", ours, fast, 1 / 40)


def _mnist_steps(
    config: configs.Config, images: np.ndarray,
    labels: np.ndarray) -> Callable[[], Any]:
  programs = compiled.build(config, 10)
  steps, batch = labels.shape
  examples = tuple(
      jnp.asarray(a.reshape(-1, *a.shape[2:])) for a in (images, labels))
  rows = jnp.arange(steps * batch).reshape(steps, batch)
  progress = compiled.begin(config, programs, examples[0][:1])

  def run():
    nonlocal progress
    state = programs.update_grids(progress.state, examples[0], rows, 0)
    state, totals = programs.run_steps(
        state, progress.totals, examples, rows, 0, steps)
    progress = progress._replace(state=state, totals=totals)
    return totals

  return run


def process(seconds: float) -> Iterator[Row]:
  """The whole MNIST job, each in a new process; once."""
  del seconds
  peers.pykan_on_mnist()  # Says at once if it is not installed.

  def run(*command):
    subprocess.run(
        [sys.executable, *command], check=True, stdout=subprocess.DEVNULL)

  ours = peers.seconds(lambda: run('-m', 'experiments.mnist', '--config=kan'))
  other = peers.seconds(lambda: run(
      '-c', 'from experiments.speed import goals; goals.train_pykan()'))
  yield Row("the MNIST process over pykan's", 1e3 * ours, 1e3 * other, 1 / 8)


def train_pykan(epochs: int = 5, freq: int = 10) -> None:
  """The MNIST job in pykan: epochs, with a grid update every `freq` steps."""
  images, labels = sets.load('mnist').train
  size = configs.CONFIGS['kan'].batch_size
  run = peers.pykan_on_mnist()
  rng = np.random.default_rng(0)
  for _ in range(epochs):
    rows = rng.permutation(len(labels))[:len(labels) // size * size]
    rows = rows.reshape(-1, size)
    for k in range(0, len(rows), freq):
      run(images[rows[k:k + freq]], labels[rows[k:k + freq]])


def memory(seconds: float) -> Iterator[Row]:
  """Compares memory, as the compiled programs report it."""
  del seconds
  init, step = _train_step(0.0)

  def kan(batch):
    x = jax.ShapeDtypeStruct((batch, _WIDE[0]), jnp.float32)
    y = jax.ShapeDtypeStruct((batch,), jnp.int32)
    return _temporary(step, jax.eval_shape(init, x), (x, y))

  expanded = jax.ShapeDtypeStruct((4096, 9 * _WIDE[0]), jnp.float32)
  mlp = nn.Sequential([nn.Dense(_WIDE[1]), nn.silu, nn.Dense(_WIDE[2])])
  params = jax.eval_shape(mlp.init, jax.random.key(0), expanded)
  apply: Callable = mlp.apply
  other = expanded.size * 4 / _MIB + _temporary(jax.grad(
      lambda params, x: apply(params, x).sum()), params, expanded)
  half, whole = kan(2048), kan(4096)
  yield Row('batch 4096 over batch 2048', whole, half, 2)
  yield Row('batch 4096 over the MLP', whole, other, 3)


def _temporary(fn: Callable, *args: Any) -> float:
  analysis: Any = jax.jit(fn).lower(*args).compile().memory_analysis()
  return analysis.temp_size_in_bytes / _MIB


GOALS: dict[str, Callable[[float], Iterator[Row]]] = {
    'flat': flat, 'uneven': uneven, 'penalty': penalty, 'nnx': nnx,
    'equal': equal, 'mnist': mnist, 'process': process, 'memory': memory}


def main() -> None:
  """Runs what the flags say."""
  for name in cli.choose('goals', flags.FLAGS.goals, GOALS):
    try:
      for row in GOALS[name](flags.FLAGS.seconds):
        print(f'{name}: {row}', flush=True)
    except ImportError as error:
      print(f'{name} is left out: {error}', flush=True)


if __name__ == '__main__':
  flags.DEFINE_list(
      'goals', [], f'Which of {", ".join(GOALS)}; all by default.')
  cli.define_number(
      'seconds', 3.0, 'Time for the measurements of one comparison; to compile '
      'takes longer.', low=0)
  cli.run(main)
