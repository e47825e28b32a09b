"""Looks at deep KANs: what reaches each layer, and how they train.

  python -m experiments.accuracy.depth --picture=depth.png

For each scheme of initial values: how much the inputs of each layer vary over
the images of MNIST, how large the gradients of the loss are in these inputs,
and the loss while Adam trains. `default` is that of `KAN`; `fan_avg`, `fan_in`,
whose splines start small, and `power_law` are of `initial_values`. `residual`
adds each layer to its inputs, which are normalized; see `ResidualKAN`. Nothing
is written without --picture or --document.
"""

import functools
import pathlib
import time
from typing import Any
from typing import NamedTuple

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.data import sets
from experiments.data import tables
from kan_jax.layers import initial_values
from kan_jax.layers import linen
from kan_jax.training import train_steps

_ROWS = 10_000  # Training images.
_SHOWN = 256  # Images on which signals are measured.
_CLASSES = 10
_AVERAGED = 10  # Steps of which the picture shows the mean loss.


class ResidualKAN(nn.Module):
  """KAN layers that add to what goes through: x + layer(norm(x)).

  A layer of KAN edges before and after them changes the width. LayerNorm keeps
  what each layer sees on its grid, and trains its scale and its offset.

  Attributes:
    width: Number of nodes in each layer.
    layers: Number of KAN layers in all, >= 2.
    outputs: Number of outputs.
  """
  width: int
  layers: int
  outputs: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:  # [..., in] -> [..., outputs]
    layer = functools.partial(linen.KANLayer, grid_range=(-2.0, 2.0))
    x = linen.KANLayer(self.width)(x)
    for _ in range(self.layers - 2):
      x += layer(self.width)(nn.LayerNorm()(x))
    return layer(self.outputs)(nn.LayerNorm()(x))


class Curves(NamedTuple):
  """What a scheme of initial values does.

  Attributes:
    scheme: Its name.
    signals: Standard deviation over the images of what enters each layer, mean
      over its inputs, [layers].
    gradients: Root mean square of the loss's gradient in the same, for the mean
      loss of a batch times its size, [layers].
    losses: Loss of each training step.
    accuracy: On the test images, percent.
    seconds: Time of training, compiling included.
  """
  scheme: str
  signals: np.ndarray
  gradients: np.ndarray
  losses: np.ndarray
  accuracy: float
  seconds: float


def models(width: int, layers: int) -> dict[str, nn.Module]:
  """Returns the networks to compare, by the name of their scheme."""
  features = [28 * 28, *[width] * (layers - 1), _CLASSES]
  schemes: dict[str, initial_values.Scheme | None] = {
      'default': None,
      'fan_avg': initial_values.VarianceScaling(),
      'fan_in': initial_values.VarianceScaling(splines=0.1, mode='fan_in'),
      'power_law': initial_values.PowerLaw()}
  return {name: linen.KAN(features, initial=scheme)
          for name, scheme in schemes.items()} | {
              'residual': ResidualKAN(width, layers, _CLASSES)}


def measure_signals(
    model: nn.Module, variables: Any, x: jax.Array, y: jax.Array
    ) -> tuple[np.ndarray, np.ndarray]:
  """Returns deviations and gradients of each layer's inputs; see `Curves`."""
  def loss(shifts: list[jax.Array]) -> tuple[jax.Array, list[jax.Array]]:
    """Takes what is added to the inputs of each layer; zeros, if it is empty.
    """
    entered: list[jax.Array] = []

    def shift(call, args, kwargs, context):
      if isinstance(context.module, linen.KANLayer) and (
          context.method_name == '__call__'):
        entered.append(args[0])
        if shifts:
          args = (args[0] + shifts[len(entered) - 1],)
      return call(*args, **kwargs)

    with nn.intercept_methods(shift):
      outputs = model.apply(variables, x)
    losses = optax.softmax_cross_entropy_with_integer_labels(outputs, y)
    return losses.sum(), entered

  _, shapes = jax.eval_shape(functools.partial(loss, []))
  zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]
  slopes, entered = jax.jit(jax.grad(loss, has_aux=True))(zeros)
  return (np.array([float(a.std(0).mean()) for a in entered]),
          np.array([float(jnp.sqrt((a**2).mean())) for a in slopes]))


