"""The benchmark of laws: its rows, its judgment."""

from absl.testing import parameterized
from helpers import command
import numpy as np
import sympy

from experiments.accuracy import law_file
from experiments.accuracy import laws

_LAW, = law_file.parse('free fall | g*t**2/2 | g 9 10 ; t 0 2')


class LawsTest(parameterized.TestCase):

  def test_rows(self):
    x, y, names = laws.rows_of(_LAW, 400, 0.1, 2, seed=1)
    self.assertEqual(names, ['g', 't', 'dummy_0', 'dummy_1'])
    self.assertEqual(x.shape, (400, 4))
    exact = x[:, 0] * x[:, 1]**2 / 2
    # 400 draws tell a deviation to 4 %.
    np.testing.assert_allclose((y - exact).std() / exact.std(), 0.1, rtol=0.15)

  @parameterized.parameters(
      ('g*t**2/2', 0, True), ('4.9*t**2', 0, False),
      ('1.0004*g*t**2/2', 0, False), ('1.0004*g*t**2/2', 0.01, True),
      ('g*t**2/2 + 0*sin(cos(exp(cos(g))))', 0, True))
  def test_judgment(self, text, noise, found):
    expression = sympy.sympify(text)
    self.assertEqual(
        laws.judge(_LAW, expression, ['g', 't'], noise)[0], found)

  def test_a_long_formula_does_not_count(self):
    g, t = sympy.symbols('g t')
    rounding = 1e-20 * sympy.sin(sympy.cos(g + t * g + g**3 * t) + t**4)
    found, error, size, of_law = laws.judge(
        _LAW, g * t**2 / 2 + rounding, ['g', 't'], 0)
    self.assertFalse(found)
    self.assertLess(error, 1e-15)
    self.assertGreater(size, 3 * of_law)

  def test_what_goes_wrong_is_a_row(self):
    broken = law_file.parse('broken | 0*x | x -2 -1')[0]
    result = laws.attempt(broken, 0, 60, 0, 0, 5)
    self.assertFalse(result.found)
    self.assertIn('Error', result.expression)
    self.assertIn('| broken | 0 of 1 | inf |', laws.table([result], 0, 0))
    self.assertIn('| found, noise 0.1, 2 dummies |', laws.table([], 0.1, 2))

  def test_the_program(self):
    done = command.call('accuracy.laws', '--only=gas,pendulum', '--rows=300')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('found 2 of 2', done.stdout)
    self.assertIn('| `n*r*t/(-b + v)` |', done.stdout)
