"""Many small expressions of a few variables, with their values.

They are the words that `_pairs` joins to formulas. sympy sees only those that
are chosen; until then an expression is a recipe.
"""

from collections.abc import Callable
from collections.abc import Iterator
import itertools
from typing import Any
from typing import NamedTuple

import numpy as np
import sympy

_LARGE = 1e12  # Greatest size of values that are worth a term.
_SAME = 9  # Digits by which two terms are told apart.


class Term(NamedTuple):
  """One small expression.

  Attributes:
    build: From the expressions of the variables, this expression.
    cost: Operations, about.
  """
  build: Callable[[tuple[Any, ...]], Any]
  cost: float


class Words(NamedTuple):
  """Expressions and their values.

  Attributes:
    terms: The expressions.
    values: Their values, [terms, n].
    costs: Their costs, [terms].
  """
  terms: list[Term]
  values: np.ndarray
  costs: np.ndarray

  def first(self, count: int) -> 'Words':
    """Returns the simplest ones."""
    order = np.argsort(self.costs, kind='stable')[:count]
    return self.pick(order)

  def pick(self, which: np.ndarray) -> 'Words':
    """Returns some of them."""
    return Words([self.terms[i] for i in which], self.values[which],
                 self.costs[which])


class Shape(NamedTuple):
  """A function of one variable.

  Attributes:
    fn: The function of an array.
    to_sympy: The same of an expression.
    cost: Operations, about.
  """
  fn: Callable[[np.ndarray], np.ndarray]
  to_sympy: Callable[[Any], Any]
  cost: float


_EXPONENTS: tuple[float, ...] = (1, -1, 2, -2, 0.5, -0.5, 3, -3, 4, -4)
_MANY_EXPONENTS = (1.5, -1.5, 5, -5, 6, -6, 8, -8, 12, -12)
_SHAPES = (
    Shape(np.sqrt, sympy.sqrt, 1),
    Shape(lambda z: 1 / z, lambda z: 1 / z, 1),
    Shape(lambda z: z**2, lambda z: z**2, 1),
    Shape(lambda z: z**-0.5, lambda z: 1 / sympy.sqrt(z), 2),
    Shape(lambda z: z**-2.0, lambda z: z**-2, 1.5),
    Shape(lambda z: np.abs(z)**1.5, lambda z: z**sympy.Rational(3, 2), 2),
    Shape(lambda z: np.abs(z)**-1.5, lambda z: z**-sympy.Rational(3, 2), 2.5),
)
_CURVES = (
    Shape(np.exp, sympy.exp, 1),
    Shape(lambda z: np.exp(-z), lambda z: sympy.exp(-z), 1.5),
    Shape(np.log, sympy.log, 1),
    Shape(np.sin, sympy.sin, 1),
    Shape(np.cos, sympy.cos, 1),
    Shape(np.tan, sympy.tan, 1.5),
    Shape(np.tanh, sympy.tanh, 1.5),
    Shape(lambda z: np.exp(-z**2 / 2), lambda z: sympy.exp(-z**2 / 2), 3),
    Shape(lambda z: np.exp(-z**2), lambda z: sympy.exp(-z**2), 2.5),
    Shape(np.cosh, sympy.cosh, 1.5),
    Shape(np.sinh, sympy.sinh, 1.5),
    Shape(lambda z: np.sin(z)**2, lambda z: sympy.sin(z)**2, 2),
    Shape(lambda z: np.cos(z)**2, lambda z: sympy.cos(z)**2, 2),
    Shape(lambda z: np.sin(z)**-2.0, lambda z: sympy.sin(z)**-2, 2.5),
    Shape(lambda z: np.cos(z)**-2.0, lambda z: sympy.cos(z)**-2, 2.5),
    Shape(lambda z: 1 / np.sin(z), lambda z: 1 / sympy.sin(z), 2),
    Shape(lambda z: 1 / np.cos(z), lambda z: 1 / sympy.cos(z), 2),
    Shape(lambda z: 1 / np.expm1(z), lambda z: 1 / (sympy.exp(z) - 1), 3),
    Shape(lambda z: 1 / (np.exp(z) + 1), lambda z: 1 / (sympy.exp(z) + 1), 3),
    Shape(np.arctan, sympy.atan, 2),
    Shape(np.arcsin, sympy.asin, 2),
)
_HALVES = (1.0, 0.5, 2.0, np.pi, 2 * np.pi, 1 / (2 * np.pi))
_FACTORS = (sympy.Integer(1), sympy.Rational(1, 2), sympy.Integer(2), sympy.pi,
            2 * sympy.pi, 1 / (2 * sympy.pi))


