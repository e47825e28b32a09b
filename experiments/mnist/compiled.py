"""The compiled parts of an MNIST run, and where it begins."""

import functools
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments.data import feeds
from experiments.mnist import configs
from experiments.mnist import models
from experiments.mnist import run_folder
from kan_jax import compiling
from kan_jax.layers import regularization
from kan_jax.pruning import prune
from kan_jax.splines import grids
from kan_jax.training import sharding
from kan_jax.training import train_steps

SCORED = 10_000  # Training examples on which the edges are scored.
# Parameters that weight decay draws to 0: neither biases nor common factors.
_DECAYING = ('coef', 'kernel', 'scale_base')


class Programs(NamedTuple):
  """The compiled parts of a run. Runs that differ in the seed share them."""
  placement: sharding.Placement
  model: nn.Module
  objective: train_steps.Objective
  init: compiling.Ahead
  run_steps: compiling.Ahead
  # With a batch: images, rows and its number.
  update_grids: compiling.Ahead
  update_averages: compiling.Ahead
  evaluate: compiling.Ahead
  drop_edges: compiling.Ahead  # Those that score little.

  def prepare(
      self, config: configs.Config, shape: tuple[int, ...],
      sizes: tuple[int, int]) -> None:
    """Has threads compile what a run calls, in the order of its calls.

    Args:
      config: The run; its examples are held in memory.
      shape: Shape of one input.
      sizes: Number of training and of test examples.
    """
    init_key, order_key = _split_seed(np.uint32(config.seed))
    totals, order_key = self.placement.shapes(
        (jax.eval_shape(train_steps.zero_totals), order_key))
    # At once: small programs would wait for large ones that threads compile.
    permute.lower(order_key, 0, sizes[0]).compile()
    copy.lower(totals['loss']).compile()
    image = np.zeros((1, *shape), np.float32)
    state = self.placement.shapes(self.init.shapes(init_key, image))
    self.init.prepare(init_key, image)
    train, test = (
        feeds.shape_of_held(size, shape, self.placement) for size in sizes)
    batches = feeds.shapes_of_batches(
        sizes[0], config.batch_size, self.placement)
    if config.update_grid and state.grid:
      self.update_grids.prepare(state, train[0], batches[0], 0)
    if state.others:
      self.update_averages.prepare(state, train[0], batches[0], 0)
    for rows in batches:
      self.run_steps.prepare(state, totals, train, rows, 0, 0)
    for data, size in zip((train, test), sizes, strict=True):
      self.evaluate.prepare(state.variables, data, size)
    if config.lamb and state.grid:
      self.drop_edges.prepare(state.variables, train[0], min(sizes[0], SCORED))

  def cancel(self) -> None:
    """Leaves out what no thread has begun to compile."""
    for program in self:
      if isinstance(program, compiling.Ahead):
        program.cancel()


