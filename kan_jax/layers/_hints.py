"""Errors that say the way, for those who come from elsewhere.

Other KAN libraries call the options of a network something else, and torch has
modules that hold their own parameters.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
from typing import Any
from typing import TypeVar

_Class = TypeVar('_Class', bound=type)

_FEATURES = 'write `features`, the first argument, as in KAN([2, 5, 1])'
_SIZES = 'write `features`, the number of outputs; `x` has the inputs'
_SCALE_BASE = 'write `scale_base_init`, an initializer'
_SCALE_SPLINE = 'write `scale_spline_init`, an initializer'
_NO_FILES = 'leave it out; only `kan_jax.save` and such calls write files'

# What to do in place of the options of pykan, efficient-kan, fastkan, jaxKAN.
_ADVICE: Mapping[str, str] = {
    **dict.fromkeys(
        ('width', 'layers_hidden', 'layer_dims', 'hidden_layers', 'layers'),
        _FEATURES),
    **dict.fromkeys(
        ('in_dim', 'out_dim', 'n_in', 'n_out', 'in_features', 'out_features'),
        _SIZES),
    **dict.fromkeys(('k', 'spline_order', 'degree'), 'write `order`'),
    **dict.fromkeys(('grid_size', 'num_grids', 'num', 'G'), 'write `grid`'),
    **dict.fromkeys(
        ('grid_min', 'grid_max'), 'write `grid_range`, as in (-1.0, 1.0)'),
    **dict.fromkeys(
        ('grid_eps', 'grid_e'),
        'pass `grid_update=GridUpdate(eps=...)` to `fit` or `update_grids`'),
    **dict.fromkeys(('noise_scale', 'scale_noise'), 'write `noise`'),
    **dict.fromkeys(
        ('base_fun', 'base_activation', 'residual'),
        'write `base_fn`, such as jax.nn.silu'),
    'layer_type': "write `basis`: 'bspline', 'chebyshev' or 'radial'",
    'mult_arity': 'write `arity`',
    **dict.fromkeys(('add_bias', 'bias_trainable'), 'write `bias`'),
    **dict.fromkeys(
        ('scale_base', 'scale_base_mu', 'scale_base_sigma', 'noise_scale_base'),
        _SCALE_BASE),
    **dict.fromkeys(
        ('scale_sp', 'scale_spline', 'spline_weight_init_scale'),
        _SCALE_SPLINE),
    'sb_trainable': "pass `optimizer=LBFGS(frozen=('scale_base',))` to `fit`",
    'sp_trainable': "pass `optimizer=LBFGS(frozen=('scale_spline',))` to `fit`",
    'affine_trainable': 'leave it out; `bias` gives each node a trainable bias',
    'symbolic_enabled': (
        'leave it out; no edge has a function until `fix` or `auto_symbolic` '
        'gives it one'),
    'sparse_init': 'leave it out; `prune_edges` removes edges after a fit',
    'seed': 'pass a key to `model.init`, such as jax.random.key(0)',
    'device': 'leave it out; JAX chooses the device',
    **dict.fromkeys(
        ('auto_save', 'ckpt_path', 'save_act', 'first_init', 'state_id',
         'round'), _NO_FILES),
}


def say_the_way(cls: _Class) -> _Class:
  """Makes a Flax class explain the mistakes of newcomers, in one line each.

  They are options of other libraries, a call without variables, and `apply`
  without variables.
  """
  old: Any = cls  # What Flax has made of it.
  init, call, apply = old.__init__, old.__call__, old.apply

  @functools.wraps(init)
  def checked_init(self: Any, *args: Any, **options: Any) -> None:
    _check_options(cls, options)
    init(self, *args, **options)

  @functools.wraps(call)
  def checked_call(self: Any, *args: Any, **kwargs: Any) -> Any:
    if self.scope is None:
      raise ValueError(
          f'a {cls.__name__} holds no parameters: first `variables = '
          'model.init(jax.random.key(0), x)`, then `model.apply(variables, '
          'x)` in place of `model(x)`.')
    return call(self, *args, **kwargs)

  @functools.wraps(apply)
  def checked_apply(
      self: Any, variables: Any = None, *args: Any, **kwargs: Any) -> Any:
    if not isinstance(variables, Mapping):
      raise ValueError(
          '`variables` come first: model.apply(variables, x), with those of '
          f'`model.init` or of a fit; got a {type(variables).__name__}.')
    return apply(self, variables, *args, **kwargs)

  replaced: dict[str, Callable[..., Any]] = {
      '__init__': checked_init, '__call__': checked_call,
      'apply': checked_apply}
  for name, method in replaced.items():
    setattr(cls, name, method)
  return cls


def _check_options(cls: type[Any], options: Mapping[str, Any]) -> None:
  """Raises a TypeError, as Python does, for options that there are not."""
  known = [field.name for field in dataclasses.fields(cls) if field.init]
  for name in options:
    if name not in known:
      has = ', '.join(k for k in known if k not in ('parent', 'name'))
      raise TypeError(
          f'{cls.__name__} has no option `{name}`: '
          f'{_ADVICE.get(name, f"it has {has}")}.')
