"""The runs of the MNIST experiment, and the flags that override them."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import math
from typing import Any
from typing import get_args

from absl import flags

from experiments import cli
from kan_jax.layers import regularization
from kan_jax.splines import bsplines


def _setting(
    default: Any, text: str, *, choices: Sequence[str] = (),
    low: float = -math.inf, high: float = math.inf, above: float = -math.inf):
  """Returns a field with its help text and the values it allows."""
  allowed = {'choices': choices, 'low': low, 'high': high, 'above': above}
  return dataclasses.field(
      default=default, metadata={'help': text, 'allowed': allowed})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
  """One run. The flag of the same name overrides a field.

  Raises:
    cli.UsageError: If a field has a value that it does not allow.
  """
  model: str = _setting(
      'conv_kan', 'conv_kan and conv_mlp put a KAN or an MLP on a small '
      'convolutional front-end; kan and mlp work on the pixels; kan_conv has '
      'KAN convolutions and nothing else, cnn plain ones.',
      choices=('conv_kan', 'conv_mlp', 'kan', 'mlp', 'kan_conv', 'cnn'))
  hidden: int = _setting(
      20, 'Nodes in each hidden layer; of kan_conv and cnn, channels after the '
      'first convolution.', low=1)
  layers: int = _setting(1, 'Hidden layers.', low=1)
  grid: int = _setting(5, 'Intervals of each spline.', low=1)
  order: int = _setting(3, 'Degree of the splines.', low=0, high=5)
  base_fn: str = _setting(
      'silu', 'Function beside the spline on every edge.',
      choices=('silu', 'relu'))
  outside: bsplines.Outside = _setting(
      'zero', 'What a spline does beyond its grid.',
      choices=get_args(bsplines.Outside))
  update_grid: bool = _setting(True, 'Whether the grids follow the data.')
  grid_update_freq: int = _setting(
      10, 'Steps from one grid update to the next.', low=1)
  grid_update_epochs: int = _setting(
      0, 'Epochs in which the grids follow the data; 0 stands for all.', low=0)
  grid_eps: float = _setting(
      1.0, 'Spacing of the knots: 1 uniform, 0 by quantiles.', low=0, high=1)
  grid_rate: float = _setting(
      0.1, "Part of the way to a batch's knots that an update goes; 1 is the "
      'whole way, as in pykan.', above=0, high=1)
  scale_spline: str = _setting(
      'one', 'Initial weight of the splines: one, or 1 / inputs, which many '
      'inputs need.', choices=('one', 'fan_in'))
  scale_base: float = _setting(
      1.0, 'Variance of the initial weights of the base functions, times the '
      'number of inputs.', above=0)
  lamb: float = _setting(
      0.0, 'Weight of the sparsity penalty in the loss.', low=0)
  lamb_l1: float = _setting(1.0, 'Weight of l1 in the penalty.', low=0)
  lamb_entropy: float = _setting(
      2.0, 'Weight of the entropy in the penalty.', low=0)
  lamb_coef: float = _setting(
      0.0, 'Weight of the coefficients in the penalty.', low=0)
  lamb_coefdiff: float = _setting(
      0.0, 'Weight of the steps between coefficients in the penalty.', low=0)
  reg_metric: regularization.Metric = _setting(
      'mean_abs', 'Edge score in the penalty: mean_abs as in pykan of May '
      '2024, std as in pykan 0.2.', choices=('mean_abs', 'std'))
  prune_threshold: float = _setting(
      0.01, 'Edges that score less are masked off in the summary.', low=0)
  precision: str = _setting(
      'highest', 'Of the matrix products, on accelerators: highest computes in '
      'float32, high and default round, to be faster.',
      choices=('highest', 'high', 'default'))
  epochs: int = _setting(5, 'Passes over the training set.', low=1)
  batch_size: int = _setting(
      128, 'Examples in a step; the last batch of an epoch may be shorter.',
      low=1)
  learning_rate: float = _setting(0.002, "Adam's step size.", above=0)
  schedule: str = _setting(
      'constant', 'Step size over the run: constant, or cosine, which rises in '
      'the first twentieth of the steps and then falls to nothing.',
      choices=('constant', 'cosine'))
  weight_decay: float = _setting(
      0.0, 'Part of all weights and spline coefficients that a step takes off, '
      'times the step size (AdamW).', low=0)
  label_smoothing: float = _setting(
      0.0, 'Part of a label that is dealt to all classes alike, in the loss.',
      low=0, high=1)
  shift: int = _setting(
      0, 'Most pixels by which training images are moved, at random, along '
      'each axis.', low=0, high=27)
  dropout: float = _setting(
      0.0, 'Part of what enters the last layer of kan_conv and cnn that a step '
      'leaves out, at random.', low=0, high=1)
  seed: int = _setting(
      0, 'Decides the initial parameters and the order of the examples.',
      low=0, high=cli.LARGEST_SEED)
  on_nonfinite: str = _setting(
      'stop', 'What happens when a loss or gradient is not finite: stop ends '
      'the run, skip leaves the step out and counts it.',
      choices=('stop', 'skip'))
  dataset: str = _setting(
      'mnist', 'mnist ships with this repository; a folder that '
      'experiments.data.records wrote; another name, such as fashion_mnist, is '
      'looked up in tensorflow_datasets.')
  holdout: int = _setting(
      0, 'Training examples, the last ones, that take the place of the test '
      'set: to choose settings before the test.', low=0)

  @property
  def is_kan(self) -> bool:
    """Whether the network has KAN layers."""
    return self.model in ('conv_kan', 'kan', 'kan_conv')

  def __post_init__(self):
    for field in dataclasses.fields(self):
      _check(field.name, getattr(self, field.name), type(field.default),
             **field.metadata['allowed'])


# What a value of each type may be, and how to say so. A bool is an int, too.
_KINDS: dict[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), 'true or false'), int: ((int,), 'a whole number'),
    float: ((int, float), 'a number'), str: ((str,), 'text')}


def _check(
    name: str, value: Any, kind: type, choices: Sequence[str] = (),
    **limits: float) -> None:
  """Raises a UsageError unless the value is among the allowed ones."""
  if choices and value not in choices:
    raise cli.UsageError(
        f'--{name}={value} is not known; allowed are {", ".join(choices)}')
  types, text = _KINDS[kind]
  if type(value) not in types:
    allowed = '' if kind in (bool, str) else f': {cli.describe(**limits)}'
    raise cli.UsageError(
        f'--{name}={value!r} is not possible; it must be {text}{allowed}')
  if isinstance(value, str | bool):
    return
  try:
    cli.check_number(value, **limits)
  except ValueError as error:
    raise cli.UsageError(
        f'--{name}={value} is not possible; {error}') from error


# Networks on bare pixels have 400,000 parameters, enough to learn the training
# set by heart. Their settings were chosen with --holdout=10000.
_PIXELS = Config(
    # Most pixels are zero: what the others give needs more weight at first.
    model='kan', hidden=64, grid=3, scale_spline='fan_in', scale_base=4.0,
    epochs=20, learning_rate=0.01, schedule='cosine', weight_decay=0.25,
    label_smoothing=0.1, grid_update_epochs=3)

# Found in the same way. Normalized by the batch, so that grids can stay.
_KAN_CONV = Config(
    model='kan_conv', hidden=8, grid=1, order=2, base_fn='relu',
    scale_spline='fan_in', update_grid=False, epochs=20, learning_rate=0.01,
    schedule='cosine', weight_decay=0.1, label_smoothing=0.1, dropout=0.3)
# As many parameters as kan_conv.
_CNN = Config(
    model='cnn', hidden=19, epochs=20, learning_rate=0.004, schedule='cosine',
    weight_decay=0.05, label_smoothing=0.1, dropout=0.3)
_SHIFTED: dict[str, Any] = {'shift': 2, 'dropout': 0.0, 'weight_decay': 0.05}

CONFIGS = {
    'mlp': Config(model='conv_mlp'),
    'kan': Config(),
    'kan_no_update_grid': Config(update_grid=False),
    'kan_reg': Config(lamb=0.003),
    'kan_reg_strong': Config(lamb=0.005),
    'kan_full': _PIXELS,
    'kan_deep': dataclasses.replace(
        _PIXELS, layers=3, learning_rate=0.005, weight_decay=0.3),
    'kan_conv': _KAN_CONV,
    'kan_conv_shifted': dataclasses.replace(_KAN_CONV, **_SHIFTED),
    'cnn': _CNN,
    'cnn_shifted': dataclasses.replace(_CNN, **_SHIFTED),
    'mlp_full': dataclasses.replace(
        _PIXELS, model='mlp', hidden=512, learning_rate=0.002,
        weight_decay=0.05),
    'mlp_deep': dataclasses.replace(
        _PIXELS, model='mlp', hidden=325, layers=3, learning_rate=0.002,
        weight_decay=0.05),
}

_DEFINE: dict[type, Callable] = {
    bool: flags.DEFINE_bool, int: flags.DEFINE_integer,
    float: flags.DEFINE_float, str: flags.DEFINE_string}


# The flags belong to the program that asks for them: its --help lists them.
flags.disclaim_key_flags()


def define_flags() -> None:
  """Defines --config and a flag for every field of `Config`."""
  flags.DEFINE_string(
      'config', 'kan', f'Which run: {", ".join(CONFIGS)}. The flags below '
      'override its settings; the defaults they name are those of kan.')
  for field in dataclasses.fields(Config):
    meta = field.metadata
    choices = ', '.join(meta['allowed']['choices'])
    text = f'{meta["help"]} {f"One of {choices}. " if choices else ""}'
    _DEFINE[type(field.default)](
        field.name, None, f'{text.strip()} (default: {field.default})')


def config_from_flags() -> Config:
  """Returns the chosen config with the overrides that were given.

  Raises:
    cli.UsageError: If the config is unknown or a value is not allowed.
  """
  name = flags.FLAGS.config
  _check('config', name, str, tuple(CONFIGS))
  given: dict[str, Any] = {
      field.name: flags.FLAGS[field.name].value
      for field in dataclasses.fields(Config)
      if flags.FLAGS[field.name].present}
  return dataclasses.replace(CONFIGS[name], **given)
