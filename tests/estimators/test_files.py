"""Fitted estimators in one file."""

import pathlib
import tempfile

from absl.testing import absltest
import numpy as np
import pandas as pd

from kan_jax import model_file
from kan_jax.estimators import estimators

_QUICK = {'steps': 20, 'learning_rate': 0.05, 'alpha': 1.0}
_RNG = np.random.default_rng(0)
_X = _RNG.uniform(-1, 1, (120, 3))
_Y = np.sin(3 * _X[:, 0]) + _X[:, 1]**2
_LABELS = np.where(_Y > 0.3, 'many', 'few')


class FilesTest(absltest.TestCase):

  def test_saved(self):
    """One file, in which there is no code: the same predictions."""
    folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory()))
    table = pd.DataFrame(_X, columns=['a', 'b', 'c'])
    for model, target in (
        (estimators.KANClassifier(**_QUICK), _LABELS),
        (estimators.KANRegressor(**_QUICK), _Y)):
      model.fit(table, target)
      path = folder / type(model).__name__
      model.save(path)
      same = type(model).load(path)
      self.assertEqual(same.get_params(), model.get_params())
      np.testing.assert_array_equal(same.predict(table), model.predict(table))
      for ours, others in zip(model._rows, same._rows, strict=True):
        np.testing.assert_array_equal(ours, others)
      self.assertEqual(same.path_.keys(), model.path_.keys())
      self.assertEqual(model_file.load(path)[0], model.model_)
      with self.assertRaisesRegex(
          model_file.ModelFileError, 'there already; `overwrite=True`'):
        model.save(path)
    with self.assertRaisesRegex(
        model_file.ModelFileError, 'no KANRegressor: it is of KANClassifier'):
      estimators.KANRegressor.load(folder / 'KANClassifier')
    model, variables, more = model_file.read(folder / 'KANRegressor')
    for change, message in (
        ({'options': {'steps_': 1}}, 'unexpected keyword'),
        ({'options': 3}, 'cannot be used'), ({'attributes': [1]}, 'used')):
      model_file.write(
          folder / 'bad', model, variables, more | change, overwrite=True)
      with self.assertRaisesRegex(model_file.ModelFileError, message):
        estimators.KANRegressor.load(folder / 'bad')
    model_file.write(
        folder / 'bad', model.clone(outside='zero'), variables, more,
        overwrite=True)
    with self.assertRaisesRegex(model_file.ModelFileError, 'its model is none'):
      estimators.KANRegressor.load(folder / 'bad')
    with self.assertRaisesRegex(ValueError, 'RandomState'):
      model_file.write(folder / 'bad', model, variables, {
          'options': estimators.KANRegressor(
              random_state=np.random.RandomState(0)).get_params()},
          overwrite=True)
