"""Recognizes curves of one variable: z^p exp(q z) (c f(a z + b) + d).

c and d solve a linear least squares problem for given a and b; these two start
from a grid and move by Gauss-Newton steps on what is left (variable projection,
Golub and Pereyra 1973).
"""

from collections.abc import Callable
from collections.abc import Sequence
import itertools
from typing import Any
from typing import NamedTuple

import numpy as np
import sympy

_FEW, _SOME = 60, 300  # Rows for the grid and for the steps.
_STARTS = 6
_STEPS = 25
_WORTH, _IDLE = 0.999, 3  # Less is no gain; so many steps without one.
_BITS = 4.0  # Of description that an operation costs.
_FLAT = 0.1
_STEEP = np.geomspace(0.15, 14, 24)  # a, in half ranges of z.
_SHIFTS = np.linspace(-np.pi, np.pi, 10)[:-1]
_POLES = 1 + np.geomspace(0.003, 8, 14)


class Curve(NamedTuple):
  """A function of one variable.

  Attributes:
    name: What it is called.
    fn: The function of an array.
    slope: Its derivative.
    to_sympy: The function of an expression.
    kind: 'wave' where steepness and shift matter, 'power' where the shift alone
      does, 'growth' where the steepness alone does.
    cost: Operations.
  """
  name: str
  fn: Callable[[np.ndarray], np.ndarray]
  slope: Callable[[np.ndarray], np.ndarray]
  to_sympy: Callable[[Any], Any]
  kind: str
  cost: float


def _power(exponent: sympy.Rational) -> Curve:
  p = float(exponent)
  return Curve(
      f'x^{exponent}', lambda z: z**p, lambda z: p * z**(p - 1),
      lambda z: z**exponent, 'power', 0.5 + abs(p) / 4)


CURVES = (
    *(_power(sympy.Rational(*p)) for p in (
        (1, 2), (-1, 1), (-1, 2), (-2, 1), (3, 2), (-3, 2), (2, 1), (3, 1),
        (-3, 1))),
    Curve('log', np.log, lambda z: 1 / z, sympy.log, 'power', 1),
    Curve('exp', np.exp, np.exp, sympy.exp, 'growth', 1),
    Curve('sin', np.sin, np.cos, sympy.sin, 'wave', 1),
    Curve('tan', np.tan, lambda z: np.cos(z)**-2.0, sympy.tan, 'wave', 2),
    Curve('tanh', np.tanh, lambda z: 1 - np.tanh(z)**2, sympy.tanh, 'wave', 2),
    Curve('arctan', np.arctan, lambda z: 1 / (1 + z**2), sympy.atan, 'wave', 2),
    Curve('arcsin', np.arcsin, lambda z: (1 - z**2)**-0.5, sympy.asin, 'wave',
          2),
    Curve('gaussian', lambda z: np.exp(-z**2),
          lambda z: -2 * z * np.exp(-z**2), lambda z: sympy.exp(-z**2), 'wave',
          3),
    Curve('cosh', np.cosh, np.sinh, sympy.cosh, 'wave', 2),
    Curve('1/(1 + x^2)', lambda z: 1 / (1 + z**2),
          lambda z: -2 * z / (1 + z**2)**2, lambda z: 1 / (1 + z**2), 'wave',
          3),
    Curve('1/sqrt(1 + x^2)', lambda z: (1 + z**2)**-0.5,
          lambda z: -z * (1 + z**2)**-1.5, lambda z: 1 / sympy.sqrt(1 + z**2),
          'wave', 3),
    Curve('sqrt(1 + x^2)', lambda z: (1 + z**2)**0.5,
          lambda z: z * (1 + z**2)**-0.5, lambda z: sympy.sqrt(1 + z**2),
          'wave', 3),
)


GROWTH = tuple(curve for curve in CURVES if curve.kind == 'growth')
WAVES = tuple(curve for curve in CURVES if curve.name == 'sin')


