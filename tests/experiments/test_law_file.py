"""Formulas of laws are read and not run."""

from absl.testing import parameterized
import sympy

from experiments.accuracy import law_file


class ReadTest(parameterized.TestCase):

  @parameterized.parameters(
      'a*sin(pi*b)**2/2', '-a**(2/3) + 1.5e-3*sqrt(b)', '+(a - b)*exp(-a**2)')
  def test_reads_what_sympy_reads(self, text):
    self.assertEqual(law_file.read(text, 'ab'), sympy.sympify(text))

  def test_variables_come_first(self):
    names = ('pi', 'sin', 'I', 'lambd', 'S')
    read = law_file.read('pi*sin*I*S/lambd', names)
    self.assertEqual({str(s) for s in read.free_symbols}, set(names))

  @parameterized.parameters(
      ('__import__("os").getcwd()', "none of: numbers, the variables a, b"),
      ('a.real', 'none of'), ('a[0]', 'none of'), ('a if b else 1', 'none of'),
      ('"a"', 'none of'), ('True', 'none of'), ('2j', 'none of'),
      ('c + 1', "'c' is none of"), ('sin(a, b)', 'none of'),
      ('sin(a, evaluate=b)', 'none of'), ('a //b', 'none of'),
      ('a +', 'no formula'), ('a\0', 'no formula'), ('(' * 9999, 'no formula'),
      ('9**9**9**9', 'too large'), ('(9**300)**300', 'too large'),
      ('1/0 + a', 'not finite'), ('sqrt(-2)*a', 'not real'))
  def test_all_else_is_an_error(self, text, message):
    with self.assertRaisesRegex(ValueError, message):
      law_file.read(text, 'ab')


class ParseTest(parameterized.TestCase):

  def test_a_line_is_a_law(self):
    law, = law_file.parse('# a comment\n\nfall | g*t**2/2 | g 9 10 ; t 0 2\n')
    self.assertEqual(law.name, 'fall')
    self.assertEqual(law.ranges, {'g': (9, 10), 't': (0, 2)})
    self.assertEqual(str(law.expression), 'g*t**2/2')

  @parameterized.parameters(
      ('x | y', "name | formula .* got 'x | y'"),
      ('fall | g*t | g 9 10', "law 'fall': 't' is none of"),
      ('fall | g | g 9 x', "name | formula"))
  def test_no_law(self, line, message):
    with self.assertRaisesRegex(ValueError, message):
      law_file.parse(line)
