"""What a smooth fit to a table says about the structure of the law behind it.

A polynomial is fitted to the table, and its derivatives are exact. A structure
is proposed by them and decided on rows that were held out: there, the simpler
model must be as good as the one that knows nothing of the structure.
"""

from collections.abc import Iterator
import contextlib
from typing import NamedTuple

import numpy as np
import sympy
import threadpoolctl

from kan_jax.symbolic import _links
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _symmetries
from kan_jax.symbolic import expressions

_LOOSE = 0.3  # Share of the slopes that may be left of a proposal.
_ROUNDING = 1e-9  # Share of the deviation that counts as nothing.
_MIXED = 3.0  # Errors of the fit that a mixed part must exceed to count.


class Symmetry(NamedTuple):
  """Two columns or more that may act as one.

  Attributes:
    expression: How they act: the column that takes their place, as `a - b`; of
      a symmetry under scaling, the products that are free of scale.
    factor: Power of columns that is taken out of the target; else 1.
    left: Statistic of the proposal: what is left of the derivatives where the
      structure makes them cancel, as a share, in [0, 1]. At most 0.3 of
      proposals that are looked at.
    error: Error on the rows held out, of a fit that has the structure.
    whole: The same of a fit that knows nothing of it.
    holds: Whether the first is not clearly greater than the second: by less
      than 2.5 standard errors of their squares in pairs, and by less than 10 %.
  """
  expression: tuple[sympy.Expr, ...]
  factor: sympy.Expr
  left: float
  error: float
  whole: float
  holds: bool


class Separability(NamedTuple):
  """Groups of columns that act apart from each other.

  Attributes:
    groups: Names of the columns of each group. y, or its logarithm, is a sum
      with a summand for each group.
    mixed: Statistic: size of the part of the fit whose mixed second derivative
      by two columns is not 0, over the deviation of what is fitted, [in, in].
    threshold: Size from which on two columns are in one group: three times the
      error of the fit on rows held out, over the same deviation; 1e-9 at least.
  """
  groups: tuple[tuple[str, ...], ...]
  mixed: np.ndarray
  threshold: float


@contextlib.contextmanager
def quietly() -> Iterator[None]:
  """Formulas may be infinite on some rows, and one thread computes.

  All products are small: threads would only wait for one another.
  """
  with (np.errstate(all='ignore'),
        threadpoolctl.threadpool_limits(1, 'blas')):
    yield


def start(
    x: np.ndarray, y: np.ndarray, names: expressions.Names | None
    ) -> tuple[_problems.Problem, _problems.Rows]:
  """Returns the problem that a table is, and its rows."""
  x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
  symbols = expressions.make_symbols(names, x.shape[1])
  order = np.random.default_rng(0).permutation(len(x))
  rows = _problems.Rows(*np.split(order, [4 * len(x) // 5]))
  return _problems.Problem(
      tuple(symbols), x, y, sympy.Integer(1), np.ones_like(y)), rows


def separability(
    x: np.ndarray, y: np.ndarray, *, names: expressions.Names | None = None,
    product: bool = False) -> Separability:
  """Finds groups of columns between which y is a sum, or a product.

      separability(x, y, names=['a', 'b', 'c'], product=True).groups

  Args:
    x: Inputs, [n, in]; no column is constant.
    y: Targets, [n]; of one sign for products.
    names: Names of the inputs; x_0, x_1, ... by default.
    product: Whether y is to be a product, and so its logarithm a sum.

  Raises:
    ValueError: If `product` is asked for and `y` has both signs or zeros.
  """
  problem, rows = start(x, y, names)
  with quietly():
    groups = groups_of(problem, rows, product=product)
  if groups is None and product:
    raise ValueError('`y` needs one sign where `product` is asked for.')
  if groups is None:
    raise ValueError('`x` and `y` need finite numbers, and no constant column.')
  return Separability(
      tuple(tuple(str(problem.exprs[i]) for i in group)
            for group in groups.columns), groups.mixed, groups.threshold)


class Groups(NamedTuple):
  """What `Separability` says, with numbers in place of names."""
  columns: tuple[tuple[int, ...], ...]
  mixed: np.ndarray
  threshold: float


def groups_of(
    problem: _problems.Problem, rows: _problems.Rows, *,
    product: bool = False) -> Groups | None:
  """Finds groups of the columns of a problem; None where it has no fit."""
  if product:
    y = problem.target
    if not ((y > 0).all() or (y < 0).all()):
      return None
    problem = problem._replace(target=np.log(np.abs(y)))
  deviation = float(problem.target.std())
  seen = _problems.look(problem, rows, deviation, _links.LINKS[:1])
  if seen is None:
    return None
  mixed = seen.surface.mixed(problem.columns[rows.held_out]) / deviation
  threshold = max(_MIXED * seen.size, _ROUNDING)
  labels = _components(mixed > threshold)
  return Groups(
      tuple(tuple(np.flatnonzero(labels == k).tolist())
            for k in dict.fromkeys(labels.tolist())), mixed, threshold)


def _components(joined: np.ndarray) -> np.ndarray:
  """Returns the number of the group of each column."""
  labels = np.arange(len(joined))
  for i, j in np.argwhere(joined):
    labels[labels == labels[j]] = labels[i]
  return labels


def find_symmetries(
    x: np.ndarray, y: np.ndarray, *,
    names: expressions.Names | None = None) -> list[Symmetry]:
  """Finds columns that act through one sum, product or ratio, and scalings.

      [s for s in find_symmetries(x, y, names=['a', 'b']) if s.holds]

  Args:
    x: Inputs, [n, in]; no column is constant.
    y: Targets, [n], not constant.
    names: Names of the inputs; x_0, x_1, ... by default.

  Returns:
    All that the derivatives propose, those first that hold, and among them the
    ones with the least error.
  """
  with quietly():
    return _find(*start(x, y, names))


def _find(
    problem: _problems.Problem, rows: _problems.Rows) -> list[Symmetry]:
  """Returns all that the derivatives propose."""
  scale = float(problem.target.std())
  whole = _problems.look(problem, rows, scale, _links.LINKS)
  if whole is None:
    raise ValueError('`x` and `y` need finite numbers, and no constant column.')
  part = rows.train
  slopes = _problems.gradient(problem, whole, part)
  sound = np.isfinite(slopes).all(1)
  part, slopes = part[sound], slopes[sound]
  proposals = [
      *_symmetries.pair_proposals(problem, slopes, part, _LOOSE),
      *_symmetries.scale_proposals(problem, slopes, part)]
  found = [_decide(problem, child, left, whole, rows, scale)
           for left, child in proposals if child.exprs]
  return sorted((s for s in found if s), key=lambda s: (not s.holds, s.error))


def _decide(
    problem: _problems.Problem, child: _problems.Problem, left: float,
    whole: _problems.Look, rows: _problems.Rows,
    scale: float) -> Symmetry | None:
  """Fits the simpler problem and compares."""
  links = list(dict.fromkeys((whole.link, *_links.LINKS[:3])))
  seen = _problems.look(child, rows, scale, links)
  if seen is None:
    return None
  new = tuple(e for e in child.exprs if e not in problem.exprs)
  return Symmetry(new, child.factor, left, seen.size * scale,
                  whole.size * scale, _problems.as_good(seen, whole))
