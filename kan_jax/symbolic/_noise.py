"""Whether errors are noise, as far as polynomials and neighbours tell.

Two questions with one statistic. Polynomials see what is smooth, but of many
columns only their lowest degrees: two of fourteen. So rows are sorted into
cells of a few columns, too. If the errors are noise, two of one cell are no
more alike than any two. This asks for no smooth function, and says which
columns act together on what is left.

The statistic is the sum of P_ij e_i e_j over all pairs of rows, where P is a
projection: onto polynomials, or onto functions that are constant in each cell.
Its variance is estimated from e_i^2 e_j^2, so that the noise need not be the
same on all rows. Its distribution is about that of a chi square with the same
skewness.
"""

from collections.abc import Collection
from collections.abc import Iterator
import itertools
from typing import NamedTuple

import numpy as np
from scipy import special

from kan_jax.symbolic import _surfaces

_RARE = 1e-3  # Chance by which noise may seem to be none.
_ROWS = 4000  # That are looked at.
_FAR = 9.0  # Median sizes of errors that are far out: 6 deviations of a normal.
_TERMS, _DEGREES = 130, 4  # Of the polynomials.
_COLUMNS = 4  # Of one subset, at most.
_SUBSETS = 500  # Of one size, at most; about a tenth of a second.
_GRIDS = 2  # Fine and coarse cells of each subset.
# Part of the digits of a chance that fewer columns may show; no logarithm of 0.
_NEARLY, _TINY = 0.7, 1e-300
_FILLED = 4  # Rows of a cell, on the average, at least.


class Subset(NamedTuple):
  """Columns, and how alike errors are in their cells.

  Attributes:
    chance: Chance that noise is as much alike in any of the subsets, about;
      more than 1 where that is the rule.
    columns: Their numbers.
  """
  chance: float
  columns: tuple[int, ...]


def is_noise(
    x: np.ndarray, errors: np.ndarray, likely: Collection[int] = ()) -> bool:
  """Whether neither polynomials nor cells explain anything of some errors.

  Args:
    x: Inputs, [n, in].
    errors: Errors of a formula, [n].
    likely: Columns of the formula; see `find_alike`.
  """
  return not (is_rare(_polynomial_chance(*_center(x, errors)))
              or is_rare(find_alike(x, errors, likely).chance))


def is_rare(chance: float) -> bool:
  """Whether what has this chance is not taken for noise."""
  return chance <= _RARE


def find_alike(
    x: np.ndarray, errors: np.ndarray,
    likely: Collection[int] = ()) -> Subset:
  """Returns the columns in whose cells the errors are most alike.

  Args:
    x: Inputs, [n, in].
    errors: Errors, [n].
    likely: Columns that are looked at alone, too. Among many columns, more of
      the subsets seem to matter by chance.
  """
  every = _find_alike(x, errors)
  if not 0 < len(likely) < x.shape[1]:
    return every
  some = np.array(sorted(likely))
  few = _find_alike(x[:, some], errors)
  return min(every, few._replace(
      columns=tuple(some[list(few.columns)].tolist())))


def _find_alike(x: np.ndarray, errors: np.ndarray) -> Subset:
  x, errors = _center(x, errors)
  powers = np.stack([errors, errors**2, errors**4])
  tested: list[Subset] = []
  ranked, possible = np.sort(x, 0), 0
  for size in range(1, _COLUMNS + 1):
    columns = _choose(tested, x.shape[1], size)
    if len(columns) < size or _finest(x, size) < 2:
      break
    tested += [Subset(_cell_chance(cells, count, powers), subset)
               for subset, cells, count in _cells(
                   x, ranked, columns, size)]
    possible += _GRIDS * special.comb(x.shape[1], size, exact=True)
  chosen = _simplest(tested)
  return chosen._replace(chance=chosen.chance * max(possible, 1))


def _simplest(tested: list[Subset]) -> Subset:
  """Returns the fewest columns that show nearly all that there is to see.

  Cells are as fine along columns that do not matter, and may be as telling.
  """
  least = min(tested, default=Subset(1.0, ()))
  return min((subset for subset in tested
              if subset.chance <= max(least.chance, _TINY)**_NEARLY),
             key=lambda subset: (len(subset.columns), subset.chance),
             default=least)


