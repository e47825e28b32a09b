"""Optimizers as objects: what `fit` asks of one, and three that do it.

`LBFGS` and `LevenbergMarquardt` evaluate the loss more than once a step, on all
rows. Any optax transform becomes an `OptaxTransform`.
"""

from collections.abc import Callable
import dataclasses
import math
from typing import Any
from typing import ClassVar
from typing import NamedTuple
from typing import Protocol
from typing import runtime_checkable

from flax import linen as nn
import jax
import jax.numpy as jnp
import optax

from kan_jax import checks
from kan_jax.layers import edits
from kan_jax.training import levenberg_marquardt
from kan_jax.training import refinement
from kan_jax.training import train_steps

MakeResiduals = Callable[[nn.Module], levenberg_marquardt.Residuals]


def squared_error(outputs: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the mean square of each row's errors, [n]."""
  return jnp.square(outputs - y).reshape(len(outputs), -1).mean(1)


class Loss(NamedTuple):
  """What a fit minimizes; hashable.

  Attributes:
    loss_fn: Function of outputs and targets that returns the loss of each row.
    penalty: Penalty on edges; see `training.make_objective`.
    lamb: Weight of the penalty.
  """
  loss_fn: train_steps.LossFn
  penalty: train_steps.PenaltyFn
  lamb: float


@runtime_checkable
class Optimizer(Protocol):
  """What `fit` asks of an optimizer.

  An optimizer is hashable and equal to others with the same options, since a
  program is compiled for each. Its state is a pytree of arrays, the field
  `opt_state` of a `TrainState`.
  """

  @property
  def all_rows(self) -> bool:
    """Whether a step needs all rows, so that there are no batches."""

  @property
  def tolerance(self) -> float:
    """Part of the loss, in [0, 1), by which the history must go on falling.

    A grid of `refine` ends early once an entry of the history is lower than the
    entry before it by less than this part. Entries up to the last grid update
    are not compared. 0 takes all steps.
    """

  def init(self, params: Any) -> Any:
    """Returns the first state.

    Raises:
      ValueError: If the optimizer does not suit the parameters.
    """

  def make_objective(
      self, model: nn.Module, loss: Loss) -> train_steps.Objective:
    """Returns what is minimized; see `training.make_objective`.

    Raises:
      ValueError: If the optimizer cannot minimize the loss.
    """

  def make_step(self, model: nn.Module, loss: Loss) -> train_steps.Step:
    """Returns a pure step; see `training.make_train_step`."""

  def restart(self, opt_state: Any, params: Any) -> Any:
    """Returns the state after a grid update, which changed coefficients."""

  def refine(
      self, model: nn.Module, state: train_steps.TrainState,
      grid: int) -> tuple[nn.Module, train_steps.TrainState]:
    """Returns the model with `grid` intervals, and its state."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _AllRows:
  """Options and methods of the optimizers that need all rows."""
  frozen: tuple[str, ...] = ()
  tolerance: float = 0.0
  all_rows: ClassVar[bool] = True

  def __post_init__(self):
    # A list would not be hashable, and programs are kept by optimizer.
    object.__setattr__(self, 'frozen', tuple(self.frozen))
    _check_tolerance(self.tolerance)

  def init(self, params: Any) -> Any:
    raise NotImplementedError

  def restart(self, opt_state: Any, params: Any) -> Any:
    raise NotImplementedError

  def refine(
      self, model: nn.Module, state: train_steps.TrainState,
      grid: int) -> tuple[nn.Module, train_steps.TrainState]:
    return _refine_and_restart(self, model, state, grid)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LBFGS(_AllRows):
  """L-BFGS with a line search (`optax.lbfgs`), for any loss on all rows.

  It forgets its curvature after a grid update and a refinement.

  Attributes:
    memory_size: Number of steps that the curvature is estimated from, >= 1.
    frozen: Names of parameters, such as 'scale_base', that stay as they are.
    tolerance: Part of the loss, in [0, 1). A grid of `refine` ends early once
      an entry of the history, after the last grid update, is lower than the
      entry before it by less than this part. 0 takes all steps.

  Raises:
    ValueError: If an option is out of its range.
  """
  memory_size: int = 10

  def __post_init__(self):
    super().__post_init__()
    checks.check_whole('memory_size', self.memory_size, 1)

  def _transform(self) -> optax.GradientTransformation:
    return optax.lbfgs(memory_size=self.memory_size)

  def init(self, params: Any) -> optax.OptState:
    _check_frozen(self.frozen, params)
    return _init(self._transform(), params)

  def make_objective(
      self, model: nn.Module, loss: Loss) -> train_steps.Objective:
    return _freeze(self.frozen, train_steps.make_objective(model, *loss))

  def make_step(self, model: nn.Module, loss: Loss) -> train_steps.Step:
    # All rows at each step: the line search may keep value and gradient of its
    # last point for the next step.
    return train_steps.make_train_step(
        self.make_objective(model, loss), self._transform(), same_batch=True)

  def restart(self, opt_state: optax.OptState, params: Any) -> optax.OptState:
    # Differences of gradients from before and after would be no curvature.
    return self.init(params)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(_AllRows):
  """Levenberg-Marquardt, for squared errors without penalty on all rows.

  For networks of up to about a thousand parameters, at its best in float64; see
  `levenberg_marquardt`.

  Attributes:
    smooth: Weight of the roughness of B-splines, >= 0, for targets of about 1.
      About 1e-14 keeps the ends of fine grids from following single samples,
      and lets them have more coefficients than there are rows. On uniform
      grids, as of `GridUpdate(eps=1)`, it costs smooth functions nothing. On
      others it does, since it takes all intervals to be equal: there, 0.
    residuals: Function of the model that returns a function of params, the
      collection `grid`, x and y; that one returns what each row leaves,
      [n, ...], which is squared and averaged. Outputs minus targets by default.
    frozen: Names of parameters, such as 'scale_base', that stay as they are.
    tolerance: Part of the loss, in [0, 1). A grid of `refine` ends early once
      an entry of the history, after the last grid update, is lower than the
      entry before it by less than this part. 0 takes all steps.

  Raises:
    ValueError: If an option is out of its range.
  """
  smooth: float = 0.0
  residuals: MakeResiduals = dataclasses.field(
      default=levenberg_marquardt.model_residuals, repr=False)

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.smooth < math.inf:
      raise ValueError(
          f'`smooth` is a weight, finite and >= 0; got {self.smooth!r}.')

  def init(self, params: Any) -> jax.Array:
    _check_frozen(self.frozen, params)
    return levenberg_marquardt.init(jnp.result_type(*jax.tree.leaves(params)))

  def make_objective(
      self, model: nn.Module, loss: Loss) -> train_steps.Objective:
    residuals = self._residuals(model, loss)

    def objective(*args):
      value = jnp.square(residuals(*args)).mean()
      return value, {'loss': value, 'penalty': jnp.zeros_like(value)}

    return objective

  def make_step(self, model: nn.Module, loss: Loss) -> train_steps.Step:
    return levenberg_marquardt.make_step(
        self._residuals(model, loss), smooth=self.smooth)

  def restart(self, opt_state: jax.Array, params: Any) -> jax.Array:
    return levenberg_marquardt.restart(opt_state)

  def _residuals(
      self, model: nn.Module, loss: Loss) -> levenberg_marquardt.Residuals:
    if loss.lamb or loss.loss_fn is not squared_error:
      raise ValueError(
          '`optimizer` LevenbergMarquardt minimizes squared errors alone; it '
          'takes neither `loss_fn` nor `lamb`. Use LBFGS().')
    basis = edits.basis_of(model)
    if self.smooth and basis != 'bspline':
      raise ValueError(
          '`smooth` is the weight of the roughness of B-splines; a model with '
          f'the `basis` {basis!r} needs 0, got {self.smooth!r}.')
    return _freeze(self.frozen, self.residuals(model))


@dataclasses.dataclass(frozen=True)
class OptaxTransform:
  """Any optax transform; `fit` makes one of what it is given.

  Also a transform that needs the loss and its gradient, such as a line search
  or `optax.contrib.reduce_on_plateau`. After a grid update and a refinement,
  L-BFGS forgets its curvature; other transforms go on with what they keep. If a
  part of that has no counterpart on the finer grid, as the factors of large
  arrays in Adafactor, they begin anew there.

  To freeze parameters, chain optax's own freeze:

    frozen = jax.tree.map_with_path(
        lambda path, _: path[-1].key == 'scale_base', variables['params'])
    tx = optax.chain(optax.adam(1e-3), optax.freeze(frozen))

  Attributes:
    tx: The transform.
    tolerance: See `LBFGS`; for losses without batches.

  Raises:
    ValueError: If `tolerance` is out of its range.
  """
  tx: optax.GradientTransformation
  tolerance: float = 0.0
  all_rows: ClassVar[bool] = False

  def __post_init__(self):
    _check_tolerance(self.tolerance)

  def __repr__(self):
    # A transform's own is a page of functions and addresses.
    return f'OptaxTransform({type(self.tx).__name__}, {self.tolerance})'

  def init(self, params: Any) -> optax.OptState:
    return _init(self.tx, params)

  def make_objective(
      self, model: nn.Module, loss: Loss) -> train_steps.Objective:
    return train_steps.make_objective(model, *loss)

  def make_step(self, model: nn.Module, loss: Loss) -> train_steps.Step:
    return train_steps.make_train_step(
        self.make_objective(model, loss), self.tx)

  def restart(self, opt_state: optax.OptState, params: Any) -> optax.OptState:
    return self.init(params) if _has_curvature(opt_state) else opt_state

  def refine(
      self, model: nn.Module, state: train_steps.TrainState,
      grid: int) -> tuple[nn.Module, train_steps.TrainState]:
    # Moments belong to a coefficient and go along with it; a history of steps
    # does not.
    if _has_curvature(state.opt_state):
      return _refine_and_restart(self, model, state, grid)
    try:
      return refinement.refine_state(model, state, grid, self.tx)
    except refinement.CarryOverError:
      model, variables = edits.refine(model, state.variables, grid)
      return model, state.replace(
          params=variables['params'], grid=variables['grid'],
          opt_state=self.init(variables['params']))


def as_optimizer(
    optimizer: Optimizer | optax.GradientTransformation) -> Optimizer:
  """Returns an `Optimizer`; raises a ValueError for what is none."""
  if isinstance(optimizer, optax.GradientTransformation):
    return OptaxTransform(optimizer)
  # The class in place of an object, LBFGS for LBFGS(), has all the methods.
  if isinstance(optimizer, type) or not isinstance(optimizer, Optimizer):
    raise ValueError(
        '`optimizer` is LBFGS(), LevenbergMarquardt() (both in '
        '`kan_jax.training`) or an optax transform such as optax.adam(1e-3); '
        f'got {optimizer!r}.')
  return optimizer


def _init(
    tx: optax.GradientTransformation, params: Any) -> optax.OptState:
  """Returns the first state of a transform, in the types of later ones.

  optax's L-BFGS begins with numbers of weak type and goes on without: every
  program that takes its state would be compiled twice.
  """
  return jax.tree.map(
      lambda leaf: jnp.asarray(leaf, leaf.dtype)
      if getattr(leaf, 'weak_type', False) else leaf, tx.init(params))


def _refine_and_restart(
    optimizer: Optimizer | _AllRows, model: nn.Module,
    state: train_steps.TrainState,
    grid: int) -> tuple[nn.Module, train_steps.TrainState]:
  """Refines model and variables; the optimizer restarts."""
  model, variables = edits.refine(model, state.variables, grid)
  return model, state.replace(
      params=variables['params'], grid=variables['grid'],
      opt_state=optimizer.restart(state.opt_state, variables['params']))


def _has_curvature(opt_state: optax.OptState) -> bool:
  """Whether L-BFGS is part of an optax transform, by its state."""
  def is_memory(node):
    return isinstance(node, optax.ScaleByLBFGSState)

  return any(map(is_memory, jax.tree.leaves(opt_state, is_leaf=is_memory)))


def _freeze(frozen: tuple[str, ...], fn: Callable) -> Callable:
  """Makes a function of params and more have no gradient in some of them."""
  def without_gradient(params, *args):
    return fn(jax.tree.map_with_path(
        lambda path, leaf: (
            jax.lax.stop_gradient(leaf) if path[-1].key in frozen else leaf),
        params), *args)

  return without_gradient if frozen else fn


def _check_frozen(frozen: tuple[str, ...], params: Any) -> None:
  names = {path[-1].key for path, _ in (
      jax.tree_util.tree_leaves_with_path(params))}
  if not names.issuperset(frozen):
    raise ValueError(
        f'`frozen` names parameters, of {", ".join(sorted(names))}; got '
        f'{frozen!r}.')


def _check_tolerance(tolerance: float) -> None:
  if not 0 <= tolerance < 1:
    raise ValueError(f'`tolerance` lies in [0, 1); got {tolerance!r}.')
