"""From a table to a law in seconds, by structure: no network, no compilation.

The search holds a list of problems; the first is the table itself. A polynomial
is fitted to each, and its derivatives say what makes the problem simpler: a
column that does not matter; a symmetry under scaling, which saves a variable as
in the theorem of Buckingham; a sum, difference, product or ratio through which
alone two columns act. Every simpler problem must be explained as well as the
one it comes from, on rows that were held out. For each problem three solvers
look for closed forms, of the target and of functions of it such as its
logarithm: sums of splines whose curves are recognized, a function of a single
variable with free numbers, and all pairs of terms of a vocabulary. The numbers
of each formula are then fitted to the table itself.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import time
from typing import NamedTuple
from typing import TypeVar

import numpy as np
import sympy
import threadpoolctl

from kan_jax.symbolic import _constants
from kan_jax.symbolic import _record
from kan_jax.symbolic import _scaling
from kan_jax.symbolic import _search
from kan_jax.symbolic import _sizes
from kan_jax.symbolic import _units
from kan_jax.symbolic import expressions

_T = TypeVar('_T')
_MOST_ROWS = 20_000


class Formula(NamedTuple):
  """A formula and how good it is.

  Attributes:
    expression: The formula in the names of the inputs.
    relative: Root mean square error on the rows that were held out, over the
      deviation of the target.
    operations: Its operations, as sympy counts them.
  """
  expression: sympy.Expr
  relative: float
  operations: int


class Law(NamedTuple):
  """What a search by structure found.

  Attributes:
    chosen: Formula with the shortest description: bits for its errors and for
      its operations.
    deviations: Standard errors of the numbers in it, by number.
    front: Formulas that no other one beats in both size and error, the
      shortest first.
    noise: Least error of any surface on the rows held out, over the deviation
      of the target: no more can be explained.
    reached: Whether the chosen formula is exact, or leaves nothing but noise.
    interrupted: Whether Ctrl-C ended the search.
  """
  chosen: Formula
  deviations: dict[sympy.Float, float]
  front: tuple[Formula, ...]
  noise: float
  reached: bool
  interrupted: bool


def find_law(
    x: np.ndarray, y: np.ndarray, *, names: Sequence[str] | None = None,
    time_limit: float | None = None, units: Mapping[str, str] | None = None,
    target_unit: str | None = None,
    log: Callable[[str], None] = lambda line: None) -> Law | None:
  """Looks for a law of y in x.

      found = find_law(x, y, names=['mass', 'speed'])
      print(found.chosen.expression)

  Ctrl-C ends the search; the best formula so far is returned. Of a long table,
  20,000 rows are looked at. Columns that are constant, or that are others
  again, are left out; `log` gets a line on each.

  Args:
    x: Inputs, [n, in], float64 and finite.
    y: Targets, [n], finite and not constant.
    names: Names of the inputs; x_0, x_1, ... by default.
    time_limit: Seconds after which no further attempt begins. By default their
      number is limited, not their time: the same rows give the same law.
    units: Unit of each input by name, such as 'kg*m/s**2', 'N' or '1': products
      of powers of SI units without prefixes. Only formulas with the unit of
      the target are then looked at; their numbers have no units.
    target_unit: Unit of the target. Needed with `units`.
    log: Function that takes a line about each problem.

  Returns:
    What was found; None where nothing was.

  Raises:
    ValueError: If no column varies, a unit cannot be read, or no product of
      powers of the inputs has the unit of the target.
  """
  symbols = expressions.make_symbols(names, x.shape[1])
  if units is not None:
    _units.read([str(s) for s in symbols], units, target_unit)
  elif target_unit is not None:
    raise ValueError('`target_unit` says nothing without `units`.')
  x, y, symbols = _choose(x, y, symbols, log)
  known = None if units is None else _units.read(
      [str(s) for s in symbols], {str(s): units[str(s)] for s in symbols},
      target_unit)
  started = time.monotonic()
  limit = np.inf if time_limit is None else time_limit
  sizes, size = _scaling.choose(x), float(_scaling.choose(y[:, None])[0])
  search = _record.Record(
      x / sizes, y / size, [str(s) for s in symbols], log, started + limit,
      known)
  interrupted = False
  # Many formulas are infinite on some rows, which is no mistake here. All
  # products are small: threads would only wait for one another.
  with (np.errstate(all='ignore'),
        threadpoolctl.threadpool_limits(1, 'blas')):
    try:
      _search.run(search)
    except KeyboardInterrupt:
      interrupted = True
      log('interrupted: the best formula so far')
    if not search.found:  # A number is a formula, too.
      search.offer(sympy.Float(search.y.mean(), 17))
    best = _search.finish(search)
    reached = search.satisfied()
    if best is None:
      return None
    raw = _Raw(search, symbols, sizes, size)
    chosen = raw.fit(best, x, y)
  # The chosen one stands for all that are exact, whatever their numbers.
  front = _best_of([one for one in search.found
                    if one.overall >= _record.EXACT],
                   lambda one: (one.operations, one.error))
  first = _formula(chosen.write(), best)
  return Law(first, chosen.named_deviations(), best_of([first, *(
      _formula(raw.write(one.fit), one) for one in front)]), search.noise,
             reached, interrupted)


class _Raw(NamedTuple):
  """Writes formulas in the columns and units of the table."""
  search: _record.Record
  symbols: list[sympy.Symbol]
  sizes: np.ndarray
  size: float

  def write(self, fitted: _constants.Fit) -> sympy.Expr:
    sizes = dict(zip(self.search.symbols, self.sizes.tolist(), strict=True))
    back = dict(zip(self.search.symbols, self.symbols, strict=True))
    expr = _sizes.canonical(fitted.write())
    return _scaling.undo(expr, sizes, self.size).xreplace(back)

  def fit(
      self, found: _record.Found, x: np.ndarray, y: np.ndarray
      ) -> _constants.Fit:
    """Returns the formula with its numbers for this table."""
    back = dict(zip(self.search.symbols, self.symbols, strict=True))
    same = found.fit._replace(form=found.fit.form.xreplace(back))
    if self.size == 1 and (self.sizes == 1).all():
      return same
    written = self.write(found.fit)
    again = _constants.fit(written, self.symbols, x, y)
    if again is None:
      none = np.zeros(0)
      return _constants.Fit(written, (), none, found.overall, none[:, None])
    return _constants.recognize(again, self.symbols, x, y)


def _formula(written: sympy.Expr, found: _record.Found) -> Formula:
  return Formula(written, found.error, int(written.count_ops()))


def _choose(
    x: np.ndarray, y: np.ndarray, symbols: list[sympy.Symbol],
    log: Callable[[str], None]
    ) -> tuple[np.ndarray, np.ndarray, list[sympy.Symbol]]:
  """Returns the rows and columns to look at, and says what is left out."""
  if len(x) > _MOST_ROWS:
    log(f'{_MOST_ROWS} of {len(x)} rows, drawn at random')
    rows = np.random.default_rng(0).permutation(len(x))[:_MOST_ROWS]
    x, y = x[rows], y[rows]
  kept: list[int] = []
  for i, symbol in enumerate(symbols):
    same = [symbols[j] for j in kept if np.array_equal(x[:, i], x[:, j])]
    if np.ptp(x[:, i]) == 0:
      log(f'{symbol} is constant: left out')
    elif same:
      log(f'{symbol} is the same as {same[0]}: left out')
    else:
      kept.append(i)
  if not kept:
    raise ValueError('`x` has no column that varies.')
  return x[:, kept], y, [symbols[i] for i in kept]


def write_numbers(
    expression: sympy.Expr,
    deviations: Mapping[sympy.Float, float]) -> tuple[sympy.Expr, str]:
  """Rounds each number to the digits that its standard error leaves.

  Returns:
    The expression with two digits of doubt, and the numbers with their errors
    as text, as in `0.5123 ± 0.0032`.
  """
  rounded, lines = {}, []
  for number, deviation in deviations.items():
    if not 0 < deviation < np.inf:
      continue
    places = 1 - int(np.floor(np.log10(deviation)))
    size = int(np.floor(np.log10(abs(float(number)) or 1.0)))
    digits = min(max(places + size + 1, 1), 15)
    short = sympy.Float(str(sympy.Float(number, digits)), 15)
    rounded[number] = short
    lines.append(f'{float(number):.{digits}g} ± {deviation:.2g}')
  return expression.xreplace(rounded), ', '.join(lines)


def best_of(formulas: Sequence[Formula]) -> tuple[Formula, ...]:
  """Returns the formulas that no other one beats in both size and error."""
  return tuple(_best_of(formulas, lambda f: (f.operations, f.relative)))


def _best_of(
    formulas: Sequence[_T], measure: Callable[[_T], tuple[int, float]]
    ) -> list[_T]:
  kept: list[_T] = []
  for one in sorted(formulas, key=measure):
    if not kept or measure(one)[1] < 0.95 * measure(kept[-1])[1]:
      kept.append(one)
  return kept
