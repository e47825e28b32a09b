"""From rows to formulas by structure and by trying words: no network, no JAX.
"""

from collections.abc import Collection
import heapq
import itertools
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _constants
from kan_jax.symbolic import _links
from kan_jax.symbolic import _noise
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _record
from kan_jax.symbolic import _sizes
from kan_jax.symbolic import _solvers
from kan_jax.symbolic import _symmetries
from kan_jax.symbolic import _units

_GLANCE = 1.1  # Factor of errors at a glance that is too much.
_TRUSTED = 0.05  # Error of a surface whose word on a column is final.
_SHORTENED, _CLOSE = 4, 16.0  # How many, and how many bits behind.
_SLOPES = 600  # Rows on which derivatives are compared.
# Share by which derivatives of a formula may differ in what is the same, and
# how many pairs of its columns become one.
_SAME, _JOINED = 1e-5, 4
# Attempts that small problems get where no short formula is known.
_THOROUGH = {1: 3, 2: 3}
# Columns of which polynomials have degrees enough, and of which they have not.
_FEW, _MANY = 4, 8
_TURN = 0.5  # How much later the next one of alike problems is opened.


class _Task(NamedTuple):
  """What is done next: the lower the rank, the earlier."""
  rank: float
  number: int
  problem: _problems.Problem
  look: _problems.Look | None
  level: int


class _Attempt(NamedTuple):
  """A way to solve a problem.

  Attributes:
    later: How much later than the first attempt it is made.
    words: How many words are tried; 0 for sums of curves.
    links: Which of the links are tried.
  """
  later: float
  words: int
  links: slice = slice(None)


_COMMON, _RARE = slice(5), slice(5, None)
_ATTEMPTS = (
    _Attempt(0, 150), _Attempt(0, 0), _Attempt(0.9, 800, _COMMON),
    _Attempt(1.5, 800, _RARE), _Attempt(1.8, 2400, _COMMON),
    _Attempt(2.5, 2400, _RARE))


def run(search: _record.Record) -> None:
  """Looks for formulas until one is at the noise, or the time is over."""
  count = itertools.count()
  starts = _starts(search)
  table = starts[0][0]
  queue = [_Task(_rank(problem, look) if look else 0.0, next(count), problem,
                 look, 0) for problem, look in starts]
  heapq.heapify(queue)
  known = {task.problem.key() for task in queue}

  def push(problems, wait=0.0):
    for place, (problem, look) in enumerate(problems):
      if problem.key() not in known:
        known.add(problem.key())
        heapq.heappush(queue, _Task(_rank(problem, look) + wait * place,
                                    next(count), problem, look, 0))

  while queue and not search.late():
    task = heapq.heappop(queue)
    _try(search, task)
    # Simpler problems may follow from one that was not opened yet.
    closed = task.level == 0 and len(task.problem.exprs) > 1
    if search.done(closed or any(_is_due(other, search) for other in queue)):
      return
    children = _open(search, task) if task.level == 0 else []
    push(children, _TURN)
    if search.is_stuck():
      push(_look_at_rest(search, table))
    if task.level + 1 < len(_ATTEMPTS):
      heapq.heappush(queue, _later(task, bool(children), next(count)))


def _starts(
    search: _record.Record
    ) -> list[tuple[_problems.Problem, _problems.Look | None]]:
  """Returns the problem that the table is, also in products without unit."""
  sign = -1 if (search.y < 0).mean() > 0.5 else 1
  table = _problems.smoothen(
      _problems.Problem(
          tuple(search.symbols), search.x, sign * search.y, sympy.Integer(sign),
          np.full_like(search.y, sign)),
      search.rows, search.scale, _links.LINKS)
  starts = [table, *_narrow(search, *table)]
  if search.units is not None:
    for reduced in _units.reduce(table[0], *search.units):
      if reduced.exprs:
        starts.append((reduced, _problems.look(
            reduced, search.rows, search.scale, _links.LINKS)))
      else:
        # Nothing but a number is left.
        search.offer(reduced.factor * sympy.Float(reduced.target.mean(), 17))
  return starts


