"""Many small expressions of a few variables, with their values.

They are the words that `_pairs` joins to formulas. sympy sees only those that
are chosen; until then an expression is a recipe. A few rows tell the recipes
apart; only those that are kept get their values on all rows.
"""

from collections.abc import Callable
from collections.abc import Sequence
import math
from typing import Any
from typing import NamedTuple

import numpy as np
import sympy

_LARGE = 1e12  # Greatest size of values that are worth a term.
_SAME = 9  # Digits by which two terms are told apart,
_ROWS = 24  # on so many rows.
_FEW = 300  # Terms up to which none has a variable power.
_SPARE = 1.1  # Times as many terms, since some are not finite on other rows.


class Term(NamedTuple):
  """One small expression.

  Attributes:
    make: From the variables, this expression; of symbols if the second
      argument is true, else of arrays.
    cost: Operations, about.
  """
  make: Callable[[Any, bool], Any]
  cost: float

  def build(self, symbols: Sequence[sympy.Expr]) -> sympy.Expr:
    return self.make(symbols, True)


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


def _monomial(powers: tuple[float, ...], cost: float) -> Term:
  used = [(i, power) for i, power in enumerate(powers) if power]

  def make(inputs, exact):
    return math.prod(
        inputs[i]**(sympy.Rational(round(2 * power), 2) if exact else power)
        for i, power in used)

  return Term(make, cost)


def _sum(a: Term, b: Term | None, sign: int) -> Term:
  """Returns b + a or b - a, and 1 in place of b where that is None."""
  def make(inputs, exact):
    first = 1 if b is None else b.make(inputs, exact)
    return first + sign * a.make(inputs, exact)

  return Term(make, a.cost + (1.2 if b is None else b.cost + 1))


def _call(shape: Shape, inner: Term, k: int) -> Term:
  """Returns a function of a term times the k-th factor."""
  def make(inputs, exact):
    value = inner.make(inputs, exact)
    return (shape.to_sympy(_FACTORS[k] * value) if exact
            else shape.fn(_HALVES[k] * value))

  return Term(make, inner.cost + shape.cost + (k > 0))


def _product(a: Term, b: Term) -> Term:
  return Term(lambda inputs, exact: (
      a.make(inputs, exact) * b.make(inputs, exact)), a.cost + b.cost)


def _power(base: Term, exponent: Term, sign: int) -> Term:
  return Term(lambda inputs, exact: base.make(inputs, exact)**(
      sign * exponent.make(inputs, exact)),
              base.cost + exponent.cost + (sign < 0) / 4)


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
  terms = [_monomial(powers, cost) for powers, cost in chosen if any(powers)]
  values = [term.make(x.T, False) for term in terms]
  return _tell_apart(terms, np.reshape(values, (len(terms), len(x))))


def _sound(values: np.ndarray) -> np.ndarray:
  """Whether values are finite, of some size and not constant, [terms]."""
  with np.errstate(all='ignore'):
    size = np.abs(values).max(1, initial=0)
    return (np.isfinite(values).all(1) & (size > 1 / _LARGE) & (size < _LARGE)
            & (np.ptp(values, axis=1) >= 1e-9 * size))


def _tell_apart(terms: Sequence[Term], values: np.ndarray) -> Words:
  """Returns the sound terms, each once up to a factor, the simplest first."""
  costs = np.array([term.cost for term in terms])
  order = np.argsort(costs, kind='stable')
  order = order[_sound(values)[order]]
  with np.errstate(all='ignore'):
    first = values[order, :1]
    first = np.where(first == 0, 1, first)
    marks = np.round(values[order] / first, _SAME) + 0.0  # There are two 0.
  seen: dict[bytes, int] = {}
  for i, mark in zip(order.tolist(), marks, strict=True):
    seen.setdefault(mark.tobytes(), i)
  kept = list(seen.values())
  return Words([terms[i] for i in kept], values[kept], costs[kept])


def join(*words: Words) -> Words:
  """Returns the terms of all, each once."""
  return _tell_apart([term for some in words for term in some.terms],
                     np.concatenate([some.values for some in words]))


