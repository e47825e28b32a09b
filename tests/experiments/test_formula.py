"""The program that finds formulas, as a person runs it."""

import pathlib
import tempfile

from absl.testing import parameterized
from helpers import command
import jax
import numpy as np
import sympy

from experiments import formula
from kan_jax.estimators import inputs
from kan_jax.layers import linen
from kan_jax.symbolic import by_structure
from kan_jax.symbolic import discovery


def _run(*args):
  return command.call('formula', *args, cwd=tempfile.mkdtemp())


class TasksTest(parameterized.TestCase):

  @parameterized.parameters(
      ('hello', (0.5, 2.0), np.exp(5)), ('product', (3, 4), 12),
      ('ratio', (3, 4), 0.75), ('relativity', (0.5, 0.5), 0.8),
      ('distance', (3, 0, 4, 0), 5), ('lennard_jones', (2**(1 / 6),), -1))
  def test_values(self, name, point, expected):
    np.testing.assert_allclose(formula.TASKS[name].fn(*point), expected)

  def test_samples(self):
    task = formula.TASKS['ratio']
    x, y = formula.sample(task, 500, 1)
    self.assertTrue(((x >= task.low) & (x <= task.high)).all())
    np.testing.assert_array_equal(y, x[:, 0] / x[:, 1])
    self.assertFalse((x == formula.sample(task, 500, 2)[0]).any())


class ChooseInputsTest(parameterized.TestCase):

  def test_few_columns_stay(self):
    for count, networks in (6, True), (10, False):
      x, letters = np.ones((60, count)), tuple('abcdefghij'[:count])
      chosen, names = formula.choose_inputs(
          x, x[:, 0], letters, seed=0, log=self.fail, networks=networks)
      self.assertIs(chosen, x)
      self.assertEqual(names, letters)

  def test_those_that_matter(self):
    """Of eight, for networks; before the long part, it says what it does."""
    x = np.random.default_rng(0).uniform(-1, 1, (200, 8))
    lines = []
    chosen, names = formula.choose_inputs(
        x, np.sin(3 * x[:, 5]) + x[:, 2]**2, tuple('abcdefgh'), seed=0,
        log=lines.append, networks=True)
    self.assertContainsSubset('cf', names)
    self.assertLessEqual(len(names), 6)
    np.testing.assert_array_equal(
        chosen, x[:, ['abcdefgh'.index(name) for name in names]])
    self.assertEqual(
        lines, ['looking which of the 8 columns matter',
                f'{", ".join(names)} matter most; the others are left out'])

  def test_strongest(self):
    self.assertEqual(inputs.strongest(np.zeros(9)).tolist(), [])
    self.assertEqual(inputs.strongest(
        np.array([0.3, 0.01, 0.3, 0.019, 0.371])).tolist(), [0, 2, 4])
    # Of 100 columns that matter alike, the first ones.
    self.assertEqual(
        inputs.strongest(np.full(100, 0.01)).tolist(), [0, 1, 2, 3, 4, 5])


class ChooseRowsTest(parameterized.TestCase):

  def test_of_a_long_table(self):
    """Another 25,000 each time, said in a line; all of a shorter one."""
    y = np.arange(25_001.0)
    lines = []
    x, chosen = formula.choose_rows(
        y[:, None], y, seed=0, log=lines.append)
    self.assertEqual(lines, ['25000 of 25001 rows, drawn at random'])
    np.testing.assert_array_equal(x[:, 0], chosen)
    self.assertLen(np.unique(chosen), 25_000)
    self.assertIs(formula.choose_rows(x, chosen, seed=0, log=self.fail)[0], x)


