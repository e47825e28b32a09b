"""From rows to formulas by structure and by trying words: no network, no JAX.
"""

from collections.abc import Callable
from collections.abc import Sequence
import heapq
import itertools
import time
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _additive
from kan_jax.symbolic import _constants
from kan_jax.symbolic import _curves
from kan_jax.symbolic import _links
from kan_jax.symbolic import _pairs
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _surfaces
from kan_jax.symbolic import _symmetries
from kan_jax.symbolic import _terms

_EXACT = 1e-9
_PATIENCE = 4.0  # Seconds.
_SCAN_ROWS = 120
_CLEAN = 1e-4  # Error of a surface below which there is no noise.
_TRUSTED = 0.05  # Error of a surface whose word on a column is final.
_ADDITIVE = 3e-3  # Relative error of splines whose functions are looked for.
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


class Search:
  """What is known so far."""

  def __init__(
      self, x: np.ndarray, y: np.ndarray, names: Sequence[str],
      log: Callable[[str], None], deadline: float):
    self.x, self.y, self.log, self.deadline = x, y, log, deadline
    # sympy writes shorter formulas of what it knows to be positive.
    self.symbols = [
        sympy.Dummy(name, **({'positive': True} if low > 0 else {'real': True}))
        for name, low in zip(names, x.min(0), strict=True)]
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
    return (rows * np.log2(max(found.overall, _EXACT))
            + _BITS * found.operations
            + 0.5 * np.log2(rows) * len(found.deviations))

  def best(self) -> Found | None:
    return min(self.found, key=self.bits, default=None)

  def exact(self) -> bool:
    """Whether a formula is exact."""
    return any(found.overall < _EXACT for found in self.found)

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


class _Task(NamedTuple):
  """What is done next: the lower the rank, the earlier."""
  rank: float
  number: int
  problem: _problems.Problem
  look: _problems.Look | None
  level: int


_WORDS = (150, 800, 2400)
_LATER = 0.9  # How much later a longer attempt is made.
_TURN = 0.5  # How much later the next one of alike problems is opened.


def run(search: Search) -> None:
  """Looks for formulas until one is at the noise, or the time is over."""
  count = itertools.count()
  start = _problems.Problem(
      tuple(search.symbols), search.x, search.y, sympy.Integer(1),
      np.ones_like(search.y))
  look = _problems.look(
      start, search.rows, search.scale, _links.LINKS)
  queue = [_Task(0.0, next(count), start, look, 0)]
  known = {start.key()}
  while queue and not search.late():
    task = heapq.heappop(queue)
    children = _open(search, task) if task.level == 0 else []
    if children and len(task.problem.exprs) > 4:
      heapq.heappush(queue, task._replace(
          rank=task.rank + _LATER, number=next(count), level=1))
    if task.level == 0:
      for place, (child, look) in enumerate(children):
        if child.key() not in known:
          known.add(child.key())
          heapq.heappush(queue, _Task(
              _rank(child, look) + _TURN * place, next(count), child, look, 0))
    if children and len(task.problem.exprs) > 4:
      continue
    solve(search, task.problem, _WORDS[task.level])
    if task.level == 0 and not search.exact():
      solve_sums(search, task.problem)
    if search.done():
      return
    if task.level + 1 < len(_WORDS):
      heapq.heappush(queue, task._replace(
          rank=task.rank + _LATER, number=next(count), level=task.level + 1))


def _open(search, task):
  """Returns the simpler problems, and says what is looked at."""
  _, _, problem, look, _ = task
  if look is None:
    return []
  search.noise = min(search.noise, look.size)
  search.log(f'{problem.factor} * f({", ".join(map(str, problem.exprs))}): '
             f'{look.size:.1e} ({look.link.name})')
  children = _children(search, problem, look)
  for _, seen in children:
    search.noise = min(search.noise, seen.size)
  return children


def _rank(problem: _problems.Problem, look: _problems.Look) -> float:
  return len(problem.exprs) + 0.5 * np.log10(max(look.size, 1e-8))


