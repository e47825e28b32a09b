"""KANs with scikit-learn's interface, for tables of numbers.

Needs scikit-learn: `pip install -e '.[sklearn]'` in a copy of the repository.
Columns are standardized inside; what goes in and comes out is in raw units.
Cross-validation chooses how strongly the splines are held back.
"""

from typing import Any

import numpy as np
from scipy import special
from sklearn import base
from sklearn import metrics
from sklearn.utils import multiclass

from kan_jax.estimators import _base
from kan_jax.estimators import _formulas
from kan_jax.estimators import _losses
from kan_jax.estimators import _tables


class KANRegressor(base.RegressorMixin, _base.KANEstimator):
  """A KAN that predicts numbers.

  Standardizes inputs and targets, and fits edges that are straight lines plus
  splines under a prior whose weight it chooses itself. Equal data give equal
  models, in any order of the rows. The first fit of a shape compiles for a
  second or two; others of the same shape, and of about as many rows, do not.

      regressor = kan_jax.KANRegressor().fit(table, target)
      regressor.predict(table), regressor.formula_

  Weights of rows count: a weight of 2 is the same as the row twice, and 0 the
  same as no row. With a given `alpha`, rows that weigh 100 each outweigh the
  prior 100 times as much as rows that weigh 1. With 'auto', only the ratios of
  the weights matter: the alphas that are tried follow the mean weight of the
  different rows.

  Attributes of a fitted model, besides scikit-learn's own: `formula_`,
  `formula_report_`, `feature_importances_`, `model_` and `variables_` (the KAN,
  of standardized columns), `input_mean_`, `input_scale_`, `output_mean_`,
  `output_scale_`, `alpha_` (the weight that was chosen), `path_` (columns of
  the weights that were tried, with their losses), `n_iter_`.

  Args:
    hidden_layer_sizes: Nodes of each hidden layer; () for an additive model.
    grid: Intervals of each spline.
    order: Degree of the splines.
    alpha: Weight of the prior: as much as so many rows of weight 1. 'auto'
      chooses it, from 0.0001 to 1000 rows of mean weight, and warns if it ends
      at one of these limits; not at the lower one if rows that are left out are
      predicted almost exactly.
    folds: Number of parts that are left out in turn, for 'auto'; of more than
      2000 different rows one part alone.
    steps: Steps of Adam on each weight.
    learning_rate: Learning rate of Adam.
    random_state: Source of the first parameters and the parts: a number, None
      or a numpy RandomState.
    verbose: Whether `fit` and `formula_` print a line on each thing that they
      try. By default they print none; a terminal or a notebook shows a bar
      while they work, which False turns off.
  """

  def fit(self, X: Any, y: Any, sample_weight: Any = None) -> 'KANRegressor':  # noqa: N803
    """Fits to inputs [n, in] and targets [n] or [n, out]; n >= 2."""
    X, y = self._validate(  # noqa: N806
        X, y, multi_output=True, y_numeric=True, ensure_min_samples=2)
    weight = _tables.check_weights(sample_weight, X)
    self._many = np.ndim(y) > 1
    self._fit(X, np.asarray(y, np.float64).reshape(len(X), -1),
              np.zeros(len(X)), weight, _losses.squared)
    return self

  def _uncode(self, outputs: np.ndarray) -> np.ndarray:
    return outputs if self._many else outputs[:, 0]

  def _score(self, y: np.ndarray, predictions: np.ndarray) -> float:
    return float(metrics.r2_score(y, predictions))

  _score_name = 'R²'

  def _number(self, predictions: np.ndarray) -> np.ndarray:
    return np.reshape(predictions, (len(predictions), -1))

  def _effects(self, x: np.ndarray) -> np.ndarray:
    return self._compute(x)

  def _effect_names(self) -> list[str]:
    return self._output_names()

  def _explained(self) -> tuple[np.ndarray, np.ndarray, bool]:
    return self._rows[1], self._compute(self._rows[0]), False

  def _discovery_options(self, inputs: int) -> dict[str, Any]:
    from kan_jax.symbolic import discovery
    return {'shapes': discovery.default_shapes(inputs)[:5]}

  def _output_names(self) -> list[str]:
    count = self._rows[1].shape[1]
    return [f'y_{i}' for i in range(count)] if self._many else ['y']

  def __sklearn_tags__(self) -> Any:
    tags = super().__sklearn_tags__()
    tags.target_tags.multi_output = True
    return tags


