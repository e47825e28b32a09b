"""Laws from tables, by structure."""

from absl.testing import parameterized
import numpy as np
import sympy

from kan_jax.symbolic import _record
from kan_jax.symbolic import by_structure

_RNG = np.random.default_rng(0)


def _table(low, high, fn, rows=500):
  low = np.broadcast_to(low, len(high))
  x = _RNG.uniform(low, high, (rows, len(high)))
  return x, fn(*x.T)


class FindLawTest(parameterized.TestCase):

  @parameterized.parameters(
      # A power that is no whole number, and a number within a function.
      ((1, 1), (3, 4), lambda a, b: 2 * a**0.7 * np.exp(-0.3 * b),
       '2*a**(7/10)*exp(-3*b/10)'),
      # A difference of two columns, squared, in a denominator.
      ((1, 3, 1), (2, 4, 2), lambda a, b, c: a / (1 + (b - c)**2),
       'a/((b - c)**2 + 1)'),
      # Signs change, so no logarithm exists.
      ((-2, -2), (2, 2), lambda a, b: a * (1 - b**2), 'a*(1 - b**2)'))
  def test_without_noise(self, low, high, fn, expected):
    x, y = _table(low, high, fn)
    found = by_structure.find_law(x, y, names='abc'[:len(high)])
    self.assertTrue(found.reached)
    self.assertLess(found.chosen.relative, 1e-12)
    points = x[:20]
    names = 'abc'[:len(high)]
    values = sympy.lambdify(list(names), found.chosen.expression)(*points.T)
    np.testing.assert_allclose(values, y[:20], rtol=1e-9)
    # No longer than the formula as a person writes it, nearly.
    self.assertLessEqual(
        found.chosen.operations, sympy.sympify(expected).count_ops() + 3)

  def test_noise(self):
    x, y = _table((1, 1), (3, 4), lambda a, b: a / (1 + b), 1000)
    noisy = y + 0.02 * y.std() * _RNG.normal(size=len(y))
    found = by_structure.find_law(x, noisy, names=['a', 'b'])
    self.assertTrue(found.reached)
    # 200 rows tell the deviation of the noise to 5 %.
    np.testing.assert_allclose(found.noise, 0.02, rtol=0.2)
    values = sympy.lambdify(['a', 'b'], found.chosen.expression)(*x.T)
    self.assertLess(np.sqrt(np.mean((values - y)**2)), 0.003 * y.std())

  def test_what_polynomials_of_many_columns_do_not_see(self):
    """They took three columns of twelve for noise."""
    x, y = _table((-1,), (1,) * 12, lambda a, b, c, d, *_: (
        np.sin(2 * a * b) * c + d), 600)
    noisy = y + 0.01 * y.std() * _RNG.normal(size=len(y))
    found = by_structure.find_law(x, noisy)
    # 120 rows are held out; a fifth more than the noise is no chance.
    self.assertLess(found.chosen.relative, 0.012)
    self.assertTrue(found.reached)

  def test_what_is_left_is_no_noise(self):
    """Four columns act together, of which no formula is known."""
    x, y = _table((-2,), (2,) * 8, lambda a, b, c, d, *_: (
        a + np.sin(4 * np.abs(b)**1.3 + np.cos(3 * c)) * d), 800)
    found = by_structure.find_law(x, y, time_limit=1)
    self.assertFalse(found.reached)

  def test_nothing_but_noise(self):
    x = _RNG.uniform(size=(400, 7))
    found = by_structure.find_law(x, _RNG.normal(size=400))
    self.assertTrue(found.reached)
    self.assertEmpty(found.chosen.expression.free_symbols)

  def test_idle_columns_go_at_once(self):
    x, y = _table((0.5,), (2,) * 12, lambda a, b, c, *_: (
        np.sqrt(a**2 + b**2) * np.cos(c)), 600)
    lines = []
    found = by_structure.find_law(x, y, names=[
        f'z{i}' for i in range(12)], log=lines.append)
    self.assertLess(found.chosen.relative, 1e-12)
    self.assertIn('f(_z0, _z1, _z2)', lines[1])

  def test_the_front_falls(self):
    x, y = _table((1,), (3,), lambda a: np.sin(a) + 1 / a)
    found = by_structure.find_law(x, y, names=['a'])
    sizes = [one.operations for one in found.front]
    errors = [one.relative for one in found.front]
    self.assertEqual(sizes, sorted(sizes))
    self.assertEqual(errors, sorted(errors, reverse=True))
    self.assertEqual(found.chosen, found.front[-1])

  def test_an_interrupt_keeps_the_best(self):
    x, y = _table((1, 1), (3, 3), lambda a, b: a * b + np.exp(a / b**2))

    def log(line):
      lines.append(line)
      if len(lines) == 1:
        raise KeyboardInterrupt

    lines = []
    found = by_structure.find_law(x, y, log=log)
    self.assertTrue(found.interrupted)
    self.assertFalse(found.reached)
    self.assertIn('interrupted', lines[-1])

  def test_columns_that_say_nothing(self):
    x, y = _table((1,), (3,), lambda a: 2 * a)
    lines = []
    found = by_structure.find_law(
        np.concatenate([x, x, np.ones_like(x)], 1), y, names=['a', 'b', 'c'],
        log=lines.append)
    self.assertEqual(found.chosen.expression, 2 * sympy.Symbol('a'))
    self.assertEqual(lines[:2], [
        'b is the same as a: left out', 'c is constant: left out'])
    with self.assertRaisesRegex(ValueError, 'no column that varies'):
      by_structure.find_law(np.ones((60, 1)), y[:60])

  def test_a_long_table(self):
    x, y = _table((1,), (3,), lambda a: 2 * a, 30_000)
    lines = []
    found = by_structure.find_law(x, y, log=lines.append)
    self.assertEqual(found.chosen.relative, 0)
    self.assertEqual(lines[0], '20000 of 30000 rows, drawn at random')

  def test_digits_that_are_known(self):
    number = sympy.Float(0.512345)
    expr, text = by_structure.write_numbers(
        number * sympy.Symbol('a'), {number: 0.0032})
    self.assertEqual(str(expr), '0.5123*a')
    self.assertEqual(text, '0.5123 ± 0.0032')

  def test_front(self):
    def one(operations, relative):
      return by_structure.Formula(sympy.Integer(1), relative, operations)

    kept = by_structure.best_of(
        [one(3, .2), one(1, .5), one(2, .6), one(4, .1)])
    self.assertEqual([f.operations for f in kept], [1, 3, 4])


class SearchTest(parameterized.TestCase):

  def test_a_formula_counts_once(self):
    x, y = _table((1,), (3,), lambda a: 2 * a)
    search = _record.Record(x, y, ['a'], lambda line: None, np.inf)
    expr = sympy.Float(1.5) * search.symbols[0]
    self.assertLess(search.offer(expr).error, 1e-12)
    self.assertIsNone(search.offer(expr))
    self.assertTrue(search.satisfied())
