"""KANs with scikit-learn's interface, for tables of numbers.

Needs scikit-learn: pip install 'kan_jax[sklearn]'. Columns are standardized
inside; what goes in and comes out is in raw units. How strongly the splines are
held back is chosen by cross-validation, see `shrinkage`.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import functools
import math
import operator
from typing import Any
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special
from sklearn import base
from sklearn.utils import check_random_state
from sklearn.utils import multiclass
from sklearn.utils import validation

from kan_jax.estimators import _regularization_path
from kan_jax.layers import linen
from kan_jax.pruning import scores
from kan_jax.splines import bsplines

# All rows are computed in blocks of this size: one program serves any number,
# and what comes out for a row does not depend on the others.
_CHUNK = 512
_KEPT = 1000  # Rows that pictures and formulas look at.
_FAR = 1e6  # Standard deviations: what lies beyond is all the same.
_LEAST_SHARE, _MOST_INPUTS = 0.02, 6  # Of inputs that a formula may have.


class _Estimator(base.BaseEstimator):
  """What regressor and classifier have in common; see `KANRegressor`."""

  _explained: Callable[[], np.ndarray]  # Of the rows kept, [n, out].
  _output_names: Callable[[], list[str]]
  _discovery: Callable[[int], dict[str, Any]]  # Options for so many inputs.

  def __init__(
      self, hidden_layer_sizes: Sequence[int] = (8,), *, grid: int = 5,
      order: int = 3, alpha: float | Literal['auto'] = 'auto', folds: int = 4,
      steps: int = 150, learning_rate: float = 0.01, random_state: Any = 0,
      verbose: bool = False):
    self.hidden_layer_sizes = hidden_layer_sizes
    self.grid = grid
    self.order = order
    self.alpha = alpha
    self.folds = folds
    self.steps = steps
    self.learning_rate = learning_rate
    self.random_state = random_state
    self.verbose = verbose

  @property
  def model_(self) -> linen.KAN:
    """The fitted KAN, of standardized columns; `variables_` are its own."""
    validation.check_is_fitted(self)
    first, *others = self.variables_['params'].values()
    knots = next(iter(self.variables_['grid'].values()))['knots']
    coef = first['coef']
    features = [len(first['scale_base']),
                *(layer['scale_base'].shape[1] for layer in (first, *others))]
    return _regularization_path.make_model(
        tuple(features),
        *bsplines.grid_and_order(knots.shape[1], coef.shape[1]),
        dtype=coef.dtype)

  @property
  def feature_importances_(self) -> np.ndarray:
    """Shares of what the outputs vary with, [in]; see `scores.attribution`.

    They sum to 1; all are 0 for a model that is constant. Computed on the
    first call, which takes seconds, mostly of compiling; later ones copy them.
    """
    validation.check_is_fitted(self)
    found = self.__dict__.get('_importances')
    if found is None:
      found = self._importances = self._find_importances()
    return found.copy()

  def _find_importances(self) -> np.ndarray:
    model = self.model_
    found = scores.attribution(
        model, self.variables_, jnp.asarray(self._scale(self._rows[0])))
    total = found.nodes[0].sum()
    if not self.output_scale_.any() or not total > 0:
      return np.zeros_like(found.nodes[0])
    return found.nodes[0] / total

  @property
  def formula_(self) -> Any:
    """What explains the data, a sympy expression in raw units.

    Found on the first call by `discovery.discover`, on up to 1000 of the rows
    of `fit` and the columns that matter most. That takes about a minute, most
    of it compiling, and some ten seconds more for each further class; with
    `verbose`, it prints what it tries. For more than one output, or more than
    two classes, a list. Needs sympy and at least 50 different rows.
    """
    validation.check_is_fitted(self)
    found = self.__dict__.get('_formulas')
    if found is None:
      found = self._formulas = self._find_formulas()
    return found if self._many else found[0]

  def __dir__(self) -> Iterable[str]:
    # Not scikit-learn's own, which reads every attribute before it lists it; to
    # show a model in a notebook, all that are listed are read once more.
    hidden = () if '_formulas' in self.__dict__ else ('formula_',)
    names = set(object.__dir__(self)).difference(hidden)
    return sorted(name for name in names if hasattr(self, name))

  def plot(self, **options: Any) -> Any:
    """Returns a matplotlib figure of the network, in standardized units.

    Args:
      **options: Of `plotting.plot`, such as `most` or `names`.
    """
    from kan_jax.plotting import edge_panels  # Its matplotlib is optional.
    names = [name.replace('$', r'\$') for name in self._names()]
    return edge_panels.plot(
        self.model_, self.variables_, self._scale(self._rows[0]),
        **{'names': names, 'output_names': self._output_names()} | options)

  def _fit(
      self, x: np.ndarray, y: np.ndarray, strata: np.ndarray,
      weight: np.ndarray, loss: _regularization_path.Loss) -> None:
    """Fits to inputs [n, in] and coded targets [n, out], both float64.

    Equal rows are joined and sorted first: so a weight of 2 is the same as the
    row twice, a weight of 0 as no row, the order of the rows does not matter,
    and no row is left out of a fit that has seen its twin.
    """
    sizes = self._check_options()
    rows, weight = _join(np.concatenate([x, y, strata[:, None]], 1), weight)
    x, y, strata = np.split(rows, [x.shape[1], -1], axis=1)
    random = np.random.default_rng(
        check_random_state(self.random_state).randint(2**31))
    self.input_mean_, self.input_scale_ = _moments(x, weight)
    outputs = y if loss == 'squared' else np.zeros((1, y.shape[1]))
    self.output_mean_, self.output_scale_ = _moments(
        outputs, weight[:len(outputs)])
    table = _regularization_path.Table(
        self._scale(x), (y - self.output_mean_) / self.output_scale_, weight,
        _parts(strata[:, 0], int(self.folds), random))
    dtype = jnp.zeros(()).dtype  # float64 where it is switched on.
    model = _regularization_path.make_model(
        (x.shape[1], *sizes, y.shape[1]), self.grid, self.order, dtype=dtype)
    found = _regularization_path.fit_path(
        model, table, loss, steps=int(self.steps), random=random,
        alpha=None if self.alpha == 'auto' else float(self.alpha),
        rate=float(self.learning_rate), progress=bool(self.verbose))
    self.order_ = int(self.order)
    self.variables_, self.alpha_ = found.variables, found.alpha
    if loss == 'squared':  # What does not vary is predicted exactly.
      self.output_scale_ = self.output_scale_ * (np.ptp(y, axis=0) > 0)
    self.path_, self.n_iter_ = found.path, found.steps
    kept = np.sort(random.permutation(len(x))[:_KEPT])
    self._rows = x[kept], y[kept]
    for name in ('_formulas', '_importances'):  # Of another fit.
      self.__dict__.pop(name, None)

  def _check_options(self) -> tuple[int, ...]:
    """Returns the hidden sizes; raises a ValueError for a bad option."""
    try:
      sizes = tuple(map(operator.index, self.hidden_layer_sizes))
    except TypeError:
      sizes = (0,)
    if min(sizes, default=1) < 1:
      raise ValueError(
          '`hidden_layer_sizes` are whole numbers >= 1, none for an additive '
          f'model; got {self.hidden_layer_sizes!r}.')
    if self.alpha != 'auto' and not (
        isinstance(self.alpha, int | float | np.number)
        and 0 <= self.alpha < math.inf):
      raise ValueError(f"`alpha` is 'auto' or >= 0; got {self.alpha!r}.")
    for name, value, least in (
        ('folds', self.folds, 2), ('steps', self.steps, 1)):
      if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(
            f'`{name}` is a whole number >= {least}; got {value!r}.')
    if not 0 < self.learning_rate < math.inf:
      raise ValueError(
          f'`learning_rate` is a number > 0; got {self.learning_rate!r}.')
    return sizes

  def _scale(self, x: np.ndarray) -> np.ndarray:
    scaled = (x - self.input_mean_) / self.input_scale_
    return np.clip(scaled, -_FAR, _FAR)

  def _outputs(self, x: Any) -> np.ndarray:
    """Checks inputs and returns raw outputs, [n, out], float64."""
    validation.check_is_fitted(self)
    x = validation.validate_data(self, x, reset=False, dtype=np.float64)
    return self._compute(x)

  def _compute(self, x: np.ndarray) -> np.ndarray:
    model, outputs = self.model_, []
    scaled = self._scale(x).astype(model.param_dtype)
    for start in range(0, len(x), _CHUNK):
      rows = scaled[start:start + _CHUNK]
      block = np.pad(rows, [(0, _CHUNK - len(rows)), (0, 0)])
      outputs.append(np.asarray(
          _apply(model, self.variables_, block), np.float64)[:len(rows)])
    return np.concatenate(outputs) * self.output_scale_ + self.output_mean_

  def _names(self) -> list[str]:
    given = getattr(self, 'feature_names_in_', None)
    return [f'x_{i}' for i in range(self.n_features_in_)] if (
        given is None) else [str(name) for name in given]

  def _find_formulas(self) -> list[Any]:
    """Returns an expression for each output."""
    import sympy  # Optional, so not at the top.

    from kan_jax.symbolic import discovery
    shares = self.feature_importances_
    chosen = np.sort(np.argsort(-shares, kind='stable')[:_MOST_INPUTS])
    chosen = chosen[shares[chosen] > min(_LEAST_SHARE, shares.max() / 2)]
    x, names = self._rows[0][:, chosen], self._names()

    def find(y, name):
      if not len(chosen) or np.ptp(y) == 0:
        return sympy.Float(float(y.mean()))  # SymPy 1.12 parses NumPy's repr.
      return discovery.discover(
          x, y, key=jax.random.key(0), names=[names[i] for i in chosen],
          log=lambda line: self._log(f'{name}: {line}'),
          **self._discovery(len(chosen))).expression

    explained = self._explained()  # In the model's own precision.
    with jax.enable_x64(True):
      return [find(y, name) for y, name in zip(
          explained.T, self._output_names(), strict=True)]

  def _log(self, line: str) -> None:
    if self.verbose:
      print(line, flush=True)


class KANRegressor(base.RegressorMixin, _Estimator):
  """A KAN that predicts numbers.

  Standardizes inputs and targets, and fits edges that are straight lines plus
  splines under a prior whose weight it chooses itself. Equal data give equal
  models, in any order of the rows. The first fit of a shape compiles for a
  second or two; others of the same shape, and of about as many rows, do not.

  Attributes of a fitted model, besides scikit-learn's own: `formula_`,
  `feature_importances_`, `model_` and `variables_` (the KAN, of standardized
  columns), `input_mean_`, `input_scale_`, `output_mean_`, `output_scale_`,
  `alpha_` (the weight that was chosen), `path_` (columns of the weights that
  were tried, with their losses), `n_iter_`.

  Args:
    hidden_layer_sizes: Nodes of each hidden layer; () for an additive model.
    grid: Intervals of each spline.
    order: Degree of the splines.
    alpha: Weight of the prior: as much as so many rows; 'auto' chooses it.
    folds: For 'auto', the number of parts that are left out in turn; of more
      than 2000 different rows one part alone.
    steps: Steps of Adam on each weight.
    learning_rate: Of Adam.
    random_state: Of the first parameters and the parts; a number, None or a
      numpy RandomState.
    verbose: Whether `fit` shows a bar in a terminal, which needs tqdm, and
      `formula_` prints a line on each thing that it tries.
  """

  def fit(self, X: Any, y: Any, sample_weight: Any = None) -> 'KANRegressor':  # noqa: N803
    """Fits to inputs [n, in] and targets [n] or [n, out]; n >= 2."""
    X, y = validation.validate_data(  # noqa: N806
        self, X, y, dtype=np.float64, multi_output=True, y_numeric=True,
        ensure_min_samples=2)
    weight = _weights(sample_weight, X)
    self._many = np.ndim(y) > 1
    self._fit(X, np.asarray(y, np.float64).reshape(len(X), -1),
              np.zeros(len(X)), weight, 'squared')
    return self

  def predict(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns predictions in the shape of the targets of `fit`."""
    outputs = self._outputs(X)
    return outputs if self._many else outputs[:, 0]

  def _explained(self) -> np.ndarray:
    return self._rows[1]

  def _discovery(self, inputs: int) -> dict[str, Any]:
    from kan_jax.symbolic import discovery
    return {'shapes': discovery.default_shapes(inputs)[:5]}

  def _output_names(self) -> list[str]:
    count = self._rows[1].shape[1]
    return [f'y_{i}' for i in range(count)] if self._many else ['y']

  def __sklearn_tags__(self) -> Any:
    tags = super().__sklearn_tags__()
    tags.target_tags.multi_output = True
    return tags