class KANClassifier(base.ClassifierMixin, _base.KANEstimator):
  """A KAN that predicts classes; all else is as for `KANRegressor`.

  Its outputs are log-odds: of the second of two classes, or of each of more
  classes up to a number that they share. So are the formulas; these explain
  what the model computes.
  """

  def fit(self, X: Any, y: Any, sample_weight: Any = None) -> 'KANClassifier':  # noqa: N803
    """Fits to inputs [n, in] and labels [n] of at least two classes."""
    X, y = self._validate(X, y, ensure_min_samples=2)  # noqa: N806
    multiclass.check_classification_targets(y)
    weight = _tables.check_weights(sample_weight, X)
    X, y, weight = (rows[weight > 0] for rows in (X, y, weight))  # noqa: N806
    self.classes_, labels = np.unique(y, return_inverse=True)
    if len(self.classes_) < 2:
      raise ValueError(
          'KANClassifier needs rows of at least two classes; the data contain '
          f'one class alone, {self.classes_.tolist()[0]!r}.')
    self._many = len(self.classes_) > 2
    coded = np.eye(len(self.classes_))[labels] if self._many else (
        labels[:, None].astype(float))
    self._fit(X, coded, labels.astype(float), weight,
              _losses.softmax if self._many else _losses.sigmoid)
    return self

  def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns log-odds: [n] for two classes, [n, classes] for more."""
    outputs = self._compute(self._check_inputs(X))
    return outputs if self._many else outputs[:, 0]

  def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns probabilities, [n, classes], in the order of `classes_`."""
    outputs = self._compute(self._check_inputs(X))
    if self._many:
      return special.softmax(outputs, axis=1)
    return special.expit(np.concatenate([-outputs, outputs], 1))

  def _uncode(self, outputs: np.ndarray) -> np.ndarray:
    best = outputs.argmax(1) if self._many else (outputs[:, 0] > 0).astype(int)
    return self.classes_[best]

  def _score(self, y: np.ndarray, predictions: np.ndarray) -> float:
    return float(metrics.accuracy_score(y, predictions))

  _score_name = 'accuracy'

  def _number(self, predictions: np.ndarray) -> np.ndarray:
    unknown = np.setdiff1d(predictions, self.classes_)
    if len(unknown):
      raise ValueError(
          f'`y` has the class {unknown.tolist()[0]!r}, which `fit` has not '
          f'seen; it saw {self.classes_.tolist()}.')
    return np.searchsorted(self.classes_, predictions)

  def _effects(self, x: np.ndarray) -> np.ndarray:
    outputs = self._compute(x)
    return special.softmax(outputs, axis=1) if self._many else (
        special.expit(outputs))

  def _effect_names(self) -> list[str]:
    return [str(name) for name in self.classes_[0 if self._many else 1:]]

  def _explained(self) -> tuple[np.ndarray, np.ndarray, bool]:
    outputs = self._compute(self._rows[0])
    chances = special.expit(outputs)
    if self._many:
      chances = special.softmax(outputs, axis=1)
      outputs = outputs - outputs.mean(1, keepdims=True)
    return _formulas.with_doubt(outputs, chances), outputs, True

  def _discovery_options(self, inputs: int) -> dict[str, Any]:
    return {'shapes': [[inputs, 1]], 'restarts': 1}

  def _output_names(self) -> list[str]:
    shown = self.classes_ if self._many else self.classes_[1:]
    return [str(name) for name in shown]