class Match(NamedTuple):
  """A curve that fits: z^power exp(rate z) (c f(a v + b) + d).

  Attributes:
    left: Share of the weighted sum of squares that is left.
    curve: The function.
    power: Power of z in front.
    numbers: a, b, c and d.
    rate: Rate of the exponential in front.
    inner: What v is: 'z', 'log z' or '1/z'.
  """
  left: float
  curve: Curve
  power: float
  numbers: tuple[float, float, float, float]
  rate: float = 0.0
  inner: str = 'z'

  def merit(self, rows: int) -> float:
    """Returns bits for the errors of so many rows, and for the operations."""
    numbers = {'wave': 2, 'power': 1, 'growth': 1}[self.curve.kind]
    return (0.5 * rows * np.log2(max(self.left, 1e-30))
            + _BITS * (self.curve.cost + 2 * numbers + (self.power != 0)))

  def write(self, z: sympy.Expr) -> sympy.Expr:
    """Returns the expression of a variable."""
    a, b, c, d = (sympy.Float(value, 17) for value in self.numbers)
    # The factor 1 and the shift 0 are part of the form.
    if abs(self.numbers[0]) == 1:
      a = sympy.Integer(int(self.numbers[0]))
    b = sympy.Integer(0) if self.numbers[1] == 0 else b
    front = z**sympy.Rational(round(2 * self.power), 2)
    if self.rate:
      front *= sympy.exp(sympy.Float(self.rate, 17) * z)
    inner = {'z': z, 'log z': sympy.log(z), '1/z': 1 / z}[self.inner]
    return front * (c * self.curve.to_sympy(a * inner + b) + d)


def _grid(kind: str, u: np.ndarray) -> np.ndarray:
  """Returns starts for a and b, [starts, 2], for u on [-1, 1]."""
  del u
  if kind == 'growth':
    steep = np.concatenate([_STEEP, -_STEEP])
    return np.stack([steep, 0 * steep], 1)
  if kind == 'power':
    return np.array([(sign, pole) for sign in (1.0, -1.0) for pole in _POLES])
  return np.array([(a, b) for a in _STEEP for b in _SHIFTS])


def _project(f, target, weights, base):
  """Fits c f + d times a base; returns errors, c and d, for each start."""
  w0 = weights * base
  e0 = w0 / np.linalg.norm(w0)
  f1 = w0 * f
  along = f1 @ e0
  f1 = f1 - along[:, None] * e0
  size = (f1**2).sum(1)
  t = weights * target
  t0 = t @ e0
  rest = t - t0 * e0
  c = (f1 @ rest) / np.where(size > 0, size, np.inf)
  d = (t0 - c * along) / np.linalg.norm(w0)
  return rest - c[:, None] * f1, c, d, f1, e0, w0


def _steps(curve, u, target, weights, base, points):
  """Moves a and b of each start; returns points, costs, c and d."""
  free = {'wave': (0, 1), 'power': (1,), 'growth': (0,)}[curve.kind]
  count = len(points)
  damping = np.full(count, 1e-3)
  cost, coef = np.full(count, np.inf), np.zeros((count, 2))
  slopes, kept = np.zeros((count, len(free), len(u))), np.zeros((count, len(u)))
  trial, idle = points.copy(), 0
  for _ in range(_STEPS):
    z = trial[:, :1] * u + trial[:, 1:]
    f, df = curve.fn(z), curve.slope(z)
    sound = np.isfinite(f).all(1) & np.isfinite(df).all(1)
    f, df = (np.where(sound[:, None], v, 0) for v in (f, df))
    errors, c, d, f1, e0, w0 = _project(f, target, weights, base)
    new = np.where(sound, (errors**2).sum(1), np.inf)
    better = new < cost
    damping = np.clip(np.where(better, damping / 5, damping * 6), 1e-12, 1e9)
    # A step that is too long says nothing; a short one that gains little does.
    idle += (better | (damping > 1e3)).any() and not (
        new < _WORTH * cost).any()
    cost = np.where(better, new, cost)
    if idle == _IDLE or not np.isfinite(cost).any():
      break
    points[better], kept[better] = trial[better], errors[better]
    coef[better] = np.stack([c, d], 1)[better]
    unit = f1 / np.maximum(np.linalg.norm(f1, axis=1, keepdims=True), 1e-300)
    for k, i in enumerate(free):
      g = w0 * c[:, None] * df * (u if i == 0 else 1)
      g = g - (g @ e0)[:, None] * e0
      g = g - (g * unit).sum(1, keepdims=True) * unit
      slopes[better, k] = g[better]
    trial = points.copy()
    trial[:, list(free)] += _move(slopes, kept, damping)
  return points, cost, coef


