"""Closed forms of a problem: words, sums of curves, single curves."""

import numpy as np
import sympy

from kan_jax.symbolic import _additive
from kan_jax.symbolic import _curves
from kan_jax.symbolic import _links
from kan_jax.symbolic import _pairs
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _record
from kan_jax.symbolic import _terms

_SCAN_ROWS = 120
_ADDITIVE = 3e-3  # Relative error of splines whose functions are looked for.
_MOST_INPUTS = 6


def solve_words(
    search: _record.Record, problem: _problems.Problem, count: int,
    part: slice) -> None:
  """Tries the words of a small vocabulary on a problem.

  Args:
    search: What was found so far.
    problem: The problem.
    count: How many words are tried.
    part: Which of the links are tried.
  """
  inputs = len(problem.exprs)
  if inputs > _MOST_INPUTS:
    return
  train = search.rows.train
  few = train[:_SCAN_ROWS if search.noise < _problems.CLEAN else (
      1000 if count < 500 else 400)]
  with np.errstate(all='ignore'):
    words = _terms.vocabulary(problem.columns[few], count)
  for link in _links.LINKS[part]:
    if search.late():
      return
    response = problem.respond(link)
    if response is not None:
      _solve_link(
          search, problem, link, words, *(values[few] for values in response))
    if search.exact():
      return


def solve_sums(search: _record.Record, problem: _problems.Problem) -> None:
  """Tries sums of one function of each variable."""
  rows = search.rows
  for link in _links.LINKS:
    if search.late():
      return
    response = problem.respond(link)
    if response is None:
      continue
    target, weights = response
    if len(problem.exprs) == 1:
      _solve_curve(search, problem, link, target, weights)
    else:
      fitted = _additive.fit(problem.columns, target, weights, *rows)
      if fitted.error < max(_ADDITIVE, 1.3 * search.noise) * search.scale:
        for inner in _additive.recognize(fitted, problem.exprs):
          search.offer(problem.factor * link.to_sympy(inner))
          if search.exact():
            return
    if search.exact():
      return


def _solve_curve(search, problem, link, target, weights):
  """Tries functions of a single variable with numbers of any value."""
  part = search.rows.train
  z = problem.columns[part, 0]
  powers = (0, 1, -1) if link.name in ('y', '1/y') else (0,)
  matches = _curves.match(z, target[part], weights[part], powers=powers)
  total = np.mean((weights * target)[part]**2)
  for match in matches[:3]:
    size = np.sqrt(match.left * total) / search.scale
    if size < max(3 * search.noise, 1e-5):
      search.offer(problem.factor * link.to_sympy(
          match.write(problem.exprs[0])))


def _solve_link(search, problem, link, words, target, weights):
  """Tries pairs of words for T of the target on some rows."""
  guesses = _pairs.scan(words, target, weights, rows=len(target))
  total = np.mean((weights * target)**2)
  tried = 0
  for guess in guesses:
    size = np.sqrt(max(guess.share, 0) * total) / search.scale
    if size > max(1.5 * search.noise, 1e-6) and search.found:
      continue
    tried += 1
    if tried > (8 if search.noise < _problems.CLEAN else 12):
      break
    coef = guess.coefficients(words, target, weights)
    inner = sum(
        sympy.Float(float(c), 17) * expr for c, expr in zip(
            coef, guess.write(words, problem.exprs), strict=True))
    found = search.offer(problem.factor * link.to_sympy(inner))
    if found is not None and found.overall < _record.EXACT:
      return