class KANClassifier(base.ClassifierMixin, _Estimator):
  """A KAN that predicts classes; all else is as for `KANRegressor`.

  Its outputs are log-odds: of the second of two classes, or of each of more
  classes up to a number that they share. So are the formulas; these explain
  what the model computes.
  """

  def fit(self, X: Any, y: Any, sample_weight: Any = None) -> 'KANClassifier':  # noqa: N803
    """Fits to inputs [n, in] and labels [n] of at least two classes."""
    X, y = validation.validate_data(  # noqa: N806
        self, X, y, dtype=np.float64, ensure_min_samples=2)
    multiclass.check_classification_targets(y)
    weight = _weights(sample_weight, X)
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
              'softmax' if self._many else 'sigmoid')
    return self

  def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns log-odds: [n] for two classes, [n, classes] for more."""
    outputs = self._outputs(X)
    return outputs if self._many else outputs[:, 0]

  def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns probabilities, [n, classes], in the order of `classes_`."""
    outputs = self._outputs(X)
    if self._many:
      return special.softmax(outputs, axis=1)
    return special.expit(np.concatenate([-outputs, outputs], 1))

  def predict(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns the most probable classes, [n]."""
    outputs = self._outputs(X)
    best = outputs.argmax(1) if self._many else (outputs[:, 0] > 0).astype(int)
    return self.classes_[best]

  def _explained(self) -> np.ndarray:
    outputs = self._compute(self._rows[0])
    return outputs - outputs.mean(1, keepdims=True) if self._many else outputs

  def _discovery(self, inputs: int) -> dict[str, Any]:
    return {'shapes': [[inputs, 1]], 'restarts': 1}

  def _output_names(self) -> list[str]:
    shown = self.classes_ if self._many else self.classes_[1:]
    return [str(name).replace('$', r'\$') for name in shown]


@functools.partial(jax.jit, static_argnums=0)
def _apply(model: linen.KAN, variables: Any, x: jax.Array) -> jax.Array:
  return model.apply(variables, x)  # type: ignore[return-value]


def _weights(sample_weight: Any, x: np.ndarray) -> np.ndarray:
  """Returns weights [n], 1 by default; raises a ValueError for bad ones."""
  weight = validation._check_sample_weight(
      sample_weight, x, dtype=np.float64, ensure_non_negative=True)
  if not weight.any():
    raise ValueError('`sample_weight` has a weight > 0; here all are zero.')
  return weight


def _join(
    rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Sorts rows, joins equal ones and leaves out those without weight."""
  counted = weight > 0
  rows, where = np.unique(rows[counted], axis=0, return_inverse=True)
  return rows, np.bincount(where.reshape(-1), weight[counted])


def _moments(
    rows: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and standard deviation of each column; 1 for a constant one."""
  mean = np.average(rows, axis=0, weights=weight)
  std = np.sqrt(np.average((rows - mean)**2, axis=0, weights=weight))
  rounding = 16 * np.finfo(rows.dtype).eps * np.abs(rows).max(0)
  return mean, np.where(std > rounding, std, 1)


def _parts(
    strata: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
  """Deals the rows of each stratum out to parts of equal size, [n]."""
  order = np.lexsort((random.random(len(strata)), strata))
  part = np.empty(len(strata), int)
  part[order] = np.arange(len(strata)) % count
  return part
