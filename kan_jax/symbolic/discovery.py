"""From data to a formula: tries shapes from simple to rich until one is exact.

The steps are those of arXiv 2404.19756, section 2.5.2; what its user does by
hand is done by the machine here. Each shape is fitted with splines. If the
splines fit, edges that do not matter are removed, the others get their
functions, and the numbers of these are refined. The search ends when a formula
is exact; otherwise the best one is returned.

Needs float64: under `jax.enable_x64(True)`, or with it switched on.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import html
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax import _progress
from kan_jax import checks
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
_ROWS = 50  # Least number of rows.
_ALIKE = 1.05  # Factor between errors that are as good as equal.
# Training rows up to which, on the first grid, a program takes longer to
# compile than to run, even if it was compiled quickly and runs slowly.
_FEW = 300
_NOISE = 0.1  # Part of the splines' error that no function needs to explain.


class Discovery(NamedTuple):
  """A formula and where it comes from.

  Attributes:
    expression: Formula in raw units, with the names that were given.
    error: Root mean square error of the expression on the test rows, in the
      units of y.
    relative: The same over the standard deviation of y there.
    model: Symbolic KAN, for inputs and outputs in the units of `scale`.
    variables: Its variables.
    splines: KAN and its variables before the edges got their functions.
    scale: What was subtracted from inputs and targets, and divided by.
  """
  expression: sympy.Expr
  error: float
  relative: float
  model: nn.Module
  variables: dict[str, Any]
  splines: tuple[nn.Module, dict[str, Any]]
  scale: 'Scale'

  def __repr__(self) -> str:
    formula = simplify.round_digits(self.expression, 6)
    return (f'{formula}\nRMSE {self.error:.2e} on test rows, '
            f'{self.relative:.2e} of their standard deviation\n'
            f'from a KAN of the shape {list(self.model.features)}')


  def _repr_html_(self) -> str:
    """The formula as mathematics, and how good it is, for notebooks."""
    formula, *rest = repr(self).split('\n')
    latex = html.escape(
        expressions.latex(simplify.round_digits(self.expression, 6)), False)
    return (f'<p title="{html.escape(formula)}">$\\displaystyle {latex}$</p>'
            f'<p>{html.escape(", ".join(rest))}</p>')


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


def default_shapes(inputs: int) -> list[Shape]:
  """Returns shapes of one output, from simple to rich.

  Pairs count nodes that add and nodes that multiply, see `KAN.features`.
  """
  return [[inputs, 1], [inputs, [0, 1]], [inputs, 1, 1], [inputs, 2, 1],
          [inputs, [0, 1], 1], [inputs, [1, 1], 1], [inputs, 2, 1, 1],
          [inputs, 5, 1]]


def discover(
    x: np.ndarray, y: np.ndarray, *, key: jax.Array,
    names: Sequence[str] | None = None, shapes: Sequence[Shape] | None = None,
    grids: Sequence[int] = (3, 10), steps: int = 60, restarts: int = 3,
    library: Sequence[functions.Function] = functions.LIBRARY,
    log: Callable[[str], None] = lambda line: None,
    progress: bool | str = True) -> Discovery:
  """Looks for a formula of y in x.

      with jax.enable_x64(True):
        discovery = discover(x, y, key=jax.random.key(0), names=['a', 'b'])

  The rows are shuffled. 60 % of them are for training, 20 % decide between the
  candidates, and 20 % only test the formula that is returned.

  Args:
    x: Inputs, [n, in], float64; no column is constant.
    y: Targets, [n], float64, not constant.
    key: Random key of the shuffle and the first parameters.
    names: Names of the inputs; x_0, x_1, ... by default.
    shapes: Shapes to be tried in this order, each as `KAN.features`; see
      `default_shapes`.
    grids: Numbers of intervals of the splines, increasing. The first decides
      whether a shape is worth the others.
    steps: Steps of Levenberg and Marquardt on each grid.
    restarts: Most first parameters that each shape gets.
    library: Functions that an edge may become.
    log: Function that takes a line about each attempt.
    progress: Whether a terminal or a notebook shows a bar; see `fit`.

  Raises:
    ValueError: If float64 is off, an argument is not what it says, or no shape
      led to a formula.
  """
  # Steps may leave the domain of a function; they are then taken back.
  with jax.debug_nans(False), jax.debug_infs(False):
    return _discover(
        *_check(x, y, names), key, names, shapes, tuple(grids), steps, restarts,
        tuple(library), log, progress)


def _discover(
    x: np.ndarray, y: np.ndarray, key: jax.Array, names: Sequence[str] | None,
    shapes: Sequence[Shape] | None, grids: tuple[int, ...], steps: int,
    restarts: int, library: tuple[functions.Function, ...],
    log: Callable[[str], None], progress: bool | str) -> Discovery:
  """Looks for a formula as `discover` does, with checked arguments."""
  order = np.asarray(jax.random.permutation(key, len(x)))
  train, held_out, test = np.split(order, [6 * len(x) // 10, 8 * len(x) // 10])
  scale = Scale((x.max(0) + x.min(0)) / 2, (x.max(0) - x.min(0)) / 2,
                float(y.std()))
  search = _Search(
      scale.data(x[train], y[train]), scale.data(x[held_out], y[held_out]), key,
      grids, steps, restarts, library, log, progress)
  write = functools.partial(
      _write, log, scale, names or [f'x_{i}' for i in range(x.shape[1])],
      (x[held_out], y[held_out]), (x[test], y[test]))
  written: list[_Formula] = []
  for splines in _candidates(search, shapes or default_shapes(x.shape[1])):
    written += write(splines, _close(search, splines))
    if written and written[-1].error < _EXACT:
      return written[-1].discovery
  if not written:
    raise ValueError(
        '`shapes` led to no formula: no library function is finite on all the '
        'values of some edge.')
  best = _best(written)
  if best.error > _ALIKE * best.splines.error:
    # What fits each edge best does not fit the whole.
    log('  trying functions by what the whole then loses')
    written += write(best.splines, _close(search, best.splines, by_loss=True))
  return _best(written).discovery


class _Fit(NamedTuple):
  """A fitted KAN and its relative error on the validation rows."""
  model: nn.Module
  variables: dict[str, Any]
  error: float


class _Formula(NamedTuple):
  """What was discovered, and how good it is on the validation rows."""
  discovery: Discovery
  splines: _Fit
  error: float  # Relative, as that of the splines.


def _best(written: Sequence[_Formula]) -> _Formula:
  """Returns the simplest of the formulas that are as good as the best."""
  least = min(formula.error for formula in written)
  return min((formula for formula in written
              if formula.error <= _ALIKE * least),
             key=lambda formula: formula.discovery.expression.count_ops())


class _Search(NamedTuple):
  """What stays the same in a search. Data are scaled."""
  train: tuple[jax.Array, jax.Array]
  validation: tuple[jax.Array, jax.Array]
  key: jax.Array
  grids: tuple[int, ...]
  steps: int
  restarts: int
  library: tuple[functions.Function, ...]
  log: Callable[[str], None]
  progress: bool | str

  def fit(self, model, variables, name, **options) -> _Fit:
    """Fits by least squares; the best on the validation rows counts."""
    fitted = _fit(
        model, variables, *self.train, validation=self.validation,
        compiler_options=self.compiler_options(model, **options),
        progress=_progress.name_part(self.progress, name),
        **{'steps': self.steps, 'patience': self.steps, 'log_every': 5} |
        options)
    loss = fitted.history['validation_loss'].min()
    return _Fit(fitted.model, fitted.variables, float(loss)**0.5)

  def compiler_options(
      self, model, refine=(), **unused) -> dict[str, bool | int]:
    """Returns quick options for a program that will not run for long."""
    few = len(self.train[0]) <= _FEW
    return compiling.QUICK if few and not refine and (
        model.grid == self.grids[0]) else compiling.OLDER_CPU


def _candidates(search: _Search, shapes: Sequence[Shape]) -> Iterator[_Fit]:
  """Yields the fitted KANs that fit well; at the end the best of the others."""
  others = []
  for shape in shapes:
    coarse = _fit_shape(search, shape)
    search.log(f'{list(shape)}: splines, relative error {coarse.error:.1e}')
    fine = coarse
    if coarse.error < _COARSE:
      fine = search.fit(coarse.model, coarse.variables, f'{list(shape)}',
                        refine=search.grids, update_steps=())
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
      shape, grid=search.grids[0], param_dtype=jnp.float64)
  init = jax.jit(model.init, compiler_options=compiling.QUICK)
  best: _Fit | None = None
  for k in range(search.restarts):
    variables = init(jax.random.fold_in(search.key, k), search.train[0])
    fitted = search.fit(
        model, variables, f'{list(shape)}, start {k + 1}',
        update_steps=range(0, search.steps // 2, 5))
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
      'library': search.library, 'progress': search.progress,
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
    search.log('  no formula: some edge is no function of the library')
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
    log: Callable[[str], None], scale: Scale, names: Sequence[str],
    held_out: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray], splines: _Fit,
    closed: _Fit | None) -> list[_Formula]:
  """Writes a formula down, tidies it and tests it; returns one or none."""
  if closed is None:
    return []

  def error(expression, x, y):
    values = expressions.lambdify([expression], names)(x)[:, 0]
    return float(np.sqrt(np.mean(np.square(values - y))))

  raw = formulas.formula(
      closed.model, closed.variables, names=names, **scale._asdict())[0]
  allowed = max(0.01 * error(raw, *held_out), 1e-10 * scale.output_std)
  tidy = simplify.tidy(raw, names, held_out[0], allowed)
  relative = error(tidy, *held_out) / scale.output_std
  short = simplify.round_digits(tidy, 4, names, held_out[0])
  log(f'  formula, relative error {relative:.1e}: {short}')
  on_test = error(tidy, *test)
  discovery = Discovery(
      tidy, on_test, on_test / float(test[1].std()), closed.model,
      closed.variables, splines[:2], scale)
  return [_Formula(discovery, splines, relative)]


def _check(
    x: np.ndarray, y: np.ndarray,
    names: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
  """Returns the data in float64; raises a ValueError for what has no formula.
  """
  if jnp.zeros(()).dtype != jnp.float64:
    raise ValueError(
        'float64 is off; call it under `jax.enable_x64(True)`.')
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  if x.ndim != 2 or y.shape != x.shape[:1] or len(x) < _ROWS:
    raise ValueError(
        f'`x` and `y` need the shapes [n, in] and [n] with n >= {_ROWS}; got '
        f'{x.shape} and {y.shape}.')
  checks.check_rows('x', x)
  checks.check_rows('y', y)
  constant = np.flatnonzero(x.max(0) == x.min(0))
  if len(constant) or y.max() == y.min():
    which = f'column {constant[0]} of `x`' if len(constant) else '`y`'
    raise ValueError(f'{which} is constant; leave it out.')
  if names is not None and not (
      len(names) == len(set(names)) == x.shape[1]):
    raise ValueError(
        f'`names` has another name for each of the {x.shape[1]} inputs; got '
        f'{list(names)}.')
  return x, y