class ProgramTest(parameterized.TestCase):

  def test_a_table(self):
    folder = pathlib.Path(tempfile.mkdtemp())
    x = np.random.default_rng(0).uniform(1, 5, (200, 2))
    table = np.concatenate([x, 3 * x[:, :1] / x[:, 1:], 0 * x[:, :1]], 1)
    np.savetxt(folder / 'table.csv', table, delimiter=',', comments='',
               header='mass (kg),volume_l,density,zero')
    done = _run(f'--csv={folder / "table.csv"}', '--target=density',
                f'--workdir={folder / "out"}')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('density = 3*mass (kg)/volume_l\n', done.stdout)
    self.assertIn(
        'table.csv: 200 rows; density by mass (kg), volume_l; fields between '
        'commas, decimal points\n', done.stdout.partition('relative')[0])
    self.assertIn('zero is constant: left out\n', done.stdout)
    self.assertEqual(
        sorted(path.name for path in (folder / 'out').iterdir()),
        ['formula.tex', 'formula.txt', 'view.html'])
    self.assertEqual(
        (folder / 'out/formula.tex').read_text(),
        'density = \\frac{3 \\text{mass (kg)}}{volume_{l}}\n')
    page = (folder / 'out/view.html').read_text()
    self.assertIn('density = 3*mass (kg)/volume_l</code>', page)
    for text in ('id="agreement"', 'by mass (kg), volume_l'):
      self.assertTrue(text in page, text)
    self.assertNotIn('id="network"', page)
    self.assertNotRegex(page, 'https?:')
    done = command.call('view', f'--workdir={folder / "out"}')
    self.assertRegex(done.stdout, r'view\.html: open it in a browser\n$')

  def test_pictures_of_networks(self):
    x = np.random.default_rng(0).uniform(1, 5, (60, 2))
    model = linen.KAN([2, [0, 1]], grid=3)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    a, b = sympy.symbols('a b')
    found = discovery.Discovery(
        a * b, 0.1, 0.05, model, variables, (model, variables),
        discovery.Scale(np.full(2, 3.0), np.full(2, 2.0), 2.0), tuple(
            by_structure.Formula(*row) for row in ((a, 0.5, 0), (a * b, 0, 1))))
    folder = pathlib.Path(tempfile.mkdtemp())
    formula.write(folder, formula.Outcome(
        found, x, x.prod(1), ('a', 'b'), 'area', ['a line'], {'seed': 0}))
    self.assertEqual(
        sorted(path.name for path in folder.iterdir()),
        ['formula.tex', 'formula.txt', 'splines.png', 'symbols.png',
         'view.html'])
    page = (folder / 'view.html').read_text()
    for text in (
        '<h3>Splines</h3>', '<h3>Functions</h3>', 'a line',
        'a → factor 1 of area',
        '<tr><td>0</td><td>0.5</td><td>area = a</td><td></td></tr>',
        '<tr class="chosen"><td>1</td><td>0</td><td>area = a*b</td>'):
      self.assertTrue(text in page, text)

  def test_the_formula_chosen_is_among_the_others(self):
    """Even where a shorter one is almost as good."""
    a, b = sympy.symbols('a b')
    front = tuple(by_structure.Formula(*row) for row in (
        (a, 0.5, 0), (a * b, 0.1, 1)))
    found = discovery.Discovery(
        a * b + a, 0.2, 0.099, None, None, None, None, front)
    self.assertEqual(formula.report(found, 'y'), """\
y = a*b + a
RMSE 2.00e-01 on test rows, 9.90e-02 of the standard deviation of y

operations  relative error  formula
         0             0.5  a
         1             0.1  a*b
         2           0.099  a*b + a  <- chosen""")
    alone = found._replace(front=())
    self.assertNotIn('chosen', formula.report(alone, 'y'))

  @parameterized.parameters(
      ((), '--task or --csv'), (('--task=x',), 'hello, product'),
      (('--csv=nowhere.csv', '--target=y'), 'nowhere.csv cannot be read'),
      (('--task=hello', '--workdir=/dev/null/x'), '--workdir=/dev/null/x cann'))
  def test_mistakes(self, args, message):
    done = _run(*args)
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(done.stderr, f'^error: .*{message}.*\n$')