def _exact(power: float) -> sympy.Rational:
  return sympy.Rational(round(2 * power), 2)


def _build_monomial(powers: tuple[float, ...]) -> Callable[..., Any]:
  def build(symbols):
    return sympy.Mul(*(symbol**_exact(power) for symbol, power
                       in zip(symbols, powers, strict=True) if power))
  return build


def _power_cost(power: float) -> float:
  """Returns what a power adds to a term, 0 for the power 0."""
  table = {0: 0, 1: 1, -1: 1.2, 2: 1.6, -2: 1.8, 0.5: 2.2, -0.5: 2.4}
  return table.get(power, 2 + abs(power) / 4)


def monomials(
    x: np.ndarray, most: float, exponents: tuple[float, ...]) -> Words:
  """Returns products of powers of the columns of x [n, in], without 1.

  Args:
    x: Values of the variables.
    most: Greatest sum of the costs of all powers.
    exponents: Powers that are tried.
  """
  chosen: list[tuple[tuple[float, ...], float]] = [((), 0.0)]
  positive = np.min(x, 0) > 0
  nonzero = np.min(np.abs(x), 0) > 0
  for i in range(x.shape[1]):
    mine = [p for p in (0, *exponents)
            if positive[i] or (float(p).is_integer() and (
                p >= 0 or nonzero[i]))]
    chosen = [((*powers, p), cost + _power_cost(p)) for powers, cost in chosen
              for p in mine if cost + _power_cost(p) <= most]
  terms, values = [], []
  for powers, cost in chosen:
    if any(powers):
      terms.append(Term(_build_monomial(powers), cost))
      values.append(np.prod(
          [x[:, i]**p for i, p in enumerate(powers) if p], 0))
  return _join([(terms, values)], len(x))


def _join(
    parts: list[tuple[list[Term], list[np.ndarray]]], rows: int) -> Words:
  """Returns all terms whose values are sound and unlike the others' up to sign.
  """
  terms = [term for some, _ in parts for term in some]
  values = [value for _, some in parts for value in some]
  seen: dict[bytes, int] = {}
  kept = []
  for i in sorted(range(len(terms)), key=lambda i: terms[i].cost):
    value = values[i]
    if not np.isfinite(value).all():
      continue
    size = np.abs(value).max()
    if not 1 / _LARGE < size < _LARGE or np.ptp(value) < 1e-9 * size:
      continue
    first = value[0] if value[0] else 1.0
    with np.errstate(all='ignore'):
      mark = np.round(value / first, _SAME).tobytes()
    if mark not in seen:
      seen[mark] = i
      kept.append(i)
  if not kept:
    return Words([], np.zeros((0, rows)), np.zeros(0))
  return Words([terms[i] for i in kept], np.stack([values[i] for i in kept]),
               np.array([terms[i].cost for i in kept]))


def join(*words: Words) -> Words:
  """Returns the terms of all, each once."""
  rows = words[0].values.shape[1]
  return _join([(w.terms, list(w.values)) for w in words], rows)


def _build_sum(a: Term, b: Term | None, sign: int) -> Callable[..., Any]:
  def build(symbols):
    first = 1 if b is None else b.build(symbols)
    return first + sign * a.build(symbols)
  return build


