"""Closed forms of a problem: words, sums of curves, single curves."""

import numpy as np
import sympy

from kan_jax.symbolic import _additive
from kan_jax.symbolic import _curves
from kan_jax.symbolic import _links
from kan_jax.symbolic import _pairs
from kan_jax.symbolic import _polynomials
from kan_jax.symbolic import _problems
from kan_jax.symbolic import _record
from kan_jax.symbolic import _terms

_SCAN_ROWS = 120
_ADDITIVE = 3e-3  # Relative error of splines whose functions are looked for.
# Times the noise that formulas may leave on the few hundred rows of a scan.
_LEFT = 1.2
_NOISY_CURVES = 8  # Curves of one variable that are offered under noise.
# Rates of damping that are tried, in half ranges, and share of the target that
# these may leave.
_RATES, _ROUGH = (-4.0, -2.5, -1.6, -0.9, -0.4, 0.4, 0.9, 1.6, 2.5), 0.3
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
      800 if count < 500 else 240)]
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
  """Tries polynomials, and sums of one function of each variable."""
  rows = search.rows
  if len(problem.exprs) > 1 and not search.noisy():
    _solve_polynomials(search, problem)
    if search.exact():
      return
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
          search.offer(_write(problem, link, inner))
          if search.exact():
            return
    if search.exact():
      return


def _solve_polynomials(search, problem):
  """Tries polynomials of several terms that are exact."""
  part = search.rows.train
  for link in _links.LINKS[:6]:
    response = problem.respond(link)
    if response is None or search.late():
      continue
    found = _polynomials.fit(
        problem.columns[part], *(values[part] for values in response))
    if found is not None:
      with sympy.evaluate(False):
        inner = found.write(problem.exprs)
      search.offer(_write(problem, link, inner))
      return


def _solve_curve(search, problem, link, target, weights):
  """Tries functions of a single variable with numbers of any value."""
  part = search.rows.train
  data = problem.columns[part, 0], target[part], weights[part]
  powers = (0, 1, -1) if link.name in ('y', '1/y') else (0,)
  matches = _curves.match(*data, powers=powers)
  if data[0].min() > 0:
    for inner in ('log z', '1/z'):
      matches += _curves.match(*data, powers=powers[:2], inner=inner,
                               curves=_curves.GROWTH)
  noisy = search.noisy()
  # Under noise many curves are as good as the law's; the short ones come first.
  matches.sort(key=lambda match: match.merit(len(part)) if noisy
               else match.left)
  total = np.mean((data[2] * data[1])**2)
  for match in matches[:_NOISY_CURVES if noisy else 3]:
    size = np.sqrt(match.left * total) / search.scale
    if size < max(_LEFT * search.noise, 1e-5):
      with sympy.evaluate(False):
        written = match.write(problem.exprs[0])
      search.offer(_write(problem, link, written))
      if search.over() or search.exact():
        return
  if link.name == 'y':
    # The rates are rough; the fit of all numbers moves them.
    waves = _curves.match(*data, rates=_RATES, curves=_curves.WAVES)
    for match in waves[:2]:
      if match.left < _ROUGH:
        search.offer(_write(problem, link, match.write(problem.exprs[0])))


def _solve_link(search, problem, link, words, target, weights):
  """Tries pairs of words for T of the target on some rows."""
  noisy = search.noisy()
  guesses = _pairs.scan(words, target, weights, rows=len(target))
  # Rounding may leave less than nothing.
  least = max(min((guess.share for guess in guesses), default=0), 1e-12)
  total = np.mean((weights * target)**2)
  tried = 0
  for guess in guesses:
    size = np.sqrt(max(guess.share, 0) * total) / search.scale
    if search.found and (size > max(_LEFT * search.noise, 1e-6) or (
        noisy and guess.share > _LEFT * least)):
      continue
    tried += 1
    if search.over() or tried > (
        8 if search.noise < _problems.CLEAN else 12):
      break
    coef = guess.coefficients(words, target, weights)
    with sympy.evaluate(False):
      inner = sum(
          sympy.Float(float(c), 17) * expr for c, expr in zip(
              coef, guess.write(words, problem.exprs), strict=True))
    found = search.offer(_write(problem, link, inner))
    if found is not None and found.overall < _record.EXACT:
      return


def _write(
    problem: _problems.Problem, link: _links.Link,
    inner: sympy.Expr) -> sympy.Expr:
  """Returns the formula of y, not evaluated."""
  with sympy.evaluate(False):
    return problem.offset + problem.factor * link.to_sympy(inner)
