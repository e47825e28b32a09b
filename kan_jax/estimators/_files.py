"""Fitted estimators in one file; see `KANEstimator.save` and `load`."""

import os
from typing import Any
from typing import TypeVar

import jax
import numpy as np

from kan_jax import model_file

# Attributes that a file keeps, besides those that the model decides.
_SAVED = frozenset({
    'n_features_in_', 'feature_names_in_', 'classes_', 'input_mean_',
    'input_scale_', 'output_mean_', 'output_scale_', 'alpha_', 'path_',
    'n_iter_', '_many', '_rows'})

_E = TypeVar('_E')


def write(
    path: str | os.PathLike[str], estimator: Any, *, overwrite: bool) -> None:
  """Writes a fitted estimator."""
  model_file.write(path, estimator.model_, estimator.variables_, {
      'kind': type(estimator).__name__, 'options': estimator.get_params(),
      'attributes': {name: value for name, value in vars(estimator).items()
                     if name in _SAVED}}, overwrite=overwrite)


def read(path: str | os.PathLike[str], kind: type[_E]) -> _E:
  """Returns the fitted estimator of the class `kind` that a file holds."""
  model, variables, more = model_file.read(path)
  if more.get('kind') != kind.__name__:
    raise model_file.ModelFileError(
        f'{path} holds no {kind.__name__}: it is of '
        f'{str(more.get("kind", "a model alone"))[:40]}')
  try:
    estimator: Any = kind(**more['options'])
    for name in more['attributes'].keys() & _SAVED:
      setattr(estimator, name, more['attributes'][name])
    estimator.variables_ = jax.tree.map(np.asarray, variables)
    estimator._model_options = {
        'features': model.features, 'grid': model.grid, 'order': model.order,
        'dtype': model.param_dtype}
    different = estimator.model_ != model
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise model_file.ModelFileError(
        f'{path} cannot be used: {error!r}') from error
  if different:
    raise model_file.ModelFileError(
        f'{path} cannot be used: its model is none of {kind.__name__}')
  found: _E = estimator
  return found
