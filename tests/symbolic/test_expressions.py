"""Expressions as functions of arrays and as LaTeX, whatever their names."""

import io
import keyword

from absl.testing import parameterized
import jax
from matplotlib import figure
import numpy as np
import sympy

from kan_jax.symbolic import expressions
from kan_jax.symbolic import simplify

# What the printed code calls, or what means something to Python or to sympy.
_NAMES = (
    'sin', 'cos', 'exp', 'log', 'sqrt', 'abs', 'pi', 'E', 'I', 'S', 'N', 'oo',
    'lambda', 'None', 'numpy', 'jax', 'jnp', 'x0', 'x_0', '_Dummy_1',
    'mass (kg)', '2', 'a b', '', "it's", 'x-y', 'größe')


class LambdifyTest(parameterized.TestCase):

  @parameterized.product(name=_NAMES, backend=('numpy', 'jax'))
  def test_names(self, name, backend):
    """Inputs hide no functions and no numbers."""
    a, b = sympy.Symbol(name), sympy.Symbol('b')
    expr = (sympy.sin(a) + sympy.exp(b) + sympy.log(a + 2) + sympy.pi * a
            + sympy.sqrt(b) * abs(a) + sympy.cos(a) + sympy.exp(1) * sympy.exp(
                b) / sympy.sqrt(b))
    x, y = 0.7, 1.3
    expected = (np.sin(x) + np.exp(y) + np.log(x + 2) + np.pi * x
                + np.sqrt(y) * abs(x) + np.cos(x)
                + np.exp(1) * np.exp(y) / np.sqrt(y))
    call = expressions.lambdify([expr], [name, 'b'], backend=backend)
    np.testing.assert_allclose(
        call(np.array([[x, y]])), [[expected]], rtol=1e-6)

  def test_all_at_once(self):
    """Also where names are keywords, and where parts are computed once."""
    names = [*_NAMES, *keyword.kwlist]
    names = list(dict.fromkeys(names))
    symbols = [sympy.Symbol(name) for name in names]
    expr = sum(sympy.sin(symbol)**2 + sympy.sin(symbol) for symbol in symbols)
    x = np.random.default_rng(0).normal(size=(5, len(names)))
    np.testing.assert_allclose(
        expressions.lambdify([expr], names)(x)[:, 0],
        (np.sin(x)**2 + np.sin(x)).sum(1))

  def test_symbols(self):
    """A string stands for every symbol of that name, a symbol for itself."""
    plain, real = sympy.Symbol('u'), sympy.Symbol('u', real=True)
    for name, symbol in (('u', plain), ('u', real), (real, real)):
      call = expressions.lambdify([symbol**2], [name])
      np.testing.assert_array_equal(call(np.array([3.0])), [9])
    with self.assertRaisesRegex(ValueError, '`expressions` have u,.*none of'):
      expressions.lambdify([plain], [real])

  def test_tidy_and_round(self):
    """Also where names are functions."""
    sin = sympy.Symbol('sin')
    x = np.linspace(1, 2, 9)[:, None]
    tidy = simplify.tidy(sympy.sin(3.14159265359 * sin), ['sin'], x, 1e-6)
    self.assertEqual(tidy, sympy.sin(sympy.pi * sin))
    short = simplify.round_digits(sympy.sin(1.2345 * sin), 3, ['sin'], x)
    self.assertEqual(short, sympy.sin(sympy.Float(1.23, 15) * sin))

  def test_factors_beyond_floats(self):
    """Of exp(5 * (x - 1000)), sympy makes 1e-2172 exp(5 x)."""
    x = sympy.Symbol('x')
    grown = sympy.exp(5.0 * x - 5000.0)
    call = expressions.lambdify([2.0 * grown + 1, 1 / (1 + grown)], ['x'])
    points = np.array([[1000.0], [1000.1], [900.0]])
    expected = np.exp(5 * (points - 1000))
    np.testing.assert_allclose(
        call(points), np.concatenate([2 * expected + 1, 1 / (1 + expected)], 1))

  def test_errors(self):
    with self.assertRaisesRegex(ValueError, '`names` or `inputs`'):
      expressions.lambdify([])
    with self.assertRaisesRegex(ValueError, "`backend`.*got 'torch'"):
      expressions.lambdify([], inputs=2, backend='torch')
    with self.assertRaisesRegex(ValueError, r"`names`.*2 inputs; got \['a', "):
      expressions.lambdify([sympy.Symbol('a')], ['a', 'a'])
    with self.assertRaisesRegex(ValueError, '`expressions` have b, c, which'):
      expressions.lambdify(list(sympy.symbols('a b c')), ['a'])

  def test_in_a_program(self):
    call = expressions.lambdify(
        [sympy.Symbol('sin')**2], ['sin'], backend='jax')
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda x: call(x)[0]))(np.ones(1)), [2])


