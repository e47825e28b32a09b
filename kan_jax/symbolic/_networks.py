"""Formulas by networks: shapes from simple to rich until one is exact.

The steps are those of arXiv 2404.19756, section 2.5.2; what its user does by
hand is done by the machine here.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import time
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax import _progress
from kan_jax import compiling
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.pruning import prune
from kan_jax.symbolic import expressions
from kan_jax.symbolic import formulas
from kan_jax.symbolic import matching
from kan_jax.symbolic import matching_by_loss
from kan_jax.symbolic import simplify
from kan_jax.training import fitting
from kan_jax.training import optimizers

Shape = Sequence[int | Sequence[int]]
_fit = functools.partial(
    fitting.fit, optimizer=optimizers.LevenbergMarquardt())

# Relative errors: of a formula that needs no better one, of splines on the
# first grid that are worth finer ones, of splines on the last grid that are
# worth a formula at once.
_EXACT, _COARSE, _FINE = 1e-9, 0.1, 0.003
_PRUNE = 0.3, 0.1, 0.03, 0.01, 0.003  # Thresholds for edges, one after another.
_ALIKE = 1.05  # Factor between errors that are as good as equal.
# Training rows up to which, on the first grid, a program takes longer to
# compile than to run, even if it was compiled quickly and runs slowly.
_FEW = 300
_NOISE = 0.1  # Part of the splines' error that no function needs to explain.


class Scale(NamedTuple):
  """Units in which the KAN is fitted.

  Inputs go to [-1, 1]. Targets are divided but not shifted: a product has no
  bias that would shift it back.

  Attributes:
    input_mean: Middle of each input's range, [in].
    input_std: Half the width of the range, [in].
    output_std: Standard deviation of the targets.
  """
  input_mean: np.ndarray
  input_std: np.ndarray
  output_std: float

  def data(self, x: np.ndarray, y: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """Scales inputs [n, in] and targets [n], which become [n, 1]."""
    return (jnp.asarray((x - self.input_mean) / self.input_std),
            jnp.asarray(y / self.output_std)[:, None])


class Data(NamedTuple):
  """Rows, and which of them are for what.

  Attributes:
    x: Inputs, [n, in].
    y: Targets, [n].
    names: Names of the inputs.
    train: Numbers of the rows to fit.
    held_out: Numbers of the rows that decide.
    test: Numbers of the rows that only test.
  """
  x: np.ndarray
  y: np.ndarray
  names: tuple[str, ...]
  train: np.ndarray
  held_out: np.ndarray
  test: np.ndarray

  def scale(self) -> Scale:
    """Returns the units of all rows."""
    low, high = self.x.min(0), self.x.max(0)
    return Scale((high + low) / 2, (high - low) / 2, float(self.y.std()))

  def rows(self, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns inputs and targets of some rows."""
    return self.x[part], self.y[part]

  def error(self, expression: sympy.Expr, part: np.ndarray) -> float:
    """Returns the root mean square error of an expression on some rows."""
    x, y = self.rows(part)
    values = expressions.lambdify([expression], self.names)(x)[:, 0]
    return float(np.sqrt(np.mean(np.square(values - y))))


class Options(NamedTuple):
  """What a search by networks may do; see `discovery.discover`.

  `strict` says that the time ends fits, too, since there is a formula already.
  Else the first one is written in any case.
  """
  key: jax.Array
  grids: tuple[int, ...]
  steps: int
  restarts: int
  library: tuple[functions.Function, ...]
  log: Callable[[str], None]
  progress: bool | str
  deadline: float = np.inf
  strict: bool = False

  def check_time(self, entry: fitting.LogEntry | None = None) -> None:
    """Raises an error where the time is over, as a callback of a fit may."""
    del entry
    if self.strict and time.monotonic() > self.deadline:
      raise TimeOverError


class TimeOverError(Exception):
  """The time is over."""


class Written(NamedTuple):
  """A formula of a network.

  Attributes:
    expression: Formula in raw units.
    error: Relative error on the rows that decide.
    model: Symbolic KAN.
    variables: Its variables.
    splines: The network before its edges got functions.
  """
  expression: sympy.Expr
  error: float
  model: nn.Module
  variables: dict[str, Any]
  splines: '_Fit'


def search(
    data: Data, shapes: Sequence[Shape], options: Options) -> Written | None:
  """Returns the best formula that networks of some shapes lead to, if any."""
  scale = data.scale()
  state = _Search(
      scale.data(*data.rows(data.train)), scale.data(*data.rows(data.held_out)),
      options)
  written: list[Written] = []
  try:
    options.check_time()
    for splines in _candidates(state, shapes):
      written += _write(data, state, splines, _close(state, splines))
      if written and written[-1].error < _EXACT:
        return written[-1]
    if written and time.monotonic() < options.deadline:
      written += _try_by_loss(data, state, _best(written))
  except KeyboardInterrupt:
    if not written:
      raise
    options.log('interrupted: the best formula so far')
  except TimeOverError:
    options.log('the time is over: the best formula so far')
  return _best(written) if written else None


def _try_by_loss(data: Data, state: '_Search', best: Written) -> list[Written]:
  """Closes a network another way, if its formula lost much of its quality."""
  if best.error <= _ALIKE * best.splines.error:
    return []
  # What fits each edge best does not fit the whole.
  state.options.log('  trying functions by what the whole then loses')
  return _write(data, state, best.splines,
                _close(state, best.splines, by_loss=True))


