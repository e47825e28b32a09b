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
_PATIENCE = 4.0  # Seconds.
_BITS = 4.0  # Of description that an operation costs.


class Found(NamedTuple):
  """A formula.

  Attributes:
    expr: The formula.
    error: Root mean square error on the rows held out, over the deviation of y.
    overall: The same on all rows.
    operations: Its operations, as sympy counts them.
    deviations: Standard errors of its numbers.
  """
  expr: sympy.Expr
  error: float
  overall: float
  operations: int
  deviations: dict[sympy.Float, float]


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
    self.noise = np.inf  # Least error of any surface.
    self.seen: set[object] = set()
    self.started = self.improved = time.monotonic()

  def late(self) -> bool:
    return time.monotonic() > self.deadline

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
    if self.bits(found) < min(map(self.bits, self.found), default=np.inf) - 1:
      self.improved = time.monotonic()
    self.found.append(found)
    return found

  def judge(self, fitted: _constants.Fit) -> Found:
    """Returns a formula with its errors."""
    values = _constants.evaluate(fitted.expr, self.symbols, self.x)
    square = (values - self.y)**2

    def size(some):
      return float(np.sqrt(np.mean(some))) / self.scale

    return Found(
        fitted.expr, size(square[self.rows.held_out]), size(square),
        int(fitted.expr.count_ops()),
        dict(zip(fitted.sites, fitted.deviations.tolist(), strict=True)))

  def bits(self, found: Found) -> float:
    """Returns the length of a description of y by a formula.

    Its parts are the errors, the operations, and the numbers, of which the data
    decide half as many bits as the number of rows has.
    """
    rows = len(self.y)
    return (rows * np.log2(max(found.overall, EXACT))
            + _BITS * found.operations
            + 0.5 * np.log2(rows) * len(found.deviations))

  def best(self) -> Found | None:
    return min(self.found, key=self.bits, default=None)

  def exact(self) -> bool:
    """Whether a formula is exact."""
    return any(found.overall < EXACT for found in self.found)

  def satisfied(self) -> bool:
    """Whether a formula is exact, or leaves nothing but noise."""
    best = self.best()
    return best is not None and (self.exact() or (
        best.error < 1.02 * self.noise and self.plain(best)))

  def done(self) -> bool:
    """Whether it is time to stop.

    Under noise many formulas are as good as the law, so that the search goes on
    for as long again after the last improvement.
    """
    now = time.monotonic()
    patience = max(_PATIENCE, now - self.started - _PATIENCE) / 2
    return self.exact() or (
        now - self.improved > patience and self.satisfied())

  def plain(self, found: Found) -> bool:
    """Whether nothing is left in the errors but noise."""
    values = _constants.evaluate(found.expr, self.symbols, self.x)
    errors = values - self.y
    weights = np.ones_like(errors)
    surface = _surfaces.fit(
        self.x, errors, weights, *self.rows, most=60)
    return surface is None or (
        surface.error > 0.99 * found.error * self.scale)
