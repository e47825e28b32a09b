"""A formula that explains a table as well as a fitted network does.

The search by structure comes first, of the targets themselves. Where its law
leaves more than the network does, the search looks at what the network says of
the rows, which is the table with less noise. Networks of simple shapes come
last.

The targets of a classifier are what its network says. They have no noise, but
are no more certain than the labels they come from. So the search sees them with
noise as large as what the labels leave open, or it would explain each bend of
the network. The numbers are then fitted to the targets without noise.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple
from typing import TYPE_CHECKING

import jax
import numpy as np

from kan_jax.estimators import inputs

if TYPE_CHECKING:  # Both need sympy, which is optional.
  import sympy

  from kan_jax.symbolic import by_structure

_ROWS = 50  # Least number of rows.
# Factors of the network's error that a law may have: in any case, and where the
# search sees nothing but noise left. The network has seen these rows, too, and
# follows their noise a little; a search of many columns may see nothing at all.
_AS_GOOD, _NOISE_LEFT = 1.05, 1.25
_MOST_DOUBT, _TINY = 0.5, 1e-12  # In deviations of log-odds; no division by 0.
_EXACT = 1e-9  # Relative error that needs no better one.
_BETTER = 0.95  # Factor of the error that makes a longer formula better.


class Question(NamedTuple):
  """What a formula is to explain.

  Attributes:
    x: Rows, [n, in], in raw units.
    y: What to explain, [n].
    computed: What the network says of the rows, [n].
    of_network: Whether what the network says is what to explain, and `y` is
      that with noise.
    names: Names of the columns.
    importances: Function that returns the importance of each column, [in]; it
      takes seconds to compile.
  """
  x: np.ndarray
  y: np.ndarray
  computed: np.ndarray
  of_network: bool
  names: Sequence[str]
  importances: Callable[[], np.ndarray]

  def candidates(self) -> np.ndarray:
    """Returns the columns that the search by structure looks at.

    All that vary, where they are few.
    """
    varying = np.flatnonzero(np.ptp(self.x, 0))
    if len(varying) <= inputs.MOST_BY_STRUCTURE:
      return varying
    return inputs.candidates(self.importances())

  def error(self, expression: 'sympy.Expr') -> float:
    """Returns the root mean square error of a formula; inf if it has none."""
    from kan_jax.symbolic import expressions  # Its sympy is optional.
    with np.errstate(all='ignore'):
      values = expressions.lambdify([expression], self.names)(self.x)[:, 0]
      error = _root_mean_square(values - self.y)
    return error if np.isfinite(error) else np.inf

  def is_enough(self, error: float, law: 'by_structure.Law') -> bool:
    """Whether a law with this error needs no better one."""
    factor = _NOISE_LEFT if law.reached else _AS_GOOD
    of_network = _root_mean_square(self.computed - self.y)
    return law.interrupted or error <= max(
        factor * of_network, _EXACT * float(self.y.std()))


def with_doubt(odds: np.ndarray, chances: np.ndarray) -> np.ndarray:
  """Returns log-odds with as much noise as the labels leave open, [n, out].

  A label says p (1 - p) of log-odds, the Fisher information. Where classes are
  almost apart, that is next to nothing, and any rule that parts them would do.

  Args:
    odds: Log-odds, [n, out].
    chances: Probabilities that belong to them.
  """
  information = np.mean(chances * (1 - chances), 0)
  deviation = odds.std(0)
  doubt = np.minimum(1 / np.sqrt(np.maximum(information, _TINY)),
                     _MOST_DOUBT * deviation)
  noise = np.random.default_rng(0).normal(size=odds.shape)
  return odds + doubt * noise


class _Answer(NamedTuple):
  """A formula, its error, and whether to look no further."""
  expression: 'sympy.Expr'
  error: float
  enough: bool


def _root_mean_square(errors: np.ndarray) -> float:
  return float(np.sqrt(np.mean(np.square(errors))))


def find_all(estimator: Any) -> 'list[sympy.Expr]':
  """Returns an expression for each output of a fitted `KANEstimator`."""
  e = estimator
  # In the model's own precision.
  explained, computed, of_network = e._explained()
  names = e._input_names()

  def find_one(y, outputs, name):
    return find(
        Question(e._rows[0], y, outputs, of_network, names,
                 lambda: e.feature_importances_),
        log=lambda line: e._log(f'{name}: {line}'),
        progress=e.verbose is None and name, options=e._discovery_options)

  with jax.enable_x64(True):
    return [find_one(*asked) for asked in zip(
        explained.T, computed.T, e._output_names(), strict=True)]


def find(
    question: Question, *, log: Callable[[str], None], progress: bool | str,
    options: Callable[[int], Mapping[str, Any]]) -> 'sympy.Expr':
  """Looks for a formula; Ctrl-C returns the best so far, where there is one.

  Args:
    question: What to explain.
    log: Function that takes a line about each attempt.
    progress: Whether networks show a bar; see `discovery.discover`.
    options: Function of the number of columns that returns further options of
      `discovery.discover`, its shapes among them.

  Raises:
    ValueError: If there are fewer than 50 rows.
  """
  import sympy  # Optional, so not at the top.
  mean = sympy.Float(float(question.y.mean()))  # SymPy 1.12 needs a float.
  if np.ptp(question.y) == 0 or not len(question.candidates()):
    return mean
  if len(question.x) < _ROWS:
    raise ValueError(
        f'A formula needs {_ROWS} different rows; `fit` got '
        f'{len(question.x)}.')
  answers: list[_Answer] = []
  for answer in _by_structure(question, log):
    if answer.enough:
      return answer.expression
    answers.append(answer)
  best = min(answers, key=lambda answer: answer.error, default=None)
  if not question.importances().any():
    return best.expression if best else mean
  try:
    expression = _by_networks(question, log, progress, options)
  except KeyboardInterrupt:
    if best is None:
      raise
    log('interrupted: the best formula so far')
    return best.expression
  if best and question.error(expression) > _BETTER * best.error:
    return best.expression
  return expression


def _by_structure(
    question: Question, log: Callable[[str], None]) -> Iterator[_Answer]:
  """Yields a law of what to explain, and one of what the network says."""
  from kan_jax.symbolic import by_structure  # Its sympy is optional.
  columns = question.candidates()
  names = [question.names[i] for i in columns]

  def look(target):
    return by_structure.find_law(
        question.x[:, columns], target, names=names, log=log)

  law = look(question.y)
  if law is not None:
    # As many digits as the rows support.
    expression, _ = by_structure.write_numbers(
        law.chosen.expression, law.deviations)
    if question.of_network:
      expression = _refit(expression, question)
    error = question.error(expression)
    yield _Answer(expression, error, question.is_enough(error, law))
  if question.of_network:
    return
  log('once more, of what the network says')
  law = look(question.computed)
  if law is not None:
    error = question.error(law.chosen.expression)
    # What is left of the network's own errors decides nothing.
    law = law._replace(reached=False)
    yield _Answer(
        law.chosen.expression, error, question.is_enough(error, law))


def _refit(expression: 'sympy.Expr', question: Question) -> 'sympy.Expr':
  """Fits the numbers of a formula to what the network says, to five digits."""
  import sympy  # Optional, so not at the top.

  from kan_jax.symbolic import _constants
  from kan_jax.symbolic import simplify
  with np.errstate(all='ignore'):
    fitted = _constants.fit(
        expression, [sympy.Symbol(name) for name in question.names],
        question.x, question.computed)
  return simplify.round_digits(fitted.write(), 5) if fitted else expression


def _by_networks(
    question: Question, log: Callable[[str], None], progress: bool | str,
    options: Callable[[int], Mapping[str, Any]]) -> 'sympy.Expr':
  """Looks for a formula by networks of the columns that matter most."""
  from kan_jax.symbolic import discovery  # Its sympy is optional.
  columns = inputs.strongest(question.importances())
  target = question.computed if question.of_network else question.y
  return discovery.discover(
      question.x[:, columns], target, key=jax.random.key(0),
      names=[question.names[i] for i in columns], log=log, progress=progress,
      **options(len(columns))).expression