def _children(search, problem, seen):
  """Returns the simpler problems that are as good, the best first."""
  inputs = len(problem.exprs)
  rows = search.rows
  links = list(dict.fromkeys((seen.link, *_links.LINKS[:3])))
  if inputs > 4:
    links = links[:1] if seen.size < _TRUSTED else links[:2]
  accepted = []
  if inputs == 1:
    return []

  def check(child):
    if not child.exprs:
      return None
    look = _problems.look(child, rows, search.scale, links)
    if look is not None and _problems.as_good(look, seen):
      accepted.append((child, look))
      return look
    return None

  for i in _symmetries.weak(problem, seen, rows):
    check(problem.drop((i,)))
  if accepted and seen.size < _TRUSTED:
    # Columns that do not matter go first.
    accepted.sort(key=lambda item: item[1].size)
    return accepted[:1]
  peeled = _symmetries.power_peel(problem, rows)
  if peeled is not None and check(peeled) is not None and inputs > 3:
    return accepted
  part = rows.train[:600]
  with np.errstate(all='ignore'):
    slopes = _problems.gradient(problem, seen, part)
  keep = np.isfinite(slopes).all(1)
  part, slopes = part[keep], slopes[keep]
  scaled = _symmetries.scale_proposals(problem, slopes, part)
  for _, child in itertools.islice(scaled, 8):
    if search.late():
      break
    if check(child) is not None and len(accepted) > 2:
      break
  if seen.size > _TRUSTED and not accepted:
    for child in _symmetries.peels(problem):
      check(child)
  proposals = sorted(
      _symmetries.pair_proposals(problem, slopes, part, 0.3),
      key=lambda item: item[0])
  for _, child in proposals[:12]:
    if search.late():
      break
    look = check(child)
    if look is not None and inputs > 3 and look.size < 0.7 * seen.size:
      break  # A true one is enough; others come later.
  accepted.sort(key=lambda item: _rank(*item))
  return accepted[:4]


def solve(search: Search, problem: _problems.Problem, count: int) -> None:
  """Tries the words of a small vocabulary on a problem."""
  inputs = len(problem.exprs)
  if inputs > 6:
    return
  train = search.rows.train
  few = train[:_SCAN_ROWS if search.noise < _CLEAN else (
      1000 if count < 1000 else 500)]
  with np.errstate(all='ignore'):
    words = _terms.vocabulary(problem.columns[few], count)
  for link in _links.allowed(problem.target):
    if search.late():
      return
    _solve_link(search, problem, link, words, few)
    if search.exact():
      return


def solve_sums(search: Search, problem: _problems.Problem) -> None:
  """Tries sums of one function of each variable."""
  rows = search.rows
  for link in _links.allowed(problem.target):
    if search.late():
      return
    with np.errstate(all='ignore'):
      target = link.apply(problem.target)
      weights = np.abs(problem.weights / link.slope(problem.target))
    if not (np.isfinite(target).all() and np.isfinite(weights).all()):
      continue
    if len(problem.exprs) == 1:
      _solve_curve(search, problem, link, target, weights)
    else:
      fitted = _additive.fit(problem.columns, target, weights, *rows)
      if fitted.error < max(_ADDITIVE, 1.3 * search.noise) * search.scale:
        for inner in _additive.recognize(fitted, problem.exprs):
          search.offer(problem.factor * link.to_sympy(inner))
          if search.exact():
            return
    if search.exact():
      return


def _solve_curve(search, problem, link, target, weights):
  """Tries functions of a single variable with numbers of any value."""
  part = search.rows.train
  z = problem.columns[part, 0]
  powers = (0, 1, -1, 2, -2) if link.name in ('y', '1/y') else (0,)
  matches = _curves.match(z, target[part], weights[part], powers=powers)
  total = np.mean((weights * target)[part]**2)
  for match in matches[:3]:
    size = np.sqrt(match.left * total) / search.scale
    if size < max(3 * search.noise, 1e-5):
      search.offer(problem.factor * link.to_sympy(
          match.write(problem.exprs[0])))


def _solve_link(search, problem, link, words, few):
  target = link.apply(problem.target[few])
  with np.errstate(all='ignore'):
    weights = np.abs(problem.weights[few] / link.slope(problem.target[few]))
  if not (np.isfinite(target).all() and np.isfinite(weights).all()):
    return
  guesses = _pairs.scan(
      words, target, weights, rows=len(few))
  total = np.mean((weights * target)**2)
  tried = 0
  for guess in guesses:
    size = np.sqrt(max(guess.share, 0) * total) / search.scale
    if size > max(1.5 * search.noise, 1e-6) and tried >= 2:
      continue
    tried += 1
    if tried > (8 if search.noise < _CLEAN else 12):
      break
    coef = guess.coefficients(words, target, weights)
    inner = sum(
        sympy.Float(float(c), 17) * expr for c, expr in zip(
            coef, guess.write(words, problem.exprs), strict=True))
    found = search.offer(problem.factor * link.to_sympy(inner))
    if found is not None and found.overall < _EXACT:
      return


def finish(search: Search) -> Found | None:
  """Writes the best formula with as simple numbers as the data allow."""
  best = search.best()
  if best is None:
    return None
  fitted = _constants.fit(best.expr, search.symbols, search.x, search.y)
  if fitted is None:
    return best
  data = search.symbols, search.x, search.y
  fitted = _constants.recognize(fitted, *data)
  fitted = _constants.recognize(_constants.shorten(fitted, *data), *data)
  return search.judge(fitted)