def build(
    config: configs.Config, classes: int,
    shape: tuple[int, ...] = (28, 28),
    placement: sharding.Placement | None = None,
    examples: int = 60_000) -> Programs:
  """Returns the jitted functions of a config; its seed is not read.

  Args:
    config: The run.
    classes: Number of classes in its data set.
    shape: Shape of one input.
    placement: The devices; one by default.
    examples: Number of training examples, by default that of MNIST, for a
      schedule.

  Raises:
    cli.UsageError: If batches cannot be split evenly over the devices, or
      inputs are no images and are to be moved.
  """
  placement = placement or sharding.Placement(sharding.make_mesh('data:1'))
  try:
    placement.check_batch(config.batch_size)
  except ValueError as error:
    raise cli.UsageError(str(error)) from error
  model = models.build(config, classes, shape)
  tx = _optimizer(config, -(-examples // config.batch_size) * config.epochs)
  penalty = regularization.Penalty(
      l1=config.lamb_l1, entropy=config.lamb_entropy, coef=config.lamb_coef,
      coefdiff=config.lamb_coefdiff, metric=config.reg_metric)
  training = models.in_training(model)
  averages = () if training is model else ('batch_stats',)
  key = jax.random.key(0) if config.dropout else None
  objective = train_steps.make_objective(
      training, functools.partial(_cross_entropy, config.label_smoothing),
      penalty, config.lamb if config.is_kan else 0.0, averages=averages)

  def update_grids(state, images, rows, i):
    return train_steps.update_state_grids(
        model, state, images[rows[i]], grid_update=grids.GridUpdate(
            eps=config.grid_eps, rate=config.grid_rate), placement=placement)

  def update_averages(state, images, rows, i):
    return train_steps.update_averages(
        training, state, images[rows[i]], key=key, placement=placement)

  step = train_steps.make_train_step(objective, tx, key=key)
  if config.shift:
    if len(shape) != 2:
      raise cli.UsageError(
          f'--shift={config.shift} is for images; inputs of '
          f'--dataset={config.dataset} have the shape {list(shape)}')
    step = _shift_first(step, config.shift)
  return Programs(
      placement=placement,
      model=model,
      objective=objective if key is None else functools.partial(
          objective, key=key),
      init=compiling.Ahead(jax.jit(
          functools.partial(
              train_steps.create_state, model, tx, averages=averages),
          compiler_options=compiling.LIGHT)),
      run_steps=compiling.Ahead(train_steps.make_run_steps(
          step, stop_at_skipped=config.on_nonfinite == 'stop',
          placement=placement)),
      update_grids=compiling.Ahead(jax.jit(update_grids)),
      update_averages=compiling.Ahead(jax.jit(update_averages)),
      evaluate=compiling.Ahead(jax.jit(train_steps.make_evaluate(
          model, {'accuracy': _correct}, batch_size=250, placement=placement),
          compiler_options=compiling.LIGHT)),
      drop_edges=compiling.Ahead(jax.jit(
          functools.partial(_drop_edges, config, model, placement),
          static_argnums=2, compiler_options=compiling.LIGHT)))


def _shift_first(step: train_steps.Step, most: int) -> train_steps.Step:
  """Returns a step that moves images by some pixels first, black moving in.

  By its number, so that a run that is resumed moves them alike.
  """
  def moved(state, batch):
    images, labels = batch
    places = jax.random.randint(
        jax.random.fold_in(jax.random.key(0), state.step),
        (len(images), 2), 0, 2 * most + 1)
    padded = jnp.pad(images, ((0, 0), (most, most), (most, most)))
    images = jax.vmap(lambda image, place: jax.lax.dynamic_slice(
        image, place, images.shape[1:]))(padded, places)
    return step(state, (images, labels))

  return moved


def _optimizer(
    config: configs.Config, steps: int) -> optax.GradientTransformation:
  """Returns the optimizer of a run of so many steps."""
  rate: optax.ScalarOrSchedule = config.learning_rate
  if config.schedule == 'cosine':
    rate = optax.warmup_cosine_decay_schedule(
        0, config.learning_rate, steps // 20, steps)
  if not config.weight_decay:
    return optax.adam(rate)

  def decays(params):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in _DECAYING, params)

  return optax.adamw(rate, weight_decay=config.weight_decay, mask=decays)


def _cross_entropy(
    smoothing: float, outputs: jax.Array, labels: jax.Array) -> jax.Array:
  """Returns the loss of each row."""
  if not smoothing:
    return optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
  targets = jax.nn.one_hot(labels, outputs.shape[-1], dtype=outputs.dtype)
  return optax.softmax_cross_entropy(
      outputs, optax.smooth_labels(targets, smoothing))


def _drop_edges(
    config: configs.Config, model: nn.Module, placement: sharding.Placement,
    variables: Any, images: jax.Array,
    count: int) -> tuple[Any, jax.Array, int]:
  """Masks the edges that score little on the first images.

  Returns:
    The variables, how many edges are left, and how many there are.
  """
  _, sown = model.apply(
      variables, placement.constrain_rows(images[:count]), mutable=['edges'])
  masked = prune.mask_edges(
      variables, sown['edges'], config.prune_threshold, config.reg_metric)
  return masked, *prune.count_edges(masked)


def _correct(outputs: jax.Array, labels: jax.Array) -> jax.Array:
  return (outputs.argmax(-1) == labels).astype(jnp.float32)


def begin(
    config: configs.Config, programs: Programs,
    images: jax.typing.ArrayLike) -> run_folder.Progress:
  """Returns the progress of a run before its first step.

  Args:
    config: The run.
    programs: Its programs.
    images: A batch, of which only the shape matters.
  """
  init_key, order_key = _split_seed(np.uint32(config.seed))
  # One device's program, for the same bits however many devices there are.
  state = programs.init(init_key, images)
  return run_folder.Progress(*programs.placement.put(
      (state, train_steps.zero_totals(), order_key)))


# Whole numbers are the same, however they are computed.
@functools.partial(jax.jit, compiler_options=compiling.QUICK)
def _split_seed(seed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the key of a run's parameters, and the data of that of its order.
  """
  init_key, order_key = jax.random.split(jax.random.key(seed))
  return init_key, jax.random.key_data(order_key)


@functools.partial(
    jax.jit, static_argnums=2, compiler_options=compiling.QUICK)
def permute(order_key: jax.Array, epoch: int, size: int) -> jax.Array:
  """Returns the numbers of the examples in an epoch's order, [size]."""
  key = jax.random.fold_in(jax.random.wrap_key_data(order_key), epoch)
  return jax.random.permutation(key, size)


@jax.jit
def copy(x: jax.Array) -> jax.Array:
  """Returns a copy, which stays when the array is donated."""
  return jnp.copy(x)
