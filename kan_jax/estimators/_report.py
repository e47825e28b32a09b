"""The page that shows a fitted estimator; see `KANEstimator.report`."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import numpy as np

import kan_jax
from kan_jax.layers import linen
from kan_jax.plotting import _interactive
from kan_jax.plotting import _pages

_MOST_EFFECTS, _MOST_BARS, _MOST_OUTPUTS = 6, 20, 4
_EDGES = 24  # Most edges of each layer in the diagram.
_POINTS, _ROWS = 30, 200  # Of an effect: values of the column, rows averaged.


class Subject(NamedTuple):
  """What the page is about.

  Attributes:
    title: Name of the estimator.
    rows: What the rows below are, such as 'rows of the fit'.
    x: Rows, [n, in], in raw units.
    true: Their targets, [n, out], or numbers of their classes, [n].
    predicted: Predictions, in the form of `true`.
    formula: Predictions of the formulas, in the form of `true`; None if they
      have not been looked for.
    score: What `score` is called, for the network and for the formulas.
    scores: Its values, in this order.
    inputs: Names of the columns.
    outputs: Names of the outputs.
    classes: Names of the classes; none for numbers.
    importances: Importance of each column, [in].
    compute: Function of rows that returns what the effects are of, [n, out].
    effects: Names of what it returns.
    network: The KAN, its variables, and standardized rows.
    formulas: Of each formula the MathML and the text.
    settings: Options and what became of them.
  """
  title: str
  rows: str
  x: np.ndarray
  true: np.ndarray
  predicted: np.ndarray
  formula: np.ndarray | None
  score: str
  scores: Sequence[float]
  inputs: Sequence[str]
  outputs: Sequence[str]
  classes: Sequence[str]
  importances: np.ndarray
  compute: Callable[[np.ndarray], np.ndarray]
  effects: Sequence[str]
  network: tuple[linen.KAN, Mapping[str, Any], np.ndarray]
  formulas: Sequence[tuple[str, str]]
  settings: Mapping[str, object]


def describe(
    estimator: Any, x: np.ndarray, y: np.ndarray, rows: str) -> Subject:
  """Returns what the page of a fitted estimator shows.

  Args:
    estimator: A fitted `KANEstimator`.
    x: Rows, [n, in], in raw units.
    y: Their targets, as `fit` takes them.
    rows: What the rows are, such as 'rows of the fit'.
  """
  e = estimator
  predictions, formulas = [e._uncode(e._compute(x))], []
  if '_formulas' in vars(e):  # They were asked for before.
    from kan_jax.symbolic import expressions  # Its sympy is optional.
    from kan_jax.symbolic import simplify
    predictions.append(e._uncode(e._compute_formulas(x)))
    short = [simplify.round_digits(f, 6) for f in e._formulas]
    formulas = [(expressions.mathml(name, f), f'{name} = {f}')
                for name, f in zip(e._output_names(), short, strict=True)]
  return Subject(
      title=type(e).__name__, rows=rows, x=x, true=e._number(y),
      predicted=e._number(predictions[0]),
      formula=e._number(predictions[1]) if formulas else None,
      score=e._score_name,
      scores=[e._score(y, values) for values in predictions],
      inputs=e._input_names(), outputs=e._output_names(),
      classes=[str(name) for name in getattr(e, 'classes_', ())],
      importances=e.feature_importances_, compute=e._effects,
      effects=e._effect_names(), formulas=formulas,
      network=(e.model_, e.variables_, e._standardize(e._rows[0])),
      settings=e.get_params() | {
          name: f'{getattr(e, name):.6g}' for name in ('alpha_', 'n_iter_')})


def write(subject: Subject) -> str:
  """Returns the page as HTML."""
  facts = {f'{subject.score} of the network': f'{subject.scores[0]:.4f}'}
  if subject.formula is not None:
    facts[f'{subject.score} of the formula'] = f'{subject.scores[1]:.4f}'
  facts |= {subject.rows: f'{len(subject.x):,}',
            'columns': f'{subject.x.shape[1]:,}'}
  order = np.argsort(-subject.importances, kind='stable')
  subtitle = (f'A KAN {list(subject.network[0].features)}; kan_jax '
              f'{kan_jax.__version__}')
  return _pages.render(
      subject.title, subtitle, facts, [
          _mistakes(subject), _importances(subject, order),
          _effects(subject, order), _formulas(subject), _network(subject)],
      subject.settings)


def _importances(subject: Subject, order: np.ndarray) -> str:
  shown = {subject.inputs[i]: float(subject.importances[i])
           for i in order[:_MOST_BARS]}
  text = 'Shares of what the predictions vary with.'
  if len(order) > len(shown):
    text += f' The largest {len(shown)} of {len(order)}.'
  return _pages.section('importances', 'What matters', _pages.bars_chart(
      shown, 'importances', 'Importances of the columns'), text)


def _effects(subject: Subject, order: np.ndarray) -> str:
  """How the mean prediction changes with one column, the others as they are."""
  x = subject.x[::-(-len(subject.x) // _ROWS)]
  pictures = []
  for i in order[:_MOST_EFFECTS]:
    points = np.linspace(subject.x[:, i].min(), subject.x[:, i].max(), _POINTS)
    rows = np.repeat(x[None], _POINTS, 0)
    rows[:, :, i] = points[:, None]
    means = subject.compute(rows.reshape(-1, x.shape[1])).reshape(
        _POINTS, len(x), -1).mean(1)
    effects = dict(zip(
        subject.effects[:_MOST_OUTPUTS], means.T, strict=False))
    pictures.append(_pages.effect_chart(
        points, effects, x[:, i], subject.inputs[i]))
  what = 'probability' if subject.classes else 'prediction'
  return _pages.section(
      'effects', 'Effects', _pages.charts(pictures),
      f'The mean {what} if one column had this value in all rows and the '
      'others stayed as they are. Strokes at the bottom are rows.')


def _formulas(subject: Subject) -> str:
  if not subject.formulas:
    return _pages.section(
        'formula', 'Formula', '', 'No formula has been looked for: ask for '
        'formula_ first.')
  blocks = ''.join(_pages.formula_block(*pair) for pair in subject.formulas)
  text = ('Log-odds, whose largest decides.' if len(subject.formulas) > 1 else
          'Log-odds of the second class.') if subject.classes else ''
  return _pages.section('formula', 'Formula', blocks, text)


def _mistakes(subject: Subject) -> str:
  """The confusion matrix, or predictions against true values."""
  if not subject.classes:
    pictures = []
    for k, name in enumerate(subject.outputs[:_MOST_OUTPUTS]):
      predicted = {'network': subject.predicted[:, k]}
      if subject.formula is not None:
        predicted['formula'] = subject.formula[:, k]
      pictures += _pages.agreement_charts(
          subject.true[:, k], predicted, name)
    return _pages.section(
        'agreement', 'Predicted and true', _pages.charts(pictures),
        f'On {len(subject.x):,} {subject.rows}.')
  size = len(subject.classes)
  counts = np.zeros((size, size), int)
  np.add.at(counts, (subject.true, subject.predicted), 1)
  return _pages.section(
      'confusion', 'Confusion matrix',
      _pages.confusion_table(counts, subject.classes), 'Rows are true classes, '
      f'columns what the network says, on {len(subject.x):,} {subject.rows}.')


def _network(subject: Subject) -> str:
  picture = _interactive.draw(
      *subject.network, _interactive.Names(subject.inputs, subject.outputs),
      _EDGES)
  return _pages.network_section({'': picture})
