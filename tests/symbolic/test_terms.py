"""Vocabularies, and formulas that pairs of their terms make."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import _links
from kan_jax.symbolic import _pairs
from kan_jax.symbolic import _terms

_RNG = np.random.default_rng(0)
_X = _RNG.uniform(1, 2, (80, 2))
_SYMBOLS = sympy.symbols('a b')


class TermsTest(parameterized.TestCase):

  @parameterized.parameters(1, 2, 3)
  def test_expressions_have_the_values(self, inputs):
    x = _RNG.uniform(1, 2, (30, inputs))
    symbols = sympy.symbols(f'z:{inputs}')
    words = _terms.vocabulary(x, 300)
    self.assertLen(words.terms, 300)
    written = [term.build(symbols) for term in words.terms]
    values = sympy.lambdify(symbols, written)(*x.T)
    np.testing.assert_allclose(np.stack(values), words.values, rtol=1e-9)

  def test_no_term_twice(self):
    words = _terms.vocabulary(_X, 300)
    shares = words.values / words.values[:, :1]
    close = np.abs(shares[:, None] - shares[None]).max(-1) < 1e-9
    self.assertEqual(close.sum(), len(shares))

  def test_signs(self):
    """Columns that change sign get no roots, those through 0 no inverses."""
    x = np.linspace(-1, 1, 21)[:, None]
    words = _terms.monomials(x, 5, (1, 2, -1, 0.5))
    built = {term.build((_SYMBOLS[0],)) for term in words.terms}
    self.assertEqual(built, {_SYMBOLS[0], _SYMBOLS[0]**2})


class PairsTest(parameterized.TestCase):

  @parameterized.parameters(
      lambda a, b: 3 * a / b, lambda a, b: a * (2 - 5 * b**2),
      lambda a, b: 2 * a + 3 / b, lambda a, b: 1 + 2 * a + 3 / b,
      lambda a, b: a + 2 * b + 3 * a * b - 4 * a**2)
  def test_exact_sums(self, fn):
    words = _terms.vocabulary(_X, 200)
    target = fn(*_X.T)
    weights = _RNG.uniform(1, 2, len(_X))
    best = _pairs.scan(words, target, weights, rows=80)[0]
    coef = best.coefficients(words, target, weights)
    expr = sum(c * e for c, e in zip(
        coef, best.write(words, _SYMBOLS), strict=True))
    np.testing.assert_allclose(
        sympy.lambdify(_SYMBOLS, expr)(*_X.T), target, rtol=1e-9)

  def test_no_target(self):
    words = _terms.vocabulary(_X, 50)
    self.assertEqual(
        _pairs.scan(words, np.zeros(80), np.ones(80), rows=80), [])


class LinksTest(parameterized.TestCase):

  @parameterized.parameters(*_links.LINKS)
  def test_inverse_and_slope(self, *link):
    link = _links.Link(*link)
    y = np.linspace(0.2, 0.9, 9)
    self.assertTrue(link.allowed(y))
    np.testing.assert_allclose(link.undo(link.apply(y)), y, rtol=1e-12)
    symbol = sympy.Symbol('t', positive=True)
    np.testing.assert_allclose(
        sympy.lambdify(symbol, link.to_sympy(symbol))(link.apply(y)), y,
        rtol=1e-12)
    # Differences of second order, of a step of 1e-6.
    slope = (link.apply(y + 1e-6) - link.apply(y - 1e-6)) / 2e-6
    np.testing.assert_allclose(link.slope(y), slope, rtol=1e-6)

  def test_what_is_allowed(self):
    y = np.array([-30.0, 5])
    names = [link.name for link in _links.LINKS if link.allowed(y)]
    self.assertEqual(names, ['y', '1/y'])