def train(
    scheme: str, model: nn.Module, data: sets.Dataset, steps: int, rate: float,
    seed: int) -> Curves:
  """Measures a network, then trains it for some steps of 128 images."""
  started = time.monotonic()
  (x, y), (test_x, test_y) = (
      (jnp.asarray(split.images[:_ROWS].reshape(-1, 28 * 28)),
       jnp.asarray(split.labels[:_ROWS])) for split in (data.train, data.test))
  tx = optax.adam(rate)
  step = train_steps.make_train_step(train_steps.make_objective(
      model, optax.softmax_cross_entropy_with_integer_labels), tx)
  state = jax.jit(functools.partial(train_steps.create_state, model, tx))(
      jax.random.key(seed), x[:1])
  signals, gradients = measure_signals(
      model, state.variables, x[:_SHOWN], y[:_SHOWN])

  @jax.jit
  def run(state, keys):
    def one(state, key):
      rows = jax.random.randint(key, (128,), 0, len(x))
      state, metrics = step(state, (x[rows], y[rows]))
      return state, metrics['loss']
    return jax.lax.scan(one, state, keys)

  state, losses = run(state, jax.random.split(jax.random.key(seed + 1), steps))
  right = jax.jit(model.apply)(state.variables, test_x).argmax(-1) == test_y
  return Curves(scheme, signals, gradients, np.asarray(losses),
                100 * float(right.mean()), time.monotonic() - started)


def table(curves: list[Curves]) -> str:
  """Returns a Markdown table: a row for each scheme."""
  return tables.markdown(
      ('initial values', 'signal, last layer / first',
       'gradient, first layer / last', 'loss, last steps', 'test accuracy',
       'seconds'),
      [(f'`{c.scheme}`', f'{c.signals[-1] / c.signals[0]:.2g}',
        f'{c.gradients[0] / c.gradients[-1]:.2g}',
        f'{c.losses[-_AVERAGED:].mean():.3f}', f'{c.accuracy:.1f}',
        f'{c.seconds:.1f}') for c in curves])


def draw(curves: list[Curves], path: pathlib.Path) -> None:
  """Draws signals and gradients by layer, and losses by step."""
  from matplotlib import figure

  picture = figure.Figure(figsize=(11, 3.8), layout='constrained')
  panels = picture.subplots(1, 3)
  window = np.ones(_AVERAGED) / _AVERAGED
  for curve in curves:
    layers = np.arange(1, len(curve.signals) + 1)
    panels[0].semilogy(layers, curve.signals, '.-', label=curve.scheme)
    panels[1].semilogy(layers, curve.gradients, '.-')
    panels[2].semilogy(np.convolve(curve.losses, window, 'valid'))
  for axes, title, below in zip(panels, (
      'Deviation of what enters a layer', 'Gradient in it', 'Training loss'),
      ('layer', 'layer', 'step'), strict=True):
    axes.set_title(title, fontsize=10)
    axes.set_xlabel(below)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
  picture.legend(loc='outside lower center', ncols=5, frameon=False)
  picture.savefig(path, dpi=120)


def main() -> None:
  """Runs what the flags say."""
  values = flags.FLAGS
  known = models(values.width, values.layers)
  names = cli.choose('schemes', values.schemes, known)
  picture = values.picture and cli.new_file(values.picture, 'picture')
  tables.put(values.document, table([]), 1)  # Says at once if it cannot.
  data = sets.load('mnist')
  curves = []
  for name in names:
    curve = train(name, known[name], data, values.steps, values.learning_rate,
                  values.seed)
    print(f'{name}: {curve.accuracy:.1f} % after {curve.seconds:.1f} s',
          flush=True)
    curves.append(curve)
  print(table(curves), flush=True)
  tables.put(values.document, table(curves), 1)
  if picture:
    draw(curves, picture)


if __name__ == '__main__':
  cli.define_number('layers', 10, 'KAN layers.', low=2)
  cli.define_number('width', 32, 'Nodes in each hidden layer.', low=1)
  cli.define_number('steps', 300, 'Training steps of 128 images.', low=1)
  cli.define_number('learning_rate', 0.001, "Adam's step size.", above=0)
  flags.DEFINE_list('schemes', [], 'Which of them; all by default.')
  flags.DEFINE_string('picture', None, 'File for the picture, a new one.')
  cli.define_seed('Decides initial values and batches.')
  tables.define_document()
  cli.run(main)
