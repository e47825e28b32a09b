"""The formulas that a search has found, and how they compare."""

from collections.abc import Callable
from collections.abc import Sequence
import time
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _constants
from kan_jax.symbolic import _noise
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _sizes
from kan_jax.symbolic import _units

EXACT = 1e-9  # Relative error of a formula that needs no better one.
# Attempts without a better formula, and in all where no time is set. Counts, so
# that the same rows lead to the same law on any machine.
_PATIENCE, _MOST = 8, 200
# Standard errors of a difference that is no chance. Many: the surface that a
# formula is compared with is the best of dozens on the same rows.
_SURE = 3.5
_CONTENDERS, _CLOSE = 12, 25.0  # How many, and how many bits behind.
_ALIKE = 1e-7  # Relative difference of errors of one formula.
_DOUBTFUL = 2  # Numbers that are not simple, from which on others are tried.
_HOPE = 40.0  # Bits behind the best that a simpler form might gain.
_BITS = 4.0  # Of description that an operation costs.


class Found(NamedTuple):
  """A formula.

  Attributes:
    fit: The formula and its numbers.
    error: Root mean square error on the rows held out, over the deviation of y.
    overall: The same on all rows.
    operations: Its operations; see `_sizes.operations`.
    size: Length of a description of the formula, in bits.
    bits: Length of a description of y by the formula.
  """
  fit: _constants.Fit
  error: float
  overall: float
  operations: int
  size: float = 0.0
  bits: float = np.inf

  def cost(self) -> float:
    return self.bits

  def is_like(self, other: 'Found') -> bool:
    """Whether two are one formula, as far as their figures say."""
    return (self.operations == other.operations
            and len(self.fit.sites) == len(other.fit.sites)
            and abs(self.overall - other.overall) <= _ALIKE * other.overall)