class LatexTest(parameterized.TestCase):

  @parameterized.parameters(
      ('Area (m^2)', r'\text{Area (m\textasciicircum{}2)}'),
      ('a_b', 'a_{b}'), ('50%', r'\text{50\%}'),
      ('x~y', r'\text{x\textasciitilde{}y}'), ('_q', r'\text{\_q}'),
      ('a_', r'\text{a\_}'), ('a__b', r'\text{a\_\_b}'),
      ('_', r'\text{\_}'), ('x_0', 'x_{0}'), ('x1', 'x_{1}'),
      ('x_train_2', 'x_{train,2}'), ('mass', 'mass'),
      ('alpha', r'\alpha'), ('x_alpha', r'x_{\alpha}'), ('pi', 'pi'),
      ('descr', 'descr'), ('xnorm', 'xnorm'), ('lambda', r'\lambda'),
      ('a\\b', r'\text{a\textbackslash{}b}'), ('{', r'\text{\{}'),
      ('R&D #1', r'\text{R\&D \#1}'), ('$', r'\text{\$}'),
      ('a\n\tb', r'\text{a  b}'), ('größe', r'\text{größe}'))
  def test_names(self, name, expected):
    self.assertEqual(expressions.latex(sympy.Symbol(name)), expected)

  def test_expression(self):
    area, q, x = (sympy.Symbol(name) for name in ('Area (m^2)', '_q', 'x_0'))
    self.assertEqual(
        expressions.latex(sympy.sin(area**2) * q / x),
        r'\frac{\text{\_q} \sin{\left(\text{Area (m\textasciicircum{}2)}^{2} '
        r'\right)}}{x_{0}}')

  @parameterized.parameters(
      'a_b', '50%', '_q', 'a__b', 'x_1', 'alpha', 'm{', 'R&D', 'x_train_2')
  def test_compiles(self, name):
    """matplotlib's TeX knows no text symbols, but braces and subscripts."""
    symbol = sympy.Symbol(name)
    text = expressions.latex(sympy.sqrt(symbol**2 * sympy.Symbol('x_0') + 1))
    canvas = figure.Figure()
    canvas.text(0, 0, f'${text}$')
    canvas.savefig(io.BytesIO(), format='svg')


class MathmlTest(parameterized.TestCase):

  def test_names_are_escaped(self):
    text = expressions.mathml('y', sympy.Symbol('a<b & c') - 1)
    self.assertEqual(
        text, '<mrow><mi>y</mi><mo>=</mo><mrow><mi>a&lt;b &amp; c</mi>'
        '<mo>&minus;</mo><mn>1</mn></mrow></mrow>')

  def test_what_browsers_know(self):
    """Parentheses are signs, whatever sympy writes; products have a dot."""
    x = sympy.Symbol('x')
    text = expressions.mathml(
        'y', 2 * sympy.sin(sympy.Abs(x + 1)) * sympy.exp(x))
    self.assertNotIn('mfenced', text)
    for sign in '(|)':
      self.assertIn(f'<mo>{sign}</mo>', text)
    self.assertIn('<mi>e</mi>', text)
    self.assertIn('&#xB7;', text)
