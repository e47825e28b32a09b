"""What the regressor and the classifier have in common."""

import abc
from collections.abc import Iterable
from collections.abc import Sequence
import math
import numbers
import operator
import os
import pathlib
from typing import Any
from typing import Literal
from typing import Self
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from sklearn import base
from sklearn.utils import check_random_state
from sklearn.utils import validation

from kan_jax import checks
from kan_jax.estimators import _files
from kan_jax.estimators import _formulas
from kan_jax.estimators import _losses
from kan_jax.estimators import _regularization_path
from kan_jax.estimators import _tables
from kan_jax.layers import inference
from kan_jax.layers import linen
from kan_jax.pruning import scores
from kan_jax.training import train_steps

if TYPE_CHECKING:  # Optional packages.
  from matplotlib import figure
  import sympy

# All rows are computed in blocks of this size: one program serves any number,
# and what comes out for a row does not depend on the others.
_CHUNK = 512
_KEPT = 1000  # Rows that pictures and formulas look at.
# Attributes that take too long to be looked at unless they were asked for.
_SLOW = ('formula_', 'formula_report_')


class KANEstimator(base.BaseEstimator, abc.ABC):
  """Fits, predicts and explains; see `estimators.KANRegressor`."""

  def __init__(
      self, hidden_layer_sizes: Sequence[int] = (8,), *, grid: int = 5,
      order: int = 3, alpha: float | Literal['auto'] = 'auto', folds: int = 4,
      steps: int = 150, learning_rate: float = 0.01, random_state: Any = 0,
      verbose: bool | None = None):
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
    return _regularization_path.make_model(**self._model_options)

  @property
  def feature_importances_(self) -> np.ndarray:
    """Shares of what the outputs vary with, [in]; see `scores.attribution`.

    They sum to 1; all are 0 for a model that is constant. Computed on the
    first call, which takes seconds, mostly of compiling; later ones copy them.
    """
    validation.check_is_fitted(self)
    if '_importances' not in self.__dict__:
      self._importances = self._find_importances()
    return self._importances.copy()

  def _find_importances(self) -> np.ndarray:
    attribution = scores.attribution(
        self.model_, self.variables_,
        jnp.asarray(self._standardize(self._rows[0])))
    shares = attribution.nodes[0]
    total = shares.sum()
    if not self.output_scale_.any() or not total > 0:
      return np.zeros_like(shares)
    return shares / total

  @property
  def formula_(self) -> 'sympy.Expr | list[sympy.Expr]':
    """Formula that explains the data, a sympy expression in raw units.

    Found on the first call, on up to 1000 of the rows of `fit`. The search by
    structure comes first, see `symbolic.find_law`, with the ten columns that
    matter most; it takes seconds. Where it does not explain the rows as well as
    the network does, it looks at what the network says of them, and then
    `discovery.discover` tries networks of up to six columns, which takes about
    a minute. For more than one output, or more than two classes, a list. Needs
    sympy and at least 50 different rows.
    """
    formulas = self._find_formulas()
    return formulas if self._many else formulas[0]

  @property
  def formula_report_(self) -> dict[str, float]:
    """Scores of `network` and `formula` side by side, as from `score`.

    On up to 1000 of the rows of `fit`, each counted once. For rows that the fit
    has not seen, compare `predict` with `predict_by_formula`. Looks for the
    formula first, like `formula_`.
    """
    validation.check_is_fitted(self)
    x, y = self._rows[0], self._uncode(self._rows[1])
    return {
        'network': self._score(y, self._uncode(self._compute(x))),
        'formula': self._score(y, self._uncode(self._compute_formulas(x)))}

  def predict(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns predictions [n] or [n, out], in the form of the targets of `fit`.
    """
    return self._uncode(self._compute(self._check_inputs(X)))

  def predict_by_formula(self, X: Any) -> np.ndarray:  # noqa: N803
    """Returns what `formula_` predicts, in the form of `predict`.

    Looks for the formula first, like `formula_`.
    """
    x = self._check_inputs(X)
    return self._uncode(self._compute_formulas(x))

  def plot(self, **options: Any) -> 'figure.Figure':
    """Returns a matplotlib figure of the network, in standardized units.

    Args:
      **options: Options of `plotting.plot`, such as `most` or `names`.
    """
    from kan_jax.plotting import _figures  # Its matplotlib is optional.
    from kan_jax.plotting import diagram
    names, output_names = (
        [_figures.plain(name) for name in names]
        for names in (self._input_names(), self._output_names()))
    return diagram.plot(
        self.model_, self.variables_, self._standardize(self._rows[0]),
        **{'names': names, 'output_names': output_names} | options)

  def report(
      self, path: str | os.PathLike[str], X: Any = None,  # noqa: N803
      y: Any = None, *, overwrite: bool = False) -> pathlib.Path:
    """Writes a page that shows the model, and returns its path.

    One HTML file that needs nothing else: what matters, the effect of each
    column, predictions against true values or the confusion matrix, the
    network, and the formula if `formula_` was asked for before. Needs
    matplotlib.

    Args:
      path: File to write, such as 'report.html'.
      X: Rows to predict, [n, in]; by default up to 1000 of the rows of `fit`.
      y: Their targets, as `fit` takes them.
      overwrite: Whether to replace a file that is there.

    Raises:
      FileExistsError: If there is a file already.
      ValueError: If only one of `X` and `y` is given, or they do not fit.
    """
    from kan_jax.estimators import _report  # Its matplotlib is optional.
    validation.check_is_fitted(self)
    if (X is None) != (y is None):
      raise ValueError('`X` and `y` need each other: give both or none.')
    path = pathlib.Path(path)
    if path.exists() and not overwrite:
      raise FileExistsError(
          f'{path} is there already; overwrite=True replaces it.')
    if X is None:
      x, y, rows = self._rows[0], self._uncode(self._rows[1]), 'rows of the fit'
    else:
      x, y, rows = self._check_inputs(X), np.asarray(y), 'rows given'
      validation.check_consistent_length(x, y)
    path.write_text(_report.write(_report.describe(self, x, y, rows)), 'utf-8')
    return path

  def save(
      self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
    """Writes the fitted estimator into one file that `load` reads.

    It holds the KAN, as `kan_jax.save` writes it, the scales of the columns,
    and the rows that formulas and pictures look at, at most 1000 of those that
    it was fitted to. A formula that was found is looked for again.

    Args:
      path: The file.
      overwrite: Whether to replace a file that is there.

    Raises:
      ValueError: If an option, such as `random_state`, is more than numbers and
        texts, or classes are.
      ModelFileError: If there is a file already, or none can be written.
    """
    validation.check_is_fitted(self)
    _files.write(path, self, overwrite=overwrite)

  @classmethod
  def load(cls, path: str | os.PathLike[str]) -> Self:
    """Reads a fitted estimator that `save` wrote.

    Args:
      path: The file. Reading it runs no code.

    Raises:
      ModelFileError: If there is no such file, it is damaged, or is none of an
        estimator of this class.
    """
    return _files.read(path, cls)

  def __dir__(self) -> Iterable[str]:
    # Not scikit-learn's own, which reads every attribute before it lists it; to
    # show a model in a notebook, all that are listed are read once more.
    hidden = () if '_formulas' in self.__dict__ else _SLOW
    names = set(object.__dir__(self)).difference(hidden)
    return sorted(name for name in names if hasattr(self, name))

  # What regressor and classifier differ in.

  @abc.abstractmethod
  def _uncode(self, outputs: np.ndarray) -> np.ndarray:
    """Returns predictions for outputs [n, out], as `y` was given to `fit`."""

  @abc.abstractmethod
  def _score(self, y: np.ndarray, predictions: np.ndarray) -> float:
    """Returns what `score` returns, for predictions that are there."""

  _score_name: str  # What `score` returns, in words.

  @abc.abstractmethod
  def _number(self, predictions: np.ndarray) -> np.ndarray:
    """Returns numbers [n, out], or numbers of classes [n]."""

  @abc.abstractmethod
  def _effects(self, x: np.ndarray) -> np.ndarray:
    """Returns what effects of columns are shown of, [n, out]."""

  @abc.abstractmethod
  def _effect_names(self) -> list[str]:
    """Returns names of what `_effects` returns."""

  @abc.abstractmethod
  def _explained(self) -> tuple[np.ndarray, np.ndarray, bool]:
    """Returns what formulas are to explain, and what the network says of it.

    Both on the rows kept, [n, out]; and whether the second is what they are to
    explain, and the first is that with noise.
    """

  @abc.abstractmethod
  def _discovery_options(self, inputs: int) -> dict[str, Any]:
    """Returns options of `discovery.discover` for so many inputs."""

  @abc.abstractmethod
  def _output_names(self) -> list[str]:
    """Returns a name for each output."""

  # The fit.

  def _fit(
      self, x: np.ndarray, y: np.ndarray, strata: np.ndarray,
      weight: np.ndarray, loss_fn: train_steps.LossFn) -> None:
    """Fits to inputs [n, in] and coded targets [n, out], both float64.

    Equal rows are joined and sorted first: so a weight of 2 is the same as the
    row twice, a weight of 0 as no row, the order of the rows does not matter,
    and no row is left out of a fit that has seen its twin.
    """
    sizes = self._check_options()
    rows, weight = _tables.join_rows(
        np.concatenate([x, y, strata[:, None]], 1), weight)
    x, y, strata = np.split(rows, [x.shape[1], -1], axis=1)
    random = np.random.default_rng(
        check_random_state(self.random_state).randint(2**31))
    self.input_mean_, self.input_scale_ = _tables.find_moments(x, weight)
    self.output_mean_ = np.zeros(y.shape[1])
    self.output_scale_ = np.ones(y.shape[1])
    if loss_fn is _losses.squared:
      self.output_mean_, self.output_scale_ = _tables.find_moments(y, weight)
    table = _regularization_path.Table(
        self._standardize(x),
        _tables.standardize(y, self.output_mean_, self.output_scale_), weight,
        _tables.deal_parts(strata[:, 0], int(self.folds), random))
    self._model_options: dict[str, Any] = {
        'features': (x.shape[1], *sizes, y.shape[1]), 'grid': self.grid,
        'order': self.order,
        'dtype': jnp.result_type(float)}  # float64 where it is switched on.
    fitted = _regularization_path.fit_path(
        _regularization_path.make_model(**self._model_options), table, loss_fn,
        alpha=None if isinstance(self.alpha, str) else float(self.alpha),
        steps=int(self.steps), rate=float(self.learning_rate), random=random,
        log=self._log, progress=self.verbose is None)
    self.variables_, self.alpha_ = fitted.variables, fitted.alpha
    self.path_, self.n_iter_ = fitted.path, fitted.steps
    if loss_fn is _losses.squared:
      # What does not vary is predicted exactly.
      self.output_scale_ = np.where((y == y[0]).all(0), 0, self.output_scale_)
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
    if not (isinstance(self.alpha, str) and self.alpha == 'auto') and not (
        _is_number(self.alpha) and 0 <= self.alpha < math.inf):
      raise ValueError(f"`alpha` is 'auto' or >= 0; got {self.alpha!r}.")
    checks.check_whole('folds', self.folds, 2)
    checks.check_whole('steps', self.steps, 1)
    least, largest = (float(value) for value in (
        np.finfo(np.float32).tiny, np.finfo(np.float32).max))
    if not _is_number(self.learning_rate) or not (
        least <= self.learning_rate <= largest):
      raise ValueError(
          '`learning_rate` is a number > 0 that float32 can hold; got '
          f'{self.learning_rate!r}.')
    return sizes

  # Outputs.

  def _standardize(self, x: np.ndarray) -> np.ndarray:
    return _tables.standardize(x, self.input_mean_, self.input_scale_)

  def _check_inputs(self, x: Any) -> np.ndarray:
    """Returns inputs [n, in], float64; raises a ValueError for bad ones."""
    validation.check_is_fitted(self)
    return self._validate(x, reset=False)

  def _validate(self, *data: Any, **options: Any) -> Any:
    """Checks data as scikit-learn does, without its warning of a large sum."""
    with np.errstate(invalid='ignore'):
      return validation.validate_data(self, *data, dtype=np.float64, **options)

  def _compute(self, x: np.ndarray) -> np.ndarray:
    """Returns raw outputs for raw inputs, [n, out], float64."""
    outputs = []
    compute = inference.freeze(self.model_, self.variables_)
    scaled = self._standardize(x).astype(self.model_.param_dtype)
    for start in range(0, len(x), _CHUNK):
      rows = scaled[start:start + _CHUNK]
      block = np.pad(rows, [(0, _CHUNK - len(rows)), (0, 0)])
      outputs.append(np.asarray(compute(block), np.float64)[:len(rows)])
    return _tables.restore(
        np.concatenate(outputs), self.output_mean_, self.output_scale_)

  def _compute_formulas(self, x: np.ndarray) -> np.ndarray:
    """Returns what the formulas say for raw inputs, [n, out]."""
    from kan_jax.symbolic import expressions  # Its sympy is optional.
    return expressions.lambdify(self._find_formulas(), self._input_names())(x)

  # Formulas.

  def _input_names(self) -> list[str]:
    names = getattr(self, 'feature_names_in_', None)
    if names is None:
      return [f'x_{i}' for i in range(self.n_features_in_)]
    return [str(name) for name in names]

  def _find_formulas(self) -> 'list[sympy.Expr]':
    """Returns an expression for each output; looks for them once."""
    validation.check_is_fitted(self)
    if '_formulas' not in self.__dict__:
      self._formulas = _formulas.find_all(self)
    return self._formulas

  def _log(self, line: str) -> None:
    if self.verbose:
      print(line, flush=True)


def _is_number(value: Any) -> bool:
  return isinstance(value, numbers.Real) and not isinstance(value, bool)