def _move(slopes, errors, damping):
  """Returns a damped Gauss-Newton step of each start, [starts, free]."""
  normal = slopes @ slopes.swapaxes(1, 2)
  right = (slopes @ errors[..., None])[..., 0]
  diagonal = np.einsum('sii->si', normal)
  added = damping[:, None] * diagonal + 1e-290
  normal = normal + added[:, :, None] * np.eye(slopes.shape[1])
  move = np.linalg.solve(normal, right[..., None])[..., 0]
  return np.where(np.isfinite(move), move, 0)


def match(
    z: np.ndarray, target: np.ndarray, weights: np.ndarray, *,
    powers: Sequence[float] = (0,), rates: Sequence[float] = (0,),
    inner: str = 'z', curves: Sequence[Curve] = CURVES) -> list[Match]:
  """Returns the best fit of each curve with each front, best first.

  Args:
    z: The variable, [n].
    target: What is to be explained, [n].
    weights: Weights of the errors, [n].
    powers: Powers of z in front that are tried.
    rates: Rates of an exponential in front that are tried, in half ranges of z.
    inner: What the curves are of: 'z', or 'log z' or '1/z' for z > 0.
    curves: Functions that are tried.
  """
  with np.errstate(all='ignore'):
    v = {'z': z, 'log z': np.log(np.abs(z)), '1/z': 1 / z}[inner]
  place = (v.min() + v.max()) / 2, (v.max() - v.min()) / 2
  order = np.argsort(z)
  some = order[np.linspace(0, len(z) - 1, min(_SOME, len(z))).astype(int)]
  few = slice(None, None, max(len(some) // _FEW, 1))
  u = (v[some] - place[0]) / place[1]
  aim = target[some], weights[some]
  total = float(((weights * target)[some]**2).sum())
  matches = []
  with np.errstate(all='ignore'):
    for power, rate in itertools.product(powers, rates):
      base = z[some]**power * np.exp(rate * u)
      if not np.isfinite(base).all():
        continue
      for curve in curves:
        found = _fit_curve(curve, u, *aim, base, few)
        if found is not None:
          point, cost, coef = found
          # exp(rate u) is exp(rate v / half) exp(-rate centre / half).
          coef = coef * np.exp(-rate * place[0] / place[1])
          matches.append(_in_units(
              cost / total, curve, power, point, coef, *place)._replace(
                  rate=float(rate / place[1]), inner=inner))
  return sorted(matches, key=lambda m: m.left)


def _fit_curve(curve, u, target, weights, base, few):
  """Returns the best point, its cost, c and d; None where there is none."""
  starts = _grid(curve.kind, u)
  f = curve.fn(starts[:, :1] * u[few] + starts[:, 1:])
  sound = np.isfinite(f).all(1)
  if not sound.any():
    return None
  errors = _project(np.where(sound[:, None], f, 0), target[few], weights[few],
                    base[few])[0]
  cost = np.where(sound, (errors**2).sum(1), np.inf)
  best = starts[np.argsort(cost)[:_STARTS]].copy()
  points, cost, coef = _steps(curve, u, target, weights, base, best)
  k = int(np.argmin(cost))
  flat = curve.kind != 'power' and abs(points[k, 0]) < _FLAT
  if flat or not np.isfinite(cost[k]):
    return None  # A flat piece of a curve says nothing about it.
  return points[k], cost[k], coef[k]


def _in_units(left, curve, power, point, coef, centre, half):
  """Returns a match with its numbers in the units of z."""
  a, b = point[0] / half, point[1] - point[0] * centre / half
  c, d = coef
  if curve.kind == 'power':
    # c (a z + b)^p = c a^p (z + b / a)^p, and the logarithm has a summand.
    size, sign = abs(a), float(np.sign(a))
    if curve.name == 'log':
      c, d, a, b = c, d + c * np.log(size), sign, b / size
    else:
      p = float(sympy.Rational(curve.name[2:]))
      c, a, b = c * size**p, sign, b / size
  elif curve.kind == 'growth':
    c, b = c * np.exp(b), 0.0
  return Match(float(left), curve, power,
               (float(a), float(b), float(c), float(d)))
