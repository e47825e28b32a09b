"""From data to a formula: by structure first, then by networks.

The search by structure takes seconds, see `by_structure`. Where it does not
reach the noise, networks are tried from simple to rich. The steps are those of
arXiv 2404.19756, section 2.5.2; what its user does by hand is done by the
machine here. Each shape is fitted with splines. If the splines fit, edges that
do not matter are removed, the others get their functions, and the numbers of
these are refined. The search ends when a formula is exact; otherwise the best
one is returned.

Needs float64: under `jax.enable_x64(True)`, or with it switched on.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import html
import time
import types
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import sympy

from kan_jax import checks
from kan_jax.layers import functions
from kan_jax.symbolic import _networks
from kan_jax.symbolic import by_structure
from kan_jax.symbolic import expressions
from kan_jax.symbolic import simplify

Shape = _networks.Shape
Scale = _networks.Scale

_ROWS = 50  # Least number of rows.
_EXACT = 1e-9  # Relative error of formulas whose numbers are not in doubt.
_STRUCTURE = 0.6  # Part of the time for the search by structure.
_BETTER = 0.95  # Factor of the error that makes a network's formula better.


class Discovery(NamedTuple):
  """A formula and where it comes from.

  Attributes:
    expression: Formula in raw units, with the names that were given.
    error: Root mean square error of the expression on the test rows, in the
      units of y.
    relative: The same over the standard deviation of y there.
    model: Symbolic KAN, for inputs and outputs in the units of `scale`; None
      where the formula was found without a network.
    variables: Its variables.
    splines: KAN and its variables before the edges got their functions.
    scale: What was subtracted from inputs and targets, and divided by.
    front: Formulas that no other one beats in both size and error, the
      shortest first. The one chosen has the shortest description: bits for its
      errors on the rows that decide, and bits for its operations.
    deviations: Standard errors of the numbers in `expression`, by number.
  """
  expression: sympy.Expr
  error: float
  relative: float
  model: nn.Module | None
  variables: dict[str, Any] | None
  splines: tuple[nn.Module, dict[str, Any]] | None
  scale: Scale
  front: tuple[by_structure.Formula, ...] = ()
  deviations: Mapping[sympy.Float, float] = types.MappingProxyType({})

  def __repr__(self) -> str:
    formula = simplify.round_digits(self.expression, 6)
    known = ''
    if self.deviations and self.relative > _EXACT:
      formula, known = by_structure.write_numbers(
          self.expression, self.deviations)
    source = 'by structure' if self.model is None else (
        f'from a KAN of the shape {list(self.model.features)}')
    return (f'{formula}\nRMSE {self.error:.2e} on test rows, '
            f'{self.relative:.2e} of their standard deviation\n{source}'
            + (f'\nwith {known}' if known else ''))

  def _repr_html_(self) -> str:
    """The formula as mathematics, and how good it is, for notebooks."""
    formula, *rest = repr(self).split('\n')
    latex = html.escape(
        expressions.latex(simplify.round_digits(self.expression, 6)), False)
    return (f'<p title="{html.escape(formula)}">$\\displaystyle {latex}$</p>'
            f'<p>{html.escape(", ".join(rest))}</p>')


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
    time_limit: float | None = None,
    units: Mapping[str, str] | None = None, target_unit: str | None = None,
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
    shapes: Shapes to be tried in this order, each as `KAN.features`. If given,
      only networks of these shapes are tried. By default the search by
      structure comes first, see `find_law`, and the shapes are those of
      `default_shapes`.
    grids: Numbers of intervals of the splines, increasing. The first decides
      whether a shape is worth the others.
    steps: Steps of Levenberg and Marquardt on each grid.
    restarts: Most first parameters that each shape gets.
    library: Functions that an edge may become.
    log: Function that takes a line about each attempt.
    time_limit: Seconds after which no further attempt begins; the best formula
      so far is returned. Ctrl-C does the same at once, where there is one.
    units: Unit of each input by name; see `find_law`. Networks know no units,
      so that none are tried then.
    target_unit: Unit of the target. Needed with `units`.
    progress: Whether a terminal or a notebook shows a bar; see `fit`.

  Raises:
    ValueError: If float64 is off, an argument is not what it says, or no shape
      led to a formula.
  """
  # Steps may leave the domain of a function; they are then taken back.
  with jax.debug_nans(False), jax.debug_infs(False):
    x, y = _check(x, y, names)
    order = np.asarray(jax.random.permutation(key, len(x)))
    data = _networks.Data(
        x, y, tuple(names or [f'x_{i}' for i in range(x.shape[1])]),
        *np.split(order, [6 * len(x) // 10, 8 * len(x) // 10]))
    limit = np.inf if time_limit is None else time_limit
    options = _networks.Options(
        key, tuple(grids), steps, restarts, tuple(library), log,
        progress, time.monotonic() + limit)
    if units is None:
      return _discover(data, shapes, options, time_limit)
    if shapes is not None:
      raise ValueError('`shapes` are of networks, which know no `units`.')
    found = _find_law(data, options, time_limit, units, target_unit)
    if found is None:
      raise ValueError('`units` and rows led to no formula.')
    return _of_law(data, found)


def _discover(
    data: _networks.Data, shapes: Sequence[Shape] | None,
    options: _networks.Options, time_limit: float | None) -> Discovery:
  """Looks by structure, then, if need be, by networks."""
  found = None
  if shapes is None:
    found = _find_law(
        data, options, time_limit and _STRUCTURE * time_limit)
    if found and (found.reached or found.interrupted
                  or time.monotonic() > options.deadline):
      return _of_law(data, found)
  try:
    written = _networks.search(
        data, shapes or default_shapes(data.x.shape[1]),
        options._replace(strict=found is not None))
  except KeyboardInterrupt:
    if found is None:
      raise
    written = None
  if written is None and found is None:
    raise ValueError(
        '`shapes` led to no formula: no library function is finite on all the '
        'values of some edge.')
  if found and (written is None
                or written.error > _BETTER * found.chosen.relative):
    return _of_law(data, found)
  assert written is not None
  return _of_network(data, written, found.front if found else ())


def _find_law(
    data: _networks.Data, options: _networks.Options,
    time_limit: float | None, units: Mapping[str, str] | None = None,
    target_unit: str | None = None) -> by_structure.Law | None:
  """Looks by structure on all rows but the test rows."""
  return by_structure.find_law(
      *data.rows(np.concatenate([data.train, data.held_out])), names=data.names,
      time_limit=time_limit, units=units, target_unit=target_unit,
      log=options.log)


def _of_law(data: _networks.Data, found: by_structure.Law) -> Discovery:
  """Returns a formula that needed no network, with its error on test rows."""
  expression = found.chosen.expression
  error = data.error(expression, data.test)
  return Discovery(
      expression, error, error / float(data.y[data.test].std()), None, None,
      None, data.scale(), found.front, found.deviations)


def _of_network(
    data: _networks.Data, written: _networks.Written,
    front: tuple[by_structure.Formula, ...]) -> Discovery:
  """Returns a network's formula, with its error on the test rows."""
  expression = written.expression
  error = data.error(expression, data.test)
  mine = by_structure.Formula(
      expression, written.error, int(expression.count_ops()))
  return Discovery(
      expression, error, error / float(data.y[data.test].std()), written.model,
      written.variables, written.splines[:2], data.scale(),
      by_structure.best_of((*front, mine)))


def _check(
    x: np.ndarray, y: np.ndarray,
    names: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray]:
  """Returns the data in float64; raises a ValueError for what has no formula.
  """
  if jnp.zeros(()).dtype != jnp.float64:
    raise ValueError(
        'float64 is off; call it under `jax.enable_x64(True)`.')
  x, y = (np.asarray(checks.as_numbers(name, rows), np.float64)
          for name, rows in (('x', x), ('y', y)))
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