def _narrow(
    search: _record.Record, table: _problems.Problem,
    seen: _problems.Look | None
    ) -> list[tuple[_problems.Problem, _problems.Look]]:
  """Returns a problem of columns that matter, where surfaces see too little.

  Of many columns, polynomials have but two degrees. Cells of a few columns at a
  time show which of them act together on what the chosen ones leave.
  """
  if seen is None or seen.size < _TRUSTED or len(table.exprs) <= _FEW:
    return []
  chosen: set[int] = set()
  errors, best = table.target, []
  while len(chosen) < _MANY and not search.over():
    alike = _noise.find_alike(table.columns, errors)
    if not _noise.is_rare(alike.chance) or chosen.issuperset(alike.columns):
      break
    chosen.update(alike.columns)
    best = _restrict(search, table, chosen)
    if not best:
      break
    child, look = best[0]
    errors = np.nan_to_num(look.predict(child) - table.target)
  return [(child, look) for child, look in best if look.size <= seen.size]


def _restrict(
    search: _record.Record, table: _problems.Problem, columns: Collection[int]
    ) -> list[tuple[_problems.Problem, _problems.Look]]:
  """Returns the problem with some columns alone, unless it is known."""
  child = table.drop(
      [i for i in range(len(table.exprs)) if i not in columns])
  look = _problems.look(child, search.rows, search.scale, _links.LINKS[:3])
  return [] if look is None else [(child, look)]


def _look_at_rest(
    search: _record.Record, table: _problems.Problem
    ) -> list[tuple[_problems.Problem, _problems.Look]]:
  """Returns problems that the errors of the best formula pose.

  Cells show which columns act on what it leaves. These, with those of the
  formula, are one problem; if they are others, what is left is another one.
  """
  best = search.best()
  if best is None or search.is_noise():
    return []
  errors, mine = search.errors(best), search.columns(best)
  alike = _noise.find_alike(search.x, errors, mine)
  if not _noise.is_rare(alike.chance):
    return []
  formula = best.fit.write()
  posed = _restrict(search, table, mine.union(alike.columns))
  posed += _join_as(search, posed[0][0], formula) if posed else []
  if mine.isdisjoint(alike.columns):
    ones = np.ones_like(errors)
    posed += _restrict(search, _problems.Problem(
        tuple(search.symbols), search.x, errors, sympy.S.One, ones,
        offset=formula), alike.columns)
  return posed


def _join_as(
    search: _record.Record, problem: _problems.Problem, formula: sympy.Expr
    ) -> list[tuple[_problems.Problem, _problems.Look]]:
  """Returns problems in which two columns are one, as they are in a formula."""
  part = search.rows.train[:_SLOPES]
  slopes = _constants.slopes(
      formula, problem.exprs, search.symbols, search.x[part])
  joined = (child for _, child in _symmetries.pair_proposals(
      problem, slopes, part, _SAME))
  looks = ((child, _problems.look(
      child, search.rows, search.scale, _links.LINKS[:3]))
           for child in itertools.islice(joined, _JOINED))
  return [(child, look) for child, look in looks if look is not None]


def _later(task: _Task, has_children: bool, number: int) -> _Task:
  """Returns the next attempt at a problem."""
  now, then = _ATTEMPTS[task.level:task.level + 2]
  # Where nothing simpler is known, or almost nothing, sums come at once.
  wait = 0.5 if has_children and len(task.problem.exprs) > 2 else 0
  return task._replace(
      rank=task.rank + then.later - now.later + wait, number=number,
      level=task.level + 1)


def _is_due(task: _Task, search: _record.Record) -> bool:
  """Whether an attempt belongs to any search, since it costs next to nothing.
  """
  inputs = len(task.problem.exprs)
  return (inputs in _THOROUGH and task.level < _THOROUGH[inputs]
          and task.look is not None
          and task.look.size < _GLANCE * search.noise)


def _try(search: _record.Record, task: _Task) -> None:
  """Makes one attempt."""
  attempt = _ATTEMPTS[task.level]
  if task.look is not None:
    search.see(task.look)
  if attempt.words:
    _solvers.solve_words(search, task.problem, attempt.words, attempt.links)
  else:
    _solvers.solve_sums(search, task.problem)


