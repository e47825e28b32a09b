"""Compares KANs with scikit-learn's own models on its tables.

  python -m experiments.accuracy.real_tables --tables=iris,wine

There are five tables. All models see the same five shuffled folds, have their
defaults, and get standardized columns where they need them. Scores are R2 for
numbers and accuracy for classes. --workdir gets the tables; without it nothing
is written.
"""

from collections.abc import Callable
from collections.abc import Iterator
import time
from typing import Any
from typing import NamedTuple
import warnings

from absl import flags
import numpy as np
from sklearn import base
from sklearn import datasets
from sklearn import ensemble
from sklearn import exceptions
from sklearn import linear_model
from sklearn import model_selection
from sklearn import neural_network
from sklearn import pipeline
from sklearn import preprocessing

from experiments import cli
from experiments.data import tables
from kan_jax.estimators import estimators

TABLES: dict[str, Callable[..., Any]] = {
    'diabetes': datasets.load_diabetes,
    'breast_cancer': datasets.load_breast_cancer,
    'wine': datasets.load_wine,
    'digits': datasets.load_digits,
    'iris': datasets.load_iris,
}
MODELS = ('kan', 'boosting', 'mlp', 'linear')
_FOLDS = 5


class Score(NamedTuple):
  """Result of one model on one fold."""
  table: str
  model: str
  fold: int
  score: float
  seconds: float  # Time of the fit, compilation included.


def make(model: str, numbers: bool) -> Any:
  """Returns a model for numbers or classes, with its defaults."""
  if model == 'kan':
    return estimators.KANRegressor() if numbers else estimators.KANClassifier()
  if model == 'boosting':
    return (ensemble.HistGradientBoostingRegressor(random_state=0) if numbers
            else ensemble.HistGradientBoostingClassifier(random_state=0))
  if model == 'mlp':
    estimator = (neural_network.MLPRegressor if numbers else
                 neural_network.MLPClassifier)(random_state=0, max_iter=1000)
  else:
    estimator = (linear_model.RidgeCV() if numbers else
                 linear_model.LogisticRegression(max_iter=1000))
  return pipeline.make_pipeline(preprocessing.StandardScaler(), estimator)


def compare(
    table: str, models: tuple[str, ...] = MODELS,
    seed: int = 0) -> Iterator[Score]:
  """Cross-validates models on a table; yields a score for each and each fold.
  """
  x, y = TABLES[table](return_X_y=True)
  numbers = table == 'diabetes'
  split = (model_selection.KFold if numbers else
           model_selection.StratifiedKFold)(
               _FOLDS, shuffle=True, random_state=seed)
  for model in models:
    for fold, (train, test) in enumerate(split.split(x, y)):
      started = time.monotonic()
      with warnings.catch_warnings():
        # The MLP and the logistic regression stop after 1000 steps; the KAN
        # may end at the largest or smallest alpha.
        warnings.simplefilter('ignore', exceptions.ConvergenceWarning)
        fitted = base.clone(make(model, numbers)).fit(x[train], y[train])
      seconds = time.monotonic() - started
      yield Score(
          table, model, fold, fitted.score(x[test], y[test]), seconds)


def report(scores: list[Score]) -> str:
  """Returns a Markdown table: each model's mean and deviation over the folds.

  The last columns compare the KAN with the best of the others, fold by fold. It
  is within noise if it is behind by no more than the standard error.
  """
  rows = []
  for table in dict.fromkeys(score.table for score in scores):
    values = np.array([[s.score for s in scores if s[:2] == (table, model)]
                       for model in MODELS])
    means, stds = values.mean(1), values.std(1, ddof=1)
    best = 1 + means[1:].argmax()
    ahead = values[0] - values[best]
    error = ahead.std(ddof=1) / _FOLDS**0.5
    # If only one fold differs, both sides are equal but for rounding.
    within = ahead.mean() >= -(1 + 1e-9) * error
    seconds = [np.mean([s.seconds for s in scores if s[:2] == (table, model)])
               for model in MODELS]
    rows.append((
        table, *(f'{mean:.3f} ± {std:.3f}'
                 for mean, std in zip(means, stds, strict=True)),
        f'{ahead.mean():+.4f} ± {error:.4f} ({MODELS[best]})',
        'yes' if within else 'no',
        ' / '.join(f'{value:.1f}' for value in seconds)))
  return tables.markdown((
      'table', *MODELS, 'KAN minus best other', 'within noise',
      'seconds a fit, ' + ' / '.join(MODELS)), rows)


def main() -> None:
  """Compares the models on the tables that the flags name."""
  values = flags.FLAGS
  names = cli.choose('tables', values.tables, TABLES)
  folder = cli.new_folder(values.workdir)
  scores = []
  for name in names:
    for score in compare(name, seed=values.seed):
      print(f'{name}, {score.model}, fold {score.fold}: {score.score:.4f} '
            f'after {score.seconds:.1f} s', flush=True)
      scores.append(score)
  print(report(scores), flush=True)
  if folder:
    with cli.writing(folder):
      (folder / 'table.md').write_text(report(scores) + '\n')
      tables.write(folder / 'scores.csv', scores)


if __name__ == '__main__':
  flags.DEFINE_list(
      'tables', [], f'Names of tables: {", ".join(TABLES)}; all by default.')
  cli.define_seed('Decides the folds.')
  flags.DEFINE_string(
      'workdir', None, 'Folder for the tables; it must not hold anything yet. '
      'Without it nothing is written.')
  cli.run(main)
