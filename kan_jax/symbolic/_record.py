"""The formulas that a search has found, and how they compare."""

from collections.abc import Callable
from collections.abc import Sequence
import time
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _constants
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _surfaces

EXACT = 1e-9  # Relative error of a formula that needs no better one.
# Attempts without a better formula, and in all where no time is set. Counts, so
# that the same rows lead to the same law on any machine.
_PATIENCE, _MOST = 8, 200
_SURE = 2.5  # Standard errors of a difference that is no chance.
_CONTENDERS, _CLOSE = 12, 25.0  # How many, and how many bits behind.
_BITS = 4.0  # Of description that an operation costs.


class Found(NamedTuple):
  """A formula.

  Attributes:
    expr: The formula.
    error: Root mean square error on the rows held out, over the deviation of y.
    overall: The same on all rows.
    operations: Its operations, as sympy counts them.
    deviations: Standard errors of its numbers.
    bits: Length of a description of y by the formula.
  """
  expr: sympy.Expr
  error: float
  overall: float
  operations: int
  deviations: dict[sympy.Float, float]
  bits: float = np.inf

  def cost(self) -> float:
    return self.bits


class Record:
  """What is known so far."""

  def __init__(
      self, x: np.ndarray, y: np.ndarray, names: Sequence[str],
      log: Callable[[str], None], deadline: float):
    self.x, self.y, self.log, self.deadline = x, y, log, deadline
    self.symbols = [sympy.Dummy(name) for name in names]
    self.scale = float(y.std())
    order = np.random.default_rng(0).permutation(len(x))
    cut = 4 * len(x) // 5
    self.rows = _problems.Rows(order[:cut], order[cut:])
    self.found: list[Found] = []
    self.noise = np.inf  # Least error of any surface,
    self.reference: np.ndarray | None = None  # and its errors.
    self.seen: set[object] = set()
    self.attempts = self.improved = 0  # In all, until the last better formula.

  def late(self) -> bool:
    """Whether no further attempt may begin; asked before each of them."""
    self.attempts += 1
    if self.deadline < np.inf:
      return time.monotonic() > self.deadline
    return self.attempts > _MOST

  def offer(self, expr: sympy.Expr) -> Found | None:
    """Fits the numbers of a formula and keeps it if it is sound."""
    train = self.rows.train
    if expr in self.seen:
      return None
    self.seen.add(expr)
    fitted = _constants.fit(expr, self.symbols, self.x[train], self.y[train])
    if fitted is None:
      return None
    found = self.judge(fitted)
    if not np.isfinite(found.overall):
      return None
    best = self.best()
    if best is None or found.bits < best.bits - 1:
      self.improved = self.attempts
    self.found.append(found)
    return found

  def judge(self, fitted: _constants.Fit) -> Found:
    """Returns a formula with its errors."""
    values = _constants.evaluate(fitted.expr, self.symbols, self.x)
    square = (values - self.y)**2

    def size(some):
      return float(np.sqrt(np.mean(some))) / self.scale

    found = Found(
        fitted.expr, size(square[self.rows.held_out]), size(square),
        int(fitted.expr.count_ops()),
        dict(zip(fitted.sites, fitted.deviations.tolist(), strict=True)))
    return found._replace(bits=self._bits(found))

  def _bits(self, found: Found) -> float:
    """Returns the length of a description of y by a formula.

    Its parts are the errors, the operations, and the numbers: of those that the
    data decide, half as many bits as the number of rows has.
    """
    rows = len(self.y)
    known = sum(np.log2(float(abs(number.p) * number.q))
                for number in found.expr.atoms(sympy.Rational) if number)
    return float(rows * np.log2(max(found.overall, EXACT))
                 + _BITS * found.operations + known
                 + 0.5 * np.log2(rows) * len(found.deviations))

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
    errors = _constants.evaluate(best.expr, self.symbols, self.x) - self.y
    square = errors[self.rows.held_out]**2
    return not (_is_more(square, self.reference**2)
                or self._has_structure(errors))

  def done(self) -> bool:
    """Whether it is time to stop.

    Under noise many formulas are as good as the law. So the search goes on
    until half of all attempts came after the last improvement.
    """
    patience = max(_PATIENCE, 0.5 * self.attempts)
    return self.exact() or (
        self.attempts - self.improved > patience and self.satisfied())

  def see(self, look: _problems.Look) -> None:
    """Takes note of how well a surface explains the held-out rows."""
    if look.size < self.noise:
      self.noise, self.reference = look.size, look.errors

  def _has_structure(self, errors: np.ndarray) -> bool:
    """Whether a surface explains a part of the errors of a formula."""
    surface = _surfaces.fit(
        self.x, errors, np.ones_like(errors), *self.rows, most=60)
    if surface is None:
      return False
    part = self.rows.held_out
    rest = errors[part] - surface(self.x[part])
    return _is_more(errors[part]**2, rest**2)


def _is_more(square: np.ndarray, other: np.ndarray) -> bool:
  """Whether squared errors are clearly greater than others, row by row."""
  change = square - other
  return bool(change.mean() > _SURE * change.std() / np.sqrt(len(change)))