def _open(search, task):
  """Returns the simpler problems, and says what is looked at."""
  problem, look = task.problem, task.look
  if look is None:
    return []
  search.log(f'{problem.factor} * f({", ".join(map(str, problem.exprs))}): '
             f'{look.size:.1e} ({look.link.name})')
  children = _children(search, problem, look)
  for _, seen in children:
    search.see(seen)
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

  # By its logarithm alone, a target near 0 may be seen as very large.
  few = list(dict.fromkeys((seen.link, _links.LINKS[0])))
  glance = _problems.look(problem, rows, search.scale, few, quick=True)

  def check(child):
    if not child.exprs or search.over():
      return None
    if inputs > 2 and glance is not None:
      # What is simpler in truth is so at a glance.
      first = _problems.look(child, rows, search.scale, few, quick=True)
      if first is not None and first.size > _GLANCE * glance.size:
        return None
    look = _problems.look(child, rows, search.scale, links)
    if look is not None and _problems.as_good(look, seen):
      accepted.append((child, look))
      return look
    return None

  weak = _symmetries.weak(problem, seen, rows)
  if len(weak) < 2 or check(problem.drop(weak)) is None:
    for i in weak:
      check(problem.drop((i,)))
  if accepted and seen.size < _TRUSTED:
    # Columns that do not matter go first.
    accepted.sort(key=lambda item: item[1].size)
    return accepted[:1]
  peeled = _symmetries.power_peel(problem, rows)
  if peeled is not None and check(peeled) is not None and inputs > 3:
    return accepted
  part = rows.train[:_SLOPES]
  with np.errstate(all='ignore'):
    slopes = _problems.gradient(problem, seen, part)
  keep = np.isfinite(slopes).all(1)
  part, slopes = part[keep], slopes[keep]
  peeled = _symmetries.slope_peel(problem, slopes, part)
  if peeled is not None and check(peeled) is not None and inputs > 3:
    return accepted
  scaled = _symmetries.scale_proposals(problem, slopes, part)
  for _, child in itertools.islice(scaled, 8):
    if search.late():
      break
    if check(child) is not None and len(accepted) > 2:
      break
  if not accepted or seen.size > _TRUSTED:
    for child in _symmetries.peels(problem):
      check(child)
  first = len(accepted)
  proposals = sorted(
      _symmetries.pair_proposals(problem, slopes, part, 0.3),
      key=lambda item: item[0])
  for _, child in proposals[:12]:
    if search.late():
      break
    look = check(child)
    if look is not None and inputs > 3 and look.size < 0.7 * seen.size:
      break  # A true one is enough; others come later.
  # Some of either kind: a scaling saves more variables, and may hide a sum.
  chosen = [child for some in (accepted[:first], accepted[first:])
            for child in sorted(some, key=lambda item: _rank(*item))[:3]]
  return sorted(chosen, key=lambda item: _rank(*item))


def finish(search: _record.Record) -> _record.Found | None:
  """Writes the best formula with as simple numbers as the data allow.

  Under noise, simple numbers tell the law from formulas that fit as well.
  """
  contenders = search.contenders()
  if search.exact():
    contenders = contenders[:1]
  recognized: list[_record.Found] = []
  for found in contenders:
    if recognized and search.over():
      break
    recognized += _recognize(search, found)
  recognized.sort(key=_record.Found.cost)
  # sympy takes its time to shorten a formula.
  best = [found for found in recognized[:_SHORTENED]
          if found.bits < recognized[0].bits + _CLOSE]
  for found in best[:1 if search.over() else None]:
    recognized.append(_shorten(search, found))
  return min(recognized, key=_record.Found.cost, default=None)


def _recognize(
    search: _record.Record, found: _record.Found) -> list[_record.Found]:
  """Fits a formula to all rows, without and with simple numbers."""
  data = search.symbols, search.x, search.y
  fitted = _constants.fit(_sizes.canonical(found.fit.write()), *data)
  if fitted is None:
    return [found]
  return [search.judge(fit) for fit in (
      fitted, _constants.recognize(fitted, *data))]


def _shorten(search: _record.Record, found: _record.Found) -> _record.Found:
  """Writes a formula with fewer operations, where sympy knows how."""
  data = search.x, search.y
  # sympy writes shorter formulas of what it knows to be positive. It also is
  # slower then, so that the search does without.
  known = [sympy.Dummy(s.name, positive=True) if low > 0 else
           sympy.Dummy(s.name, real=True)
           for s, low in zip(search.symbols, search.x.min(0), strict=True)]
  there = dict(zip(search.symbols, known, strict=True))
  back = dict(zip(known, search.symbols, strict=True))
  short = _constants.shorten(found.fit._replace(
      form=found.fit.form.xreplace(there)), known, *data)
  short = short._replace(form=short.form.xreplace(back))
  return search.judge(_constants.recognize(short, search.symbols, *data))
