"""What the functions on edges are made of: B-splines, or others in their place.

A layer knows its basis by name. Each has grid + order functions of an input on
the interval from the first to the last interior knot, so that arrays have the
same shapes for all of them, and a grid that moves moves them all. One protocol
says what a layer needs: values with their derivatives, coefficients that fit,
coefficients after the grid has moved or become finer.

B-splines are local and follow uneven grids; the others look at the ends of the
grid alone.
"""

from collections.abc import Mapping
from typing import Any
from typing import get_args
from typing import Literal
from typing import Protocol

import jax
import numpy as np

from kan_jax.splines import _global_bases
from kan_jax.splines import _polynomials
from kan_jax.splines import _refit
from kan_jax.splines import bsplines

Name = Literal['bspline', 'chebyshev', 'radial']


class Basis(Protocol):
  """Functions of each input, grid + order of them, that edges combine.

  Attributes:
    name: Its name.
    outsides: What it may do beyond its grid; see `values`.
    refines: Whether coefficients on a finer grid give the same functions.
  """

  @property
  def name(self) -> Name: ...

  @property
  def outsides(self) -> tuple[bsplines.Outside, ...]: ...

  @property
  def refines(self) -> bool: ...

  def places(self, knots: jax.Array, order: int) -> tuple[jax.Array, ...]:
    """Returns arrays [in, ...] for `values`, made once for many of its calls.

    Args:
      knots: Strictly increasing knots, [in, grid + 2 * order + 1]. They count
        as constants everywhere.
      order: Degree of the splines; for others, how many functions there are
        besides one for each interval.
    """

  def values(
      self, x: jax.Array, *places: jax.Array, order: int, derivative: int = 0,
      outside: bsplines.Outside = 'zero') -> jax.Array:
    """Evaluates the functions of every input, or a derivative of them.

    Args:
      x: Inputs, [in, n].
      *places: Knots alone, or what `places` made of them.
      order: See `places`.
      derivative: Which derivative with respect to `x`; 0 is the value.
      outside: What the functions do beyond the grid [lo, hi]. 'zero' falls to
        zero, B-splines and radial functions as they do by themselves. 'clamp'
        keeps the value at the nearer end, 'linear' goes on along the tangent
        there, 'polynomial' with the piece of the nearer end.

    Returns:
      [in, grid + order, n], finite for all finite `x`, and differentiable in
      `x` any number of times.
    """

  def points(self, knots: jax.Array, order: int) -> jax.Array:
    """Returns points of each grid that decide a smooth function, [in, p]."""

  def fit(
      self, x: jax.Array, y: jax.Array, knots: jax.Array,
      order: int) -> jax.Array:
    """Fits coefficients [in, grid + order, out] to samples by least squares.

    Args:
      x: Samples of each input, [n, in], within its grid.
      y: Wanted values on each edge, [n, in, out].
      knots: See `places`.
      order: See `places`.
    """

  def refit(
      self, x: jax.Array, knots: jax.Array, coef: jax.Array,
      new_knots: jax.Array, order: int, *,
      outside: bsplines.Outside = 'zero') -> jax.Array:
    """Returns coefficients on `new_knots` that keep the function of each edge.

    Args:
      x: Samples, [n, in].
      knots: Old knots.
      coef: Old coefficients, [in, grid + order, out].
      new_knots: New knots, of the shape of the old ones.
      order: See `places`.
      outside: See `values`.
    """

  def refine(
      self, knots: jax.Array, coef: jax.Array, order: int,
      new_knots: jax.Array, parents: np.ndarray) -> jax.Array:
    """Returns coefficients of the same functions on a finer grid, if it can.

    Args:
      knots: Old knots.
      coef: Old coefficients, [in, grid + order, out].
      order: See `places`.
      new_knots: New knots, with the same ends.
      parents: For each new interval, the old one that it is a part of.

    Returns:
      [in, len(parents) + order, out].
    """


class _BSplines:
  """See `bsplines`; everything it does is done there."""
  name: Literal['bspline'] = 'bspline'
  outsides = get_args(bsplines.Outside)
  refines = True

  def places(self, knots: jax.Array, order: int) -> tuple[jax.Array, ...]:
    return knots, _polynomials.tabulate(knots, order)

  def values(
      self, x: jax.Array, *places: jax.Array, order: int, derivative: int = 0,
      outside: bsplines.Outside = 'zero') -> jax.Array:
    # Named only if they differ from the default, as in other calls: jit traces
    # a call anew that is spelled in another way.
    options: dict[str, Any] = dict(zip(('table',), places[1:], strict=False))
    if derivative:
      options['derivative'] = derivative
    return bsplines.basis_by_input(
        x, places[0], order, outside=outside, **options)

  def points(self, knots: jax.Array, order: int) -> jax.Array:
    return bsplines.interior(knots, order)

  def fit(
      self, x: jax.Array, y: jax.Array, knots: jax.Array,
      order: int) -> jax.Array:
    return bsplines.fit_coef(x, y, knots, order)

  def refit(
      self, x: jax.Array, knots: jax.Array, coef: jax.Array,
      new_knots: jax.Array, order: int, *,
      outside: bsplines.Outside = 'zero') -> jax.Array:
    return _refit.refit(x, knots, coef, new_knots, order, outside)

  def refine(
      self, knots: jax.Array, coef: jax.Array, order: int,
      new_knots: jax.Array, parents: np.ndarray) -> jax.Array:
    return bsplines.insert_knots(knots, coef, order, new_knots, parents)


_BASES: Mapping[str, Basis] = {basis.name: basis for basis in (
    _BSplines(), _global_bases.Chebyshev(), _global_bases.Radial())}


def find(name: Name) -> Basis:
  """Returns the basis of a name; raises a ValueError if there is none."""
  if not isinstance(name, str) or name not in _BASES:
    raise ValueError(f'`basis` is one of {", ".join(_BASES)}; got {name!r}.')
  return _BASES[name]


def check(name: Name, outside: bsplines.Outside) -> None:
  """Raises a ValueError unless a basis is known and goes on in this way."""
  bsplines.check_outside(outside)
  allowed = find(name).outsides
  if outside not in allowed:
    raise ValueError(
        f'`outside` is one of {", ".join(allowed)} for the `basis` {name!r}; '
        f'got {outside!r}.')


def check_refine(name: Name) -> None:
  """Raises a ValueError if a finer grid cannot keep functions of a basis."""
  if not find(name).refines:
    allowed = ' or '.join(
        repr(other) for other, basis in _BASES.items() if basis.refines)
    raise ValueError(
        f'`basis` {name!r} cannot be refined, since more of its functions do '
        'not repeat the same curves: begin with a larger `grid`, or take '
        f'{allowed}.')
