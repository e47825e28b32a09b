"""The structure of a law as a tree: which columns act together, and how.

As pykan's `hypothesis.py` draws it, here from a polynomial with exact
derivatives, and each step is decided on rows that were held out.
"""

from collections.abc import Iterator
import itertools
from typing import Literal
from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _links
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _symmetries
from kan_jax.symbolic import expressions
from kan_jax.symbolic import symmetries

_LOOSE = 0.3  # Share of the slopes that may be left of a proposal.
_MOST_PROPOSALS = 12
_QUANTILES = 0.5, 0.25, 0.75  # Of the other columns, where a pair is looked at.
# Factor of the error by which a function of two columns may look worse: it is
# read off a surface, whose errors it has, too.
_READ_OFF = 2.0

Kind = Literal['column', 'sum', 'product', 'function']


class Part(NamedTuple):
  """A column, or columns that act as one.

  Attributes:
    label: What it is, as `a - b`, `m_1*m_2` or `f(a, b)`.
    kind: 'column'; 'sum' for sums and differences, of squares, too; 'product'
      for products and ratios; 'function' for what is none of these.
    parts: What it is made of; nothing for a column.
  """
  label: str
  kind: Kind
  parts: tuple['Part', ...] = ()


class Tree(NamedTuple):
  """How the columns of a table act on the target.

  Attributes:
    kind: What the target is of the `parts`: a 'sum' or a 'product' of one
      function of each, or some 'function' of all.
    parts: What it is made of, at least one.
    unused: Names of the columns that do not matter.
    error: Error on the rows held out, over the deviation of the target, of a
      fit that knows columns that do not matter and pairs that act as one.
    whole: The same of a fit that knows nothing.
  """
  kind: Kind
  parts: tuple[Part, ...]
  unused: tuple[str, ...]
  error: float
  whole: float

  def __repr__(self) -> str:
    joint = {'sum': ' + ', 'product': ' * '}.get(self.kind, ', ')
    inside = joint.join(
        part.label if self.kind == 'function' else f'f({part.label})'
        for part in self.parts)
    text = f'f({inside})' if self.kind == 'function' else inside
    left_out = f'; without {", ".join(self.unused)}' if self.unused else ''
    return f'{text}{left_out}; error {self.error:.1e}, {self.whole:.1e} before'


class _State(NamedTuple):
  """A problem, how well it is explained, and what its columns are."""
  problem: _problems.Problem
  look: _problems.Look
  parts: tuple[Part, ...]


class _Judge(NamedTuple):
  """Rows, and the deviation of the target."""
  rows: _problems.Rows
  scale: float

  def look(
      self, problem: _problems.Problem, seen: _problems.Look,
      ) -> _problems.Look | None:
    links = list(dict.fromkeys((seen.link, *_links.LINKS[:3])))
    return _problems.look(problem, self.rows, self.scale, links)


def find_tree(
    x: np.ndarray, y: np.ndarray, *,
    names: expressions.Names | None = None) -> Tree:
  """Finds the structure of y in x: divide and conquer, for a picture.

      plotting.plot_structure(find_tree(x, y, names=['a', 'b', 'c']))

  Columns that do not matter are left out one after another. Then two columns
  become one, as long as the fit stays as good on rows held out: a sum, a
  product, squares, as in `find_symmetries`, or any function of the two, read
  off the fit. The target is a sum or a product of what is left if a fit has no
  terms in which two parts meet, see `separability`.

  Args:
    x: Inputs, [n, in]; no column is constant.
    y: Targets, [n], not constant.
    names: Names of the inputs; x_0, x_1, ... by default.

  Raises:
    ValueError: If there are numbers that are not finite, or a constant column.
  """
  with symmetries.quietly():
    return _find(*symmetries.start(x, y, names))


def _find(problem: _problems.Problem, rows: _problems.Rows) -> Tree:
  judge = _Judge(rows, float(problem.target.std()))
  whole = _problems.look(problem, rows, judge.scale, _links.LINKS)
  if whole is None:
    raise ValueError('`x` and `y` need finite numbers, and no constant column.')
  state = _State(problem, whole, tuple(
      Part(str(symbol), 'column') for symbol in problem.exprs))
  state = _drop_unused(state, judge)
  while (joined := _join(state, judge)) is not None:
    state = _drop_unused(joined, judge)  # A better fit sees more.
  kind, groups = _separate(state, judge)
  while kind == 'function' and (read := _read_off(state, judge)) is not None:
    state = read
    kind, groups = _separate(state, judge)
  used = set(itertools.chain.from_iterable(map(_columns_of, groups)))
  return Tree(
      kind, groups,
      tuple(str(s) for s in problem.exprs if str(s) not in used),
      state.look.size, whole.size)


def _columns_of(part: Part) -> set[str]:
  if part.kind == 'column':
    return {part.label}
  return set().union(*map(_columns_of, part.parts))