class _Fit(NamedTuple):
  """A fitted KAN and its relative error on the validation rows."""
  model: nn.Module
  variables: dict[str, Any]
  error: float


def _best(written: Sequence[Written]) -> Written:
  """Returns the simplest of the formulas that are as good as the best."""
  least = min(formula.error for formula in written)
  return min((formula for formula in written
              if formula.error <= _ALIKE * least),
             key=lambda formula: formula.expression.count_ops())


class _Search(NamedTuple):
  """What stays the same in a search. Data are scaled."""
  train: tuple[jax.Array, jax.Array]
  validation: tuple[jax.Array, jax.Array]
  options: Options

  def fit(self, model, variables, name, **options) -> _Fit:
    """Fits by least squares; the best on the validation rows counts."""
    fitted = _fit(
        model, variables, *self.train, validation=self.validation,
        compiler_options=self.compiler_options(model, **options),
        progress=_progress.name_part(self.options.progress, name),
        callback=self.options.check_time if self.options.strict else None,
        **dict.fromkeys(('steps', 'patience'), self.options.steps) |
        {'log_every': 5} | options)
    loss = fitted.history['validation_loss'].min()
    return _Fit(fitted.model, fitted.variables, float(loss)**0.5)

  def compiler_options(
      self, model, refine=(), **unused) -> dict[str, bool | int]:
    """Returns quick options for a program that will not run for long."""
    few = len(self.train[0]) <= _FEW
    return compiling.QUICK if few and not refine and (
        model.grid == self.options.grids[0]) else compiling.OLDER_CPU


def _candidates(
    search: _Search, shapes: Sequence[Shape]) -> Iterator[_Fit]:
  """Yields the fitted KANs that fit well; at the end the best of the others."""
  others = []
  for shape in shapes:
    if time.monotonic() > search.options.deadline:
      break
    coarse = _fit_shape(search, shape)
    search.options.log(
        f'{list(shape)}: splines, relative error {coarse.error:.1e}')
    fine = coarse
    if coarse.error < _COARSE:
      fine = search.fit(coarse.model, coarse.variables, f'{list(shape)}',
                        refine=search.options.grids, update_steps=())
    if fine.error < _FINE:
      yield _prune(search, fine)
    else:
      others.append(coarse)
  if others:
    least = min(fit.error for fit in others)
    yield _prune(search, next(
        fit for fit in others if fit.error <= _ALIKE * least))


def _fit_shape(search: _Search, shape: Shape) -> _Fit:
  """Fits one shape from some starts on the first grid; returns the best."""
  model = linen.KAN(
      shape, grid=search.options.grids[0], param_dtype=jnp.float64)
  init = jax.jit(model.init, compiler_options=compiling.QUICK)
  best: _Fit | None = None
  for k in range(search.options.restarts):
    variables = init(jax.random.fold_in(search.options.key, k), search.train[0])
    fitted = search.fit(
        model, variables, f'{list(shape)}, start {k + 1}',
        update_steps=range(0, search.options.steps // 2, 5))
    if best is None or fitted.error < best.error:
      best = fitted
    if best.error < _COARSE:
      break
  assert best is not None
  return best


def _close(
    search: _Search, splines: _Fit, by_loss: bool = False) -> _Fit | None:
  """Gives every edge a function and refines all numbers.

  Returns:
    The fit; None if some edge is no function of the library.
  """
  options: dict[str, Any] = {
      'library': search.options.library, 'progress': search.options.progress,
      'floor': max(1e-5, _NOISE * splines.error**2)}
  if by_loss:
    closed = matching_by_loss.auto_symbolic_by_loss(
        splines.model, splines.variables, *search.train,
        optimizer=optimizers.LevenbergMarquardt(),
        compiler_options=search.compiler_options(splines.model), **options)
  else:
    closed = matching.auto_symbolic(
        splines.model, splines.variables, search.train[0], **options)
  model, variables, report = closed
  if not all(choice.fixed for choice in report):
    search.options.log('  no formula: some edge is no function of the library')
    return None
  return search.fit(
      model, variables, 'numbers of the formula', update_steps=())


def _prune(search: _Search, fit: _Fit) -> _Fit:
  """Removes edges and nodes as long as the others make up for them."""
  for threshold in _PRUNE:
    model, variables, report = prune.prune_edges(
        fit.model, fit.variables, search.train[0], threshold=threshold)
    if not report.removed_edges or not report.edges:
      continue
    if len(model.features) > 2:
      model, variables, _ = prune.prune_nodes(
          model, variables, search.train[0], threshold=0)
    tuned = search.fit(
        model, variables, f'{report.edges} edges left', update_steps=())
    if tuned.error <= _ALIKE * fit.error:
      fit = tuned
  return fit


def _write(
    data: Data, search: _Search, splines: _Fit,
    closed: _Fit | None) -> list[Written]:
  """Writes a formula down and tidies it; returns one or none."""
  if closed is None:
    return []
  scale = data.scale()
  raw = formulas.formula(
      closed.model, closed.variables, names=data.names, **scale._asdict())[0]
  x, _ = data.rows(data.held_out)
  allowed = max(0.01 * data.error(raw, data.held_out), 1e-10 * scale.output_std)
  tidy = simplify.tidy(raw, data.names, x, allowed)
  relative = data.error(tidy, data.held_out) / scale.output_std
  short = simplify.round_digits(tidy, 4, data.names, x)
  search.options.log(f'  formula, relative error {relative:.1e}: {short}')
  return [Written(tidy, relative, closed.model, closed.variables, splines)]