def sums(words: Words) -> Words:
  """Returns 1 + a, 1 - a, a + b and a - b of all terms."""
  terms, values = [], []
  for i, a in enumerate(words.terms):
    for sign in (1, -1):
      terms.append(Term(_build_sum(a, None, sign), a.cost + 1.2))
      values.append(1 + sign * words.values[i])
      for j in range(i):
        b = words.terms[j]
        terms.append(Term(_build_sum(a, b, sign), a.cost + b.cost + 1))
        values.append(words.values[j] + sign * words.values[i])
  return _join([(terms, values)], words.values.shape[1])


def _build_call(shape: Shape, inner: Term, factor: Any) -> Callable[..., Any]:
  return lambda symbols: shape.to_sympy(factor * inner.build(symbols))


def _apply(
    words: Words, shapes: tuple[Shape, ...],
    factors: int) -> Iterator[tuple[Term, np.ndarray]]:
  for (term, value), shape in itertools.product(
      zip(words.terms, words.values, strict=True), shapes):
    for factor, exact in zip(_HALVES[:factors], _FACTORS, strict=False):
      extra = 0 if factor == 1 else 1
      with np.errstate(all='ignore'):
        yield Term(_build_call(shape, term, exact),
                   term.cost + shape.cost + extra), shape.fn(factor * value)


def roots(words: Words) -> Words:
  """Returns roots, squares and inverses of the terms."""
  pairs = list(_apply(words, _SHAPES, 1))
  return _join([([t for t, _ in pairs], [v for _, v in pairs])],
               words.values.shape[1])


def curves(words: Words, factors: int = 1) -> Words:
  """Returns exponentials, sines and the like of the terms.

  Args:
    words: The terms.
    factors: How many numbers the arguments are multiplied by, in turn.
  """
  pairs = list(_apply(words, _CURVES, factors))
  return _join([([t for t, _ in pairs], [v for _, v in pairs])],
               words.values.shape[1])


def _build_product(a: Term, b: Term) -> Callable[..., Any]:
  return lambda symbols: a.build(symbols) * b.build(symbols)


def products(left: Words, right: Words, most: float) -> Words:
  """Returns products of a term of each that cost at most so much."""
  terms, values = [], []
  for a, u in zip(left.terms, left.values, strict=True):
    for b, v in zip(right.terms, right.values, strict=True):
      if a.cost + b.cost <= most:
        terms.append(Term(_build_product(a, b), a.cost + b.cost))
        values.append(u * v)
  return _join([(terms, values)], left.values.shape[1])


def vocabulary(x: np.ndarray, most: int) -> Words:
  """Returns the terms for a problem with the columns of x, [n, in].

  Args:
    x: Values of the variables.
    most: How many terms, about; the simplest ones.
  """
  inputs = x.shape[1]
  exponents: tuple[float, ...] = (
      _EXPONENTS if inputs <= 4 else _EXPONENTS[:6])
  limit = {1: 6.0, 2: 5.2, 3: 4.6}.get(inputs, 4.0 if inputs < 6 else 3.2)
  if inputs == 1:
    exponents += _MANY_EXPONENTS
  share = min(1.0, most / 2000)
  powers = monomials(x, limit if share > 0.3 else 0.8 * limit, exponents)

  def some(words, count):
    return words.first(max(int(count * share**0.5), 3))

  tiny = some(powers, {1: 4, 2: 10, 3: 14}.get(inputs, 18))
  added = sums(some(powers, 20))
  functions = curves(tiny, len(_HALVES) if inputs <= 2 else 3)
  rooted = roots(some(added, most // 6))
  mixed = products(some(powers, 12), some(
      join(functions, added, rooted), 600), 6.0 if inputs < 4 else 4.5)
  outer = curves(some(added, 24), 2)
  waves = products(
      some(powers, 60), curves(some(powers, inputs + 2), 1), 7.0)
  return join(
      powers, added, functions, rooted, outer, mixed, waves).first(most)