def _drop_unused(state: _State, judge: _Judge) -> _State:
  """Leaves out columns, the one that is missed least first."""
  while len(state.parts) > 1:
    best: _State | None = None
    for i in _symmetries.weak(state.problem, state.look, judge.rows):
      child = state.problem.drop((i,))
      look = judge.look(child, state.look)
      if look and _problems.as_good(look, state.look) and (
          best is None or look.size < best.look.size):
        best = _State(child, look, (*state.parts[:i], *state.parts[i + 1:]))
    if best is None:
      return state
    state = best
  return state


def _join(state: _State, judge: _Judge) -> _State | None:
  """Makes one column of two that act through a sum, product or squares."""
  if len(state.parts) < 2:
    return None
  proposals = sorted(
      _propose(state.problem, state.look, judge.rows.train),
      key=lambda item: item[0])
  best: _State | None = None
  for _, child in proposals[:_MOST_PROPOSALS]:
    look = judge.look(child, state.look)
    if look and _problems.as_good(look, state.look) and (
        best is None or look.size < best.look.size):
      best = _State(child, look, _parts_of(child, state))
  return best


def _propose(
    problem: _problems.Problem, look: _problems.Look,
    part: np.ndarray) -> Iterator[tuple[float, _problems.Problem]]:
  slopes = _problems.gradient(problem, look, part)
  sound = np.isfinite(slopes).all(1)
  return _symmetries.pair_proposals(
      problem, slopes[sound], part[sound], _LOOSE)


def _parts_of(
    child: _problems.Problem, state: _State) -> tuple[Part, ...]:
  """Returns what the columns of a problem are whose last one is new."""
  before = dict(zip(state.problem.exprs, state.parts, strict=True))
  kept = [before.pop(expr) for expr in child.exprs[:-1]]
  new = child.exprs[-1]
  kind: Kind = 'sum' if new.is_Add else 'product'

  def pieces(expr, part):
    # Parts of a sum within a sum are parts of the whole, but not of its square.
    plain = kind == 'product' or {*expr.args} <= {*new.args} or (
        {*(-expr).args} <= {*new.args})
    return part.parts if part.kind == kind and plain else (part,)

  inner = itertools.chain.from_iterable(map(pieces, before, before.values()))
  return (*kept, Part(str(new), kind, tuple(inner)))


def _read_off(state: _State, judge: _Judge) -> _State | None:
  """Makes one column of two that act through some function of theirs.

  Where y = F(g(a, b), c), g is what y depends on a and b like, wherever c is.
  """
  count = len(state.parts)
  if count < 3:
    return None
  best: _State | None = None
  for pair in itertools.combinations(range(count), 2):
    for quantile in _QUANTILES:
      child = _as_one(state, pair, quantile)
      look = child and judge.look(child, state.look)
      if child and look and look.size < _READ_OFF * state.look.size and (
          best is None or look.size < best.look.size):
        inner = tuple(state.parts[i] for i in pair)
        rest = tuple(state.parts[i] for i in range(count) if i not in pair)
        best = _State(child, look, (*rest, _function_of(inner)))
  return best


def _as_one(
    state: _State, pair: tuple[int, int],
    quantile: float) -> _problems.Problem | None:
  """Returns the problem in which a function has the place of two columns."""
  problem = state.problem
  at = np.broadcast_to(
      np.quantile(problem.columns, quantile, 0), problem.columns.shape).copy()
  at[:, pair] = problem.columns[:, pair]
  values = state.look.surface(at)
  if not np.isfinite(values).all() or np.ptp(values) == 0:
    return None
  rest = problem.drop(pair)
  # Between -1 and 1, so that nobody takes its logarithm.
  values = 2 * (values - values.min()) / np.ptp(values) - 1
  return rest._replace(
      exprs=(*rest.exprs, sympy.Dummy('f')),
      columns=np.concatenate([rest.columns, values[:, None]], 1))


def _function_of(parts: tuple[Part, ...]) -> Part:
  return Part(
      f'f({", ".join(part.label for part in parts)})', 'function', parts)


def _separate(
    state: _State, judge: _Judge) -> tuple[Kind, tuple[Part, ...]]:
  """Returns whether the target is a sum or a product, and of what."""
  best: tuple[Kind, tuple[Part, ...]] = 'function', state.parts
  most = 1
  kinds: tuple[Kind, ...] = 'sum', 'product'
  for kind in kinds:
    groups = symmetries.groups_of(
        state.problem, judge.rows, product=kind == 'product')
    if groups is None or len(groups.columns) <= most:
      continue
    most = len(groups.columns)
    best = kind, tuple(
        state.parts[group[0]] if len(group) == 1 else _function_of(
            tuple(state.parts[i] for i in group))
        for group in groups.columns)
  return best
