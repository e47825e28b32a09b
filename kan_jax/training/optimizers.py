"""What a fit minimizes, and the step that its optimizer takes.

An optimizer of one's own is an optax transform; 'lbfgs' and 'lm' need a step
each, since both evaluate the loss more than once.
"""

from collections.abc import Callable
import math
from typing import Any
from typing import Literal
from typing import NamedTuple
from typing import TypeAlias

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import optax

from kan_jax.training import levenberg_marquardt
from kan_jax.training import train_steps

Optimizer: TypeAlias = Literal['lbfgs', 'lm'] | optax.GradientTransformation
MakeResiduals = Callable[[nn.Module], levenberg_marquardt.Residuals]


class Task(NamedTuple):
  """What a compiled program depends on besides the model; see `fitting.fit`.
  """
  optimizer: Optimizer
  loss_fn: train_steps.LossFn
  penalty: train_steps.PenaltyFn
  lamb: float
  frozen: tuple[str, ...]
  smooth: float
  residuals: MakeResiduals


def squared_error(outputs: jax.Array, y: jax.Array) -> jax.Array:
  """Returns the mean square of each row's errors, [n]."""
  return jnp.square(outputs - y).reshape(len(outputs), -1).mean(1)


def start(task: Task, params: Any) -> Any:
  """Returns the first state of the optimizer."""
  if task.optimizer == 'lm':
    return levenberg_marquardt.init(jnp.result_type(*jax.tree.leaves(params)))
  tx = optax.lbfgs() if task.optimizer == 'lbfgs' else task.optimizer
  return tx.init(params)


def make_objective(model: nn.Module, task: Task) -> train_steps.Objective:
  """Returns what is minimized, but for `smooth`; frozen parameters hold."""
  if task.optimizer != 'lm':
    return _hold(task.frozen, train_steps.make_objective(
        model, task.loss_fn, task.penalty, task.lamb))
  residuals = _hold(task.frozen, task.residuals(model))

  def objective(*args):
    loss = jnp.square(residuals(*args)).mean()
    return loss, {'loss': loss, 'penalty': jnp.zeros_like(loss)}

  return objective


def make_step(model: nn.Module, task: Task) -> train_steps.Step:
  """Returns a step of the optimizer; frozen parameters stay as they are."""
  if task.optimizer == 'lm':
    return levenberg_marquardt.make_step(
        _hold(task.frozen, task.residuals(model)), smooth=task.smooth)
  objective = make_objective(model, task)
  if task.optimizer == 'lbfgs':
    return train_steps.make_lbfgs_step(objective, optax.lbfgs())
  step = train_steps.make_train_step(objective, task.optimizer)

  def held_step(state, batch):  # Some transforms move what has no gradient.
    new, metrics = step(state, batch)
    return new.replace(params=_where_frozen(
        task.frozen, lambda old, _: old, state.params, new.params)), metrics

  return held_step if task.frozen else step


def _hold(frozen: tuple[str, ...], fn: Callable) -> Callable:
  """A function of params and more, without gradient for some of them."""
  def held(params, *args):
    return fn(_where_frozen(frozen, jax.lax.stop_gradient, params), *args)

  return held if frozen else fn


def _where_frozen(
    frozen: tuple[str, ...], fn: Callable, *params: Any) -> Any:
  """Replaces the frozen ones of the last params by `fn` of all of them."""
  return jax.tree.map_with_path(
      lambda path, *leaves: (
          fn(*leaves) if path[-1].key in frozen else leaves[-1]), *params)


def check(
    task: Task, params: Any, batch_size: int | None,
    tolerance: float) -> None:
  """Raises a ValueError for an optimizer or an option that does not fit."""
  name = task.optimizer
  if name not in ('lbfgs', 'lm') and not isinstance(
      name, optax.GradientTransformation):
    raise ValueError(
        f"`optimizer` is 'lbfgs', 'lm' or an optax transform; got {name!r}.")
  if not (math.isfinite(task.lamb) and task.lamb >= 0):
    raise ValueError(f'`lamb` is a weight >= 0; got {task.lamb!r}.')
  if isinstance(name, str) and batch_size is not None:
    raise ValueError(
        f"`batch_size` is for optax transforms; '{name}' needs all rows.")
  if not (0 <= task.smooth < math.inf) or (task.smooth and name != 'lm'):
    raise ValueError(
        f"`smooth` is a weight >= 0, and 0 but for 'lm'; got {task.smooth!r}.")
  if not 0 <= tolerance < 1:
    raise ValueError(f'`tolerance` lies in [0, 1); got {tolerance!r}.')
  if name != 'lm' and task.residuals is not levenberg_marquardt.model_residuals:
    raise ValueError(f"`residuals` are for the optimizer 'lm'; got {name!r}.")
  if name == 'lm' and (task.lamb or task.loss_fn is not squared_error):
    raise ValueError(
        "`optimizer` 'lm' minimizes squared errors alone; it takes neither "
        "`loss_fn` nor `lamb`. Use 'lbfgs'.")
  names = {path[-1] for path in traverse_util.flatten_dict(params)}
  if not names.issuperset(task.frozen):
    raise ValueError(
        f'`frozen` names parameters, of {", ".join(sorted(names))}; got '
        f'{task.frozen!r}.')