class Record:
  """What is known so far."""

  def __init__(
      self, x: np.ndarray, y: np.ndarray, names: Sequence[str],
      log: Callable[[str], None], deadline: float,
      units: _units.Units | None = None):
    self.x, self.y, self.log, self.deadline = x, y, log, deadline
    self.units = units
    self.symbols = [sympy.Dummy(name) for name in names]
    self.scale = float(y.std())
    order = np.random.default_rng(0).permutation(len(x))
    cut = 4 * len(x) // 5
    self.rows = _problems.Rows(order[:cut], order[cut:])
    self.found: list[Found] = []
    self.noise = np.inf  # Least error of any surface,
    self.reference: np.ndarray | None = None  # and its errors.
    self.seen: set[object] = set()
    self._stuck: Found | None = None
    self._judged: tuple[Found, bool] | None = None
    self.attempts = self.improved = 0  # In all, until the last better formula.

  def over(self) -> bool:
    """Whether the time is over."""
    return time.monotonic() > self.deadline

  def noisy(self) -> bool:
    """Whether surfaces leave more than they leave without noise."""
    return _problems.CLEAN < self.noise < np.inf

  def late(self) -> bool:
    """Whether no further attempt may begin; asked before each of them."""
    self.attempts += 1
    if self.deadline < np.inf:
      return self.over()
    return self.attempts > _MOST

  def offer(self, expr: sympy.Expr) -> Found | None:
    """Fits the numbers of a formula and keeps it if it is sound.

    Args:
      expr: The formula, which sympy need not have evaluated: that takes longer
        than the fit.
    """
    train = self.rows.train
    key = _sizes.skeleton(expr)
    if key in self.seen:
      return None
    self.seen.add(key)
    if self.units is not None and not _units.is_consistent(
        expr, dict(zip(self.symbols, self.units.of, strict=True)),
        self.units.target):
      return None
    fitted = _constants.fit(expr, self.symbols, self.x[train], self.y[train])
    if fitted is None:
      return None
    found = self.judge(fitted)
    if not np.isfinite(found.overall):
      return None
    best = self.best()
    if best is None or found.bits < best.bits + _HOPE:
      # What is worth it gets the form that sympy gives it.
      with sympy.evaluate(True):
        fitted = _constants.fit(_sizes.canonical(
            fitted.write()), self.symbols, self.x[train], self.y[train])
        found = found if fitted is None else self.judge(fitted)
    if best is None or found.bits < best.bits - 1:
      self.improved = self.attempts
    if not any(found.is_like(other) for other in self.found):
      self.found.append(found)
    return found

  def judge(self, fitted: _constants.Fit) -> Found:
    """Returns a formula with its errors."""
    values = _constants.predict(fitted, self.symbols, self.x)
    square = (values - self.y)**2

    def size(some):
      return float(np.sqrt(np.mean(some))) / self.scale

    found = Found(fitted, size(square[self.rows.held_out]), size(square),
                  _sizes.operations(fitted.form))
    length = _length(found)
    errors = len(self.y) * float(np.log2(max(found.overall, EXACT)))
    return found._replace(size=length, bits=errors + length)

  def contenders(self) -> list[Found]:
    """Returns the formulas that simpler numbers might make the best."""
    ranked = sorted(self.found, key=Found.cost)
    return [found for found in ranked[:_CONTENDERS]
            if found.bits < ranked[0].bits + _CLOSE]

  def best(self) -> Found | None:
    return min(self.found, key=Found.cost, default=None)

  def exact(self) -> bool:
    """Whether a formula is exact."""
    return any(found.overall < EXACT for found in self.found)

  def satisfied(self) -> bool:
    """Whether a formula is exact, or leaves nothing but noise."""
    if self.exact():
      return True
    best = self.best()
    if best is None or self.reference is None:
      return False
    square = self.errors(best)[self.rows.held_out]**2
    return not _is_more(square, self.reference**2) and self.is_noise()

  def is_noise(self) -> bool:
    """Whether the errors of the best formula are noise; asked once of each."""
    best = self.best()
    if best is None:
      return False
    if self._judged is None or self._judged[0] is not best:
      self._judged = best, _noise.is_noise(
          self.x, self.errors(best), self.columns(best))
    return self._judged[1]

  def columns(self, found: Found) -> set[int]:
    """Returns the numbers of the columns in a formula."""
    free = found.fit.form.free_symbols
    return {i for i, symbol in enumerate(self.symbols) if symbol in free}

  def errors(self, found: Found) -> np.ndarray:
    """Returns the errors of a formula on all rows."""
    return self.y - _constants.predict(found.fit, self.symbols, self.x)

  def done(self, waiting: bool = False) -> bool:
    """Whether it is time to stop.

    Under noise many formulas are as good as the law. So the search goes on
    until half of all attempts came after the last improvement; a quarter, if
    the numbers of the best formula are simple.

    Args:
      waiting: Whether there are attempts that should be made in any case.
    """
    best = self.best()
    if best is None or self.exact():
      return best is not None
    # The numbers of a law are simple, all or nearly all.
    simple, _ = _constants.choose(best.fit)
    doubtful = len(best.fit.sites) - len(simple) >= _DOUBTFUL
    patience = max(_PATIENCE, (0.5 if doubtful else 0.25) * self.attempts)
    return (not (waiting and doubtful)
            and self.attempts - self.improved > patience and self.satisfied())

  def is_stuck(self) -> bool:
    """Whether no attempt was better for a while; says so once of a formula."""
    best = self.best()
    stuck = (best is not None and best is not self._stuck
             and self.attempts - self.improved > _PATIENCE)
    if stuck:
      self._stuck = best
    return stuck

  def see(self, look: _problems.Look) -> None:
    """Takes note of how well a surface explains the held-out rows."""
    if look.size < self.noise:
      self.noise, self.reference = look.size, look.errors


def _is_more(square: np.ndarray, other: np.ndarray) -> bool:
  """Whether squared errors are clearly greater than others, row by row."""
  change = square - other
  return bool(change.mean() > _SURE * change.std() / np.sqrt(len(change)))


def _length(found: Found) -> float:
  """Returns the length of a description of a formula, in bits.

  Its parts are the operations, and the numbers: whole ones by their size,
  simple ones with what they do to the errors, others by the digits that the
  data decide.
  """
  form = found.fit.form
  whole = sum(np.log2(float(abs(number.p) * number.q))
              for number in form.atoms(sympy.Rational) if number)
  _, numbers = _constants.choose(found.fit)
  return float(_BITS * found.operations + whole + numbers
               + _BITS * form.has(sympy.pi) / 2)