def sums(words: Words) -> Words:
  """Returns 1 + a, 1 - a, a + b and a - b of all terms."""
  terms, values = [], []
  for i, a in enumerate(words.terms):
    for sign in (1, -1):
      mine = sign * words.values[i]
      terms.append(_sum(a, None, sign))
      values.append(1 + mine[None])
      terms += [_sum(a, b, sign) for b in words.terms[:i]]
      values.append(words.values[:i] + mine)
  return _tell_apart(terms, np.concatenate(values)) if terms else words


def _apply(words: Words, shapes: tuple[Shape, ...], factors: int) -> Words:
  terms, values = [], [words.values[:0]]
  with np.errstate(all='ignore'):
    for shape in shapes:
      for k in range(factors):
        terms += [_call(shape, term, k) for term in words.terms]
        values.append(shape.fn(_HALVES[k] * words.values))
  return _tell_apart(terms, np.concatenate(values))


def roots(words: Words) -> Words:
  """Returns roots, squares and inverses of the terms."""
  return _apply(words, _SHAPES, 1)


def curves(words: Words, factors: int = 1) -> Words:
  """Returns exponentials, sines and the like of the terms.

  Args:
    words: The terms.
    factors: How many numbers the arguments are multiplied by, in turn.
  """
  return _apply(words, _CURVES, factors)


def products(left: Words, right: Words, most: float) -> Words:
  """Returns products of a term of each that cost at most so much."""
  i, j = np.nonzero(left.costs[:, None] + right.costs <= most)
  terms = [_product(left.terms[a], right.terms[b])
           for a, b in zip(i.tolist(), j.tolist(), strict=True)]
  return _tell_apart(terms, left.values[i] * right.values[j])


def powers(bases: Words, exponents: Words) -> Words:
  """Returns terms to the power of other terms, and of those times -1."""
  terms, values = [], [bases.values[:0]]
  for base, mine in zip(bases.terms, bases.values, strict=True):
    if (mine > 0).all():
      for sign in (1, -1):
        terms += [_power(base, term, sign) for term in exponents.terms]
        values.append(np.exp(sign * np.log(mine) * exponents.values))
  return _tell_apart(terms, np.concatenate(values))


def vocabulary(x: np.ndarray, most: int) -> Words:
  """Returns the terms for a problem with the columns of x, [n, in].

  Args:
    x: Values of the variables.
    most: How many terms, about; the simplest ones.
  """
  # The extremes show most of what is not finite.
  ends = [x.argmin(0), x.argmax(0)]
  spread = np.linspace(0, len(x) - 1, _ROWS).astype(int)
  few = x[np.unique(np.concatenate([*ends, spread]))]
  recipes = _recipes(few, most).first(int(_SPARE * most))
  if most > _FEW:
    singles = monomials(few, 1.0, (1,))
    raised = powers(join(singles, sums(singles)), singles)
    recipes, most = join(recipes, raised), most + len(raised.terms)
  with np.errstate(all='ignore'):
    values = np.reshape([term.make(x.T, False) for term in recipes.terms],
                        (len(recipes.terms), len(x)))
  words = Words(recipes.terms, values, recipes.costs)
  return words.pick(np.flatnonzero(_sound(values))[:most])


def _recipes(x: np.ndarray, most: int) -> Words:
  """Returns the terms with their values on a few rows."""
  inputs = x.shape[1]
  exponents: tuple[float, ...] = (
      _EXPONENTS if inputs <= 4 else _EXPONENTS[:6])
  limit = {1: 6.0, 2: 5.2, 3: 4.6}.get(inputs, 4.0 if inputs < 6 else 3.2)
  if inputs == 1:
    exponents += _MANY_EXPONENTS
  share = min(1.0, most / 2000)
  simple = monomials(x, limit if share > 0.3 else 0.8 * limit, exponents)

  def some(words, count):
    return words.first(max(int(count * share**0.5), 3))

  tiny = some(simple, {1: 4, 2: 10, 3: 14}.get(inputs, 18))
  added = sums(some(simple, 20))
  functions = curves(tiny, len(_HALVES) if inputs <= 2 else 3)
  rooted = roots(some(added, most // 6))
  mixed = products(some(simple, 12), some(
      join(functions, added, rooted), 600), 6.0 if inputs < 4 else 4.5)
  outer = curves(some(added, 24), 2)
  waves = products(
      some(simple, 60), curves(some(simple, inputs + 2), 1), 7.0)
  return join(simple, added, functions, rooted, outer, mixed, waves)
