"""How long a formula is, without the time that sympy takes to say so."""

from collections.abc import Hashable

import sympy


def operations(expr: sympy.Expr) -> int:
  """Counts operations and functions, about as `count_ops` of sympy does.

  All numbers in a product count as one, as 1/(2 sqrt(pi)) is one number.
  Factors 1, summands 0 and powers 1 do not count.
  """
  if not expr.args or expr.is_number:
    return 0
  inner = sum(operations(argument) for argument in expr.args)
  if expr.is_Add:
    summands = sum(arg is not sympy.S.Zero for arg in expr.args)
    return inner + max(summands - 1, 0)
  if expr.is_Mul:
    factors = [arg for arg in expr.args if not arg.is_number]
    coefficient = [arg for arg in expr.args
                   if arg.is_number and arg is not sympy.S.One]
    joined = max(len(factors) - 1 + bool(coefficient), 0)
    # 1 / x has an operation for the line, and x / y has the same one.
    lines = sum(_is_below(factor) for factor in factors)
    return inner + joined - lines + (lines == len(factors) and not coefficient)
  if expr.is_Pow and expr.exp is sympy.S.One:
    return inner
  if expr.is_Pow and expr.exp.is_number and expr.exp.could_extract_minus_sign():
    return inner + (1 if expr.exp == -1 else 2)
  return inner + 1


def _is_below(factor: sympy.Expr) -> bool:
  """Whether a factor stands below the line."""
  return (factor.is_Pow and factor.exp.is_number
          and factor.exp.could_extract_minus_sign())


def canonical(expr: sympy.Expr) -> sympy.Expr:
  """Returns what sympy makes of an expression that it has not evaluated."""
  if not expr.args:
    return expr
  return expr.func(*(canonical(argument) for argument in expr.args))


def skeleton(expr: sympy.Expr) -> Hashable:
  """Returns what formulas share that differ in the digits of numbers alone."""
  if expr.is_Float:
    return f'{float(expr):.1e}'
  if not expr.args:
    return expr
  parts = [skeleton(argument) for argument in expr.args]
  if expr.is_Add or expr.is_Mul:
    return expr.func, frozenset(parts)
  return expr.func, tuple(parts)
