"""Formulas of two or three terms, found by trying all pairs of terms.

For every pair (e, f) of a vocabulary the least squares problems of

    T = a e,  T = e (a + b f),  T = a e + b f,  T = c + a e + b f

have closed solutions that need inner products alone, so a few matrix products
judge millions of formulas. What is left of the best sums is tried with a third
and a fourth term.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

from kan_jax.symbolic import _terms

_BITS = 3.0  # Of description that an operation costs.
_EXTENDED = 20  # Sums that are tried with one more term.
_CHUNK = 400  # Terms whose pairs are looked at together.
_FLOOR = 1e-13  # Share of the sum of squares that is rounding.
# Share of a term that is independent of others, at least. It makes float32
# useless here: noise of 1 % is a share of 1e-4, less than what it would lose.
_TINY = 1e-11


class Guess(NamedTuple):
  """A sum of terms for T.

  Attributes:
    bits: Merit, which rises with the bits that describe the data by it.
    share: Sum of squared errors over the one of T.
    columns: Products of terms, each a tuple of numbers of terms.
  """
  bits: float
  share: float
  columns: tuple[tuple[int, ...], ...]

  def coefficients(
      self, words: _terms.Words, target: np.ndarray,
      weights: np.ndarray) -> np.ndarray:
    """Returns the coefficients by weighted least squares."""
    design = np.stack([
        np.prod(words.values[list(c)], 0) if c else np.ones_like(target)
        for c in self.columns], 1) * weights[:, None]
    size = np.linalg.norm(design, axis=0)
    return np.linalg.lstsq(
        design / size, weights * target, rcond=None)[0] / size

  def write(self, words: _terms.Words, symbols: tuple[Any, ...]) -> list[Any]:
    """Returns the expression of each column."""
    written = []
    for column in self.columns:
      product: Any = 1
      for i in column:
        product = product * words.terms[i].build(symbols)
      written.append(product)
    return written


class _Scan:
  """Collects the best guesses for one target."""

  def __init__(
      self, words: _terms.Words, target: np.ndarray, weights: np.ndarray,
      rows: int, keep: int):
    self.words, self.keep, self.rows = words, keep, rows
    self.values, self.square, self.target = words.values, weights**2, target
    self.total = float(self.square @ self.target**2)
    self.found: dict[tuple[tuple[int, ...], ...], Guess] = {}
    self.worst = np.inf
    # Half a bit a row and factor of two against the bits of an operation.
    self.dear = 2.0**(2 * _BITS / rows)
    self.prices = self.dear**words.costs

  def offer(
      self, left: np.ndarray, costs: Sequence[np.ndarray], cost: float,
      columns: Callable[..., tuple[tuple[int, ...], ...]]) -> None:
    """Keeps the best of a block of guesses.

    Args:
      left: Shares of what is left, any shape.
      costs: Factors for the costs along each axis.
      cost: Factor for the cost of all.
      columns: Function from the index of an entry to its columns.
    """
    # No factor is below 1, so that most are out by their share alone.
    flat = np.flatnonzero(left < self.worst)
    index = np.unravel_index(flat, left.shape)
    # Bits rise with this product, and it is cheaper than logarithms.
    merit = np.maximum(left.ravel()[flat], _FLOOR) * cost
    for i, factors in zip(index, costs, strict=True):
      merit = merit * factors[i]
    good = np.flatnonzero(merit < self.worst)
    if len(good) > self.keep:
      good = good[np.argpartition(merit[good], self.keep - 1)[:self.keep]]
    for k in good.tolist():
      key = columns(*(int(i[k]) for i in index))
      self.found[key] = Guess(
          float(merit[k]), float(left.ravel()[flat[k]]), key)
    if len(self.found) > self.keep:
      best = self.best()
      self.worst = best[-1].bits
      self.found = {guess.columns: guess for guess in best}

  def best(self) -> list[Guess]:
    return sorted(self.found.values())[:self.keep]


def scan(
    words: _terms.Words, target: np.ndarray, weights: np.ndarray, *,
    rows: int, keep: int = 40) -> list[Guess]:
  """Returns the best sums of one to four terms for a target.

  Args:
    words: Terms and their values on the rows.
    target: T of the output, [n].
    weights: Weights of the errors, [n].
    rows: How many rows there are in truth, if the values are on some of them.
    keep: How many guesses are returned.
  """
  if not len(words.terms) or not (weights * target).any():
    return []
  with np.errstate(all='ignore'):
    state = _Scan(words, target, weights, rows, keep)
    _scan_products(state)
    _scan_sums(state)
    for _ in range(2):
      _extend(state)
  return state.best()


def _scan_products(state: _Scan) -> None:
  """Tries a e and e (a + b f)."""
  f, w2, t = state.values, state.square, state.target
  costs, dear = state.prices, state.dear
  f2 = f**2
  for start in range(0, len(f), _CHUNK):
    e, mine = f[start:start + _CHUNK], costs[start:start + _CHUNK]
    e = e / np.sqrt((w2 * e**2).sum(1, keepdims=True))
    p = (w2 * t * e).sum(1)
    one = state.total - p**2
    state.offer(one / state.total, (mine,), dear,
                lambda i, s=start: ((s + i,),))
    base = w2 * e**2
    b, own, q = base @ f.T, base @ f2.T, (w2 * t * e) @ f.T
    # In place, since most of the time goes into passes over these tables.
    least = own * _TINY
    q -= p[:, None] * b
    b *= b
    own -= b
    own[own < least] = np.inf
    q *= q
    q /= own
    np.subtract(one[:, None], q, out=q)
    q /= state.total
    state.offer(q, (mine, costs), dear**2.5,
                lambda i, j, s=start: ((s + i,), (s + i, j)))


def _unit(rows: np.ndarray, against: np.ndarray | None) -> np.ndarray:
  """Normalizes rows after taking a unit vector out of them."""
  size = (rows**2).sum(1)
  if against is not None:
    rows = rows - (rows @ against)[:, None] * against
  left = (rows**2).sum(1)
  bad = (left < _TINY * size) | ~np.isfinite(size)
  rows = rows / np.sqrt(np.where(bad, 1, left))[:, None]
  rows[bad] = 0
  return rows


def _scan_sums(state: _Scan) -> None:
  """Tries a e + b f and c + a e + b f."""
  w = np.sqrt(state.square)
  costs, dear = state.prices, state.dear
  for constant in (False, True):
    against = w / np.linalg.norm(w) if constant else None
    e = _unit(w * state.values, against)
    t = w * state.target
    if against is not None:
      t = t - (t @ against) * against
    b, total = e @ t, float(t @ t)
    first = ((),) if constant else ()
    state.offer((total - b**2) / state.total, (costs,), dear**(1 + constant),
                lambda i, f=first: (*f, (i,)))
    for start in range(0, len(e), _CHUNK):
      part = slice(start, start + _CHUNK)
      cross = e[part] @ e[start:].T
      gain = b[start:] - cross * b[part, None]
      gain *= gain
      cross *= cross
      np.subtract(1, cross, out=cross)
      cross[cross < _TINY] = np.inf
      gain /= cross
      np.subtract((total - b[part, None]**2), gain, out=gain)
      gain /= state.total
      gain[np.tril_indices(len(gain), m=gain.shape[1])] = np.inf
      state.offer(gain, (costs[part], costs[start:]), dear**(2.5 + constant),
                  lambda i, j, f=first, s=start: (*f, (s + i,), (s + j,)))


def _extend(state: _Scan) -> None:
  """Tries one more term with the best sums."""
  w = np.sqrt(state.square)
  e = w * state.values
  t = w * state.target
  sizes = (e**2).sum(1)
  for guess in list(_sums(state))[:_EXTENDED]:
    design = np.stack([
        w * np.prod(state.values[list(c)], 0) if c else w
        for c in guess.columns], 1)
    q, _ = np.linalg.qr(design)
    residual = t - q @ (q.T @ t)
    rest = e - (e @ q) @ q.T
    own = (rest**2).sum(1)
    own[own < _TINY * sizes] = np.inf
    left = (residual @ residual - (rest @ residual)**2 / own) / state.total
    cost = sum(state.words.costs[i] for c in guess.columns for i in c)
    cost += 1.3 * len(guess.columns) + 1.3
    state.offer(left, (state.prices,), state.dear**cost,
                lambda i, g=guess: (*g.columns, (i,)))


def _sums(state: _Scan) -> Iterator[Guess]:
  for guess in state.best():
    if 1 < len(guess.columns) < 5 and all(len(c) < 2 for c in guess.columns):
      yield guess
