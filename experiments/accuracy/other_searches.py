"""Other libraries that look for formulas, each as a function of a table.

All are called as their documents show it, with a set of functions in which the
laws can be written. Each chooses one formula by its own rule.
"""

from collections.abc import Callable
from collections.abc import Sequence
import contextlib
import importlib
import io
import tempfile
import time
from typing import Any
from typing import NamedTuple

import jax
import numpy as np
import sympy

from kan_jax import symbolic

_EXACT = 1e-6  # Relative error, for numbers in float32.
# Of pykan's network and its fits, for about a minute in all.
_WIDTH, _GRID, _STEPS = 5, 3, 15
_OF_PYKAN = ['x', 'x^2', 'x^3', '1/x', '1/x^2', 'sqrt', 'exp', 'log', 'sin',
             'tanh', 'arcsin', '0']


class Rows(NamedTuple):
  """A table, and how long to look at it.

  Attributes:
    x: Inputs, [n, in].
    y: Targets, [n].
    names: Names of the inputs.
    seconds: Time for the search.
    seed: Decides what is random.
    threads: Most that a library may use.
  """
  x: np.ndarray
  y: np.ndarray
  names: Sequence[str]
  seconds: float
  seed: int
  threads: int = 2

  def parse(self, text: str, functions: dict[str, Any]) -> sympy.Expr:
    """Reads a formula in X0, X1, ... that a library has written."""
    own = {f'X{i}': sympy.Symbol(name) for i, name in enumerate(self.names)}
    return sympy.sympify(text, locals=functions | own)


def kan_jax(rows: Rows) -> sympy.Expr:
  """This library."""
  return symbolic.discover(
      rows.x, rows.y, key=jax.random.key(rows.seed), names=rows.names,
      time_limit=rows.seconds, progress=False).expression


def pyoperon(rows: Rows) -> sympy.Expr:
  """Genetic programming in C++, numbers by Levenberg and Marquardt."""
  operon = importlib.import_module('pyoperon.sklearn')
  search = operon.SymbolicRegressor(
      allowed_symbols='add,sub,mul,div,square,sqrt,exp,log,sin,cos,tanh,asin,'
      'constant,variable', generations=10**6, max_evaluations=10**9,
      max_length=30, n_threads=rows.threads, objectives=['r2', 'length'],
      optimizer_iterations=5, random_state=rows.seed,
      model_selection_criterion='bayesian_information_criterion',
      max_time=int(rows.seconds))
  search.fit(rows.x, rows.y)
  # Its criterion adds terms that mend rounding errors; the shortest of those
  # that are exact is better.
  exact = [model for model in search.pareto_front_
           if model['mean_squared_error'] < (_EXACT * rows.y.std())**2]
  chosen = min(exact, key=lambda model: model['length'])['tree'] if exact else (
      search.model_)
  text = search.get_model_string(
      chosen, 12, [f'X{i}' for i in range(rows.x.shape[1])])
  return rows.parse(text.replace('^', '**'), {'square': lambda t: t**2})


_OF_GPLEARN = {
    'add': lambda a, b: a + b, 'sub': lambda a, b: a - b,
    'mul': lambda a, b: a * b, 'div': lambda a, b: a / b,
    'neg': lambda a: -a, 'inv': lambda a: 1 / a,
    'sqrt': lambda a: sympy.sqrt(sympy.Abs(a)),
    'log': lambda a: sympy.log(sympy.Abs(a)), 'exp': sympy.exp,
    'sin': sympy.sin, 'cos': sympy.cos}


def gplearn(rows: Rows) -> sympy.Expr:
  """Genetic programming in Python."""
  genetic = importlib.import_module('gplearn.genetic')
  functions = importlib.import_module('gplearn.functions')

  def exp(values):
    with np.errstate(over='ignore'):
      return np.minimum(np.exp(values), 1e30)

  exponential = functions.make_function(function=exp, name='exp', arity=1)
  search = genetic.SymbolicRegressor(
      population_size=1000, generations=1, metric='rmse', warm_start=True,
      parsimony_coefficient=0.001, const_range=(-10.0, 10.0),
      random_state=rows.seed, n_jobs=1, low_memory=True,
      function_set=[exponential if name == 'exp' else name
                    for name in _OF_GPLEARN])
  end = time.monotonic() + rows.seconds
  while time.monotonic() < end:
    search.fit(rows.x, rows.y)
    search.set_params(generations=search.generations + 1)
  return rows.parse(str(search._program), _OF_GPLEARN)


def pykan(rows: Rows) -> sympy.Expr:
  """pykan's own pipeline: fit, prune, fit, symbols, fit, formula.

  Inputs go to [-1, 1] and targets to deviations from their mean, as its grids
  are made for. It knows no limit of time.
  """
  torch = importlib.import_module('torch')
  kan = importlib.import_module('kan')
  torch.set_default_dtype(torch.float64)
  torch.set_num_threads(1)  # Two take longer: all arrays are small.
  low, high = rows.x.min(0), rows.x.max(0)
  mean, deviation = rows.y.mean(), rows.y.std()
  x = torch.from_numpy(2 * (rows.x - low) / (high - low) - 1)
  y = torch.from_numpy((rows.y[:, None] - mean) / deviation)
  cut = 4 * len(x) // 5
  data = {'train_input': x[:cut], 'train_label': y[:cut],
          'test_input': x[cut:], 'test_label': y[cut:]}
  scaled = [f'X{i}' for i in range(len(low))]
  with (contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO())):
    model = kan.KAN(width=[len(low), _WIDTH, 1], grid=_GRID, k=3,
                    seed=rows.seed, ckpt_path=tempfile.mkdtemp())
    model.fit(data, opt='LBFGS', steps=_STEPS, lamb=0.001)
    model = model.prune()
    model.fit(data, opt='LBFGS', steps=_STEPS)
    model.auto_symbolic(lib=_OF_PYKAN)
    # Its grids cannot follow where a function such as log has no value.
    model.fit(data, opt='LBFGS', steps=_STEPS, update_grid=False,
              singularity_avoiding=True)
    formula = model.symbolic_formula(var=scaled)[0][0]
  return mean + deviation * formula.xreplace({
      sympy.Symbol(name): 2 * (sympy.Symbol(own) - a) / (b - a) - 1
      for name, own, a, b in zip(scaled, rows.names, low, high, strict=True)})


SEARCHES: dict[str, Callable[[Rows], sympy.Expr]] = {
    search.__name__: search for search in (kan_jax, pyoperon, gplearn, pykan)}