def _center(
    x: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns some of the rows, and their errors without the mean.

  Errors far out are cut: a pair of them would outweigh all others.
  """
  step = -(-len(x) // _ROWS)
  errors = errors[::step] - np.median(errors[::step])
  most = _FAR * np.median(np.abs(errors))
  errors = np.clip(errors, -most, most) if most else errors
  return x[::step], errors - errors.mean()


def _polynomial_chance(x: np.ndarray, errors: np.ndarray) -> float:
  """Returns how often polynomials explain as much of noise.

  The least for polynomials of up to four degrees, times their number.
  """
  powers, q = _surfaces.basis(x, min(_TERMS, len(x) // 8))
  totals = powers.sum(1)
  shares, weighted = (q.T @ errors)**2, errors[:, None] * q
  joined = weighted.T @ weighted
  degrees = range(1, min(int(totals.max()), _DEGREES) + 1)
  least = 1.0
  for degree in degrees:
    count = int((totals <= degree).sum())
    part, own = joined[:count, :count], (weighted[:, :count]**2).sum(1)
    least = min(least, _chance(
        shares[:count].sum() - own.sum(), (part**2).sum() - own @ own,
        np.trace(part @ part @ part)))
  return least * max(len(degrees), 1)


def _finest(x: np.ndarray, size: int) -> int:
  """Returns how many bins each of some columns has in the finest cells."""
  return int((len(x) / _FILLED)**(1 / size) + 1e-9)


def _choose(tested: list[Subset], inputs: int, size: int) -> list[int]:
  """Returns the columns of the next subsets, all where these are few enough.

  Else the columns of those subsets in which errors are most alike.
  """
  if size == 1:
    return list(range(inputs))
  most = min(inputs, _SUBSETS)
  while most and special.comb(most, size) > _SUBSETS:
    most -= 1
  ranked = [i for subset in sorted(tested) for i in subset.columns]
  return sorted(list(dict.fromkeys(ranked))[:most])


def _cells(
    x: np.ndarray, ranked: np.ndarray, columns: list[int], size: int
    ) -> Iterator[tuple[tuple[int, ...], np.ndarray, int]]:
  """Yields subsets of columns, the cell of each row, and how many there are.

  Args:
    x: Inputs, [n, in].
    ranked: The same, each column sorted.
    columns: Numbers of the columns that are looked at.
    size: Columns of a subset.
  """
  # Also as fine as with a column more, so that both can be compared.
  for bins in {_finest(x, size), max(_finest(x, size + 1), 2)}:
    places = _sort_into(x, ranked, bins)
    for subset in itertools.combinations(columns, size):
      cells = places[subset[0]]
      for i in subset[1:]:
        cells = bins * cells + places[i]
      yield subset, cells, bins**size


def _sort_into(
    x: np.ndarray, ranked: np.ndarray, bins: int) -> list[np.ndarray]:
  """Returns the bin of each row in each column; bins hold as many rows."""
  first = len(x) * np.arange(1, bins) // bins
  return [np.searchsorted(edges, z, side='right')
          for z, edges in zip(x.T, ranked[first].T, strict=True)]


def _cell_chance(cells: np.ndarray, count: int, powers: np.ndarray) -> float:
  """Returns how often noise is as much alike in its cells.

  Args:
    cells: Cell of each row, [n].
    count: How many cells there are.
    powers: The errors, and their powers of two and four, [3, n].
  """
  total, square, fourth = (
      np.bincount(cells, power, count) for power in powers)
  weights = np.sqrt(np.maximum(square**2 - fourth, 0))
  return _chance((total**2 - square).sum(), (weights**2).sum(),
                 (weights**3).sum())


def _chance(away: float, spread: float, skew: float) -> float:
  """Returns how often a sum of products of noise is as large.

  Args:
    away: The sum, whose mean is 0.
    spread: Half its variance.
    skew: An eighth of its third cumulant.
  """
  if not (spread > 0 and skew > 0):
    return 1.0
  degrees = spread**3 / skew**2
  scaled = degrees + away * np.sqrt(degrees / spread)
  return float(special.chdtrc(degrees, max(scaled, 0)))
