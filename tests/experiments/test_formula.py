"""The program that finds formulas, as a person runs it."""

import pathlib
import tempfile

from absl.testing import parameterized
from helpers import command
import numpy as np

from experiments import formula


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


class ProgramTest(parameterized.TestCase):

  def test_a_table(self):
    folder = pathlib.Path(tempfile.mkdtemp())
    x = np.random.default_rng(0).uniform(1, 5, (200, 2))
    table = np.concatenate([x, 3 * x[:, :1] / x[:, 1:]], 1)
    np.savetxt(folder / 'table.csv', table, delimiter=',', comments='',
               header='mass (kg),volume_l,density')
    done = _run(f'--csv={folder / "table.csv"}', '--target=density',
                f'--workdir={folder / "out"}')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertIn('density = 3*mass (kg)/volume_l\n', done.stdout)
    self.assertEqual(
        sorted(path.name for path in (folder / 'out').iterdir()),
        ['formula.tex', 'formula.txt', 'splines.png', 'symbols.png'])
    self.assertEqual(
        (folder / 'out/formula.tex').read_text(),
        'density = \\frac{3 \\text{mass (kg)}}{volume_{l}}\n')

  @parameterized.parameters(
      ((), '--task or --csv'), (('--task=x',), 'hello, product'),
      (('--csv=nowhere.csv', '--target=y'), 'nowhere.csv cannot be read'))
  def test_mistakes(self, args, message):
    done = _run(*args)
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertRegex(done.stderr, f'^error: .*{message}.*\n$')
