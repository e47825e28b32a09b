"""Exact polynomials of a few terms, which pairs of terms do not reach."""

from typing import NamedTuple

import numpy as np
import sympy

from kan_jax.symbolic import _surfaces

_TERMS, _DEGREE = 130, 4  # Of the polynomial that is fitted.
_KEPT = 10  # Terms of one that is offered.
_EXACT = 1e-9  # Relative error that is none.
_SMALL = 1e-8  # Size of terms, relative to the largest, that are none.


class Polynomial(NamedTuple):
  """A sum of products of powers: powers [terms, in], coefficients [terms]."""
  powers: np.ndarray
  coef: np.ndarray

  def write(self, exprs: tuple[sympy.Expr, ...]) -> sympy.Expr:
    return sympy.Add(*(
        sympy.Float(float(c), 17) * sympy.Mul(*(
            expr**int(p) for expr, p in zip(exprs, row, strict=True) if p))
        for c, row in zip(self.coef, self.powers, strict=True)))


def fit(
    x: np.ndarray, target: np.ndarray,
    weights: np.ndarray) -> Polynomial | None:
  """Returns the polynomial that explains a target but for rounding.

  Args:
    x: Columns, [n, in].
    target: What is to be explained, [n].
    weights: Weights of the errors, [n].

  Returns:
    None where none of degree 4 and of at most 10 terms does.
  """
  powers = _surfaces.terms(x.shape[1], min(_TERMS, len(x) // 4))
  powers = powers[powers.sum(1) <= _DEGREE]
  goal = _EXACT * np.linalg.norm(weights * target)
  # Twice: rounding in the first fit hides what is small.
  for _ in range(3):
    design = weights[:, None] * np.prod(x[:, None] ** powers, -1)
    size = np.linalg.norm(design, axis=0)
    if not np.isfinite(size).all() or (size == 0).any():
      return None
    coef = np.linalg.lstsq(design / size, weights * target, rcond=None)[0]
    if np.linalg.norm(design @ (coef / size) - weights * target) > goal:
      return None
    kept = np.abs(coef) > _SMALL * np.abs(coef).max()
    if kept.all():
      return Polynomial(powers, coef / size) if len(coef) <= _KEPT else None
    powers = powers[kept]
  return None
