"""The comparison of libraries that look for laws, with stand-ins for them."""

import types
from unittest import mock

from absl.testing import parameterized
import numpy as np
import sympy

from experiments.accuracy import law_file
from experiments.accuracy import laws_peers
from experiments.accuracy import other_searches

_LAW, = law_file.parse('free fall | g*t**2/2 | g 9 10 ; t 0 2')
_ROWS = other_searches.Rows(
    np.random.default_rng(0).uniform(1, 2, (60, 2)), np.ones(60), ['g', 't'],
    0.01, 0)
_G, _T = sympy.symbols('g t')


def _installed(modules):
  """Lets the searches import these, by name, and nothing else."""
  def import_module(name):
    if name not in modules:
      raise ImportError(f'no {name}')
    return types.SimpleNamespace(**modules[name])

  return mock.patch.object(
      other_searches, 'importlib',
      types.SimpleNamespace(import_module=import_module))


class LibrariesTest(parameterized.TestCase):

  def test_pyoperon(self):
    """Of the formulas that are exact the shortest, in names of columns."""
    class Search:
      def __init__(self, **options):
        self.pareto_front_ = [
            {'mean_squared_error': error, 'length': length, 'tree': tree}
            for error, length, tree in (
                (1.0, 1, 'X1'), (0.0, 9, 'X1 + 0.0*X0'),
                (0.0, 5, '0.5*X0*square(X1) + X0 ^ 2'))]

      def fit(self, x, y):
        pass

      def get_model_string(self, tree, digits, names):
        return tree

    y = _ROWS.x.prod(1)  # Not constant, or nothing would be exact.
    with _installed({'pyoperon.sklearn': {'SymbolicRegressor': Search}}):
      found = other_searches.pyoperon(_ROWS._replace(y=y))
    self.assertEqual(sympy.expand(found - 0.5 * _G * _T**2 - _G**2), 0)

  def test_gplearn(self):
    """As many generations as there is time for, at least one."""
    class Search:
      def __init__(self, *, generations, **options):
        self.generations = generations
        self._program = 'div(add(X0, sqrt(X1)), 0.5)'

      def fit(self, x, y):
        pass

      def set_params(self, generations):
        self.generations = generations

    with _installed({
        'gplearn.genetic': {'SymbolicRegressor': Search},
        'gplearn.functions': {'make_function': lambda **options: 'exp'}}):
      found = other_searches.gplearn(_ROWS)
    self.assertEqual(found, (_G + sympy.sqrt(sympy.Abs(_T))) / 0.5)


class ComparisonTest(parameterized.TestCase):

  def test_what_comes_of_a_law(self):
    def fail(rows):
      raise RuntimeError('no luck\nand more')

    with mock.patch.dict(other_searches.SEARCHES, {
        'right': lambda rows: _G * _T**2 / 2, 'wrong': lambda rows: _T,
        'near': lambda rows: 0.4999 * _G * _T**2, 'broken': fail}):
      entries = [laws_peers.attempt(library, _LAW, 60, 0.0, 1.0, 0)
                 for library in ('right', 'wrong', 'near', 'broken')]
    self.assertEqual([e.result.found for e in entries], [True] + [False] * 3)
    self.assertEqual(entries[3].result.expression, 'RuntimeError: no luck')
    counted = laws_peers.counts(entries).splitlines()[2:]
    for line, start in zip(counted, (
        'right | 0.0 | 1 of 1 | 1 |', 'wrong | 0.0 | 0 of 1 | 0 |',
        'near | 0.0 | 0 of 1 | 1 |', 'broken | 0.0 | 0 of 1 | 0 |'),
                           strict=True):
      self.assertStartsWith(line, f'| {start}')
    self.assertIn('| right | 0.0 | free fall | yes | 0.0e+00 |',
                  laws_peers.details(entries))

  def test_a_library_that_is_not_installed(self):
    with _installed({}), self.assertRaises(ImportError):
      laws_peers.attempt('pyoperon', _LAW, 60, 0.0, 1.0, 0)
