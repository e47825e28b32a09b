"""The page of an estimator: its numbers are those of the model."""

import pathlib
import re
import tempfile

from absl.testing import parameterized
import numpy as np
import pandas as pd
import sympy

from kan_jax.estimators import estimators

_RNG = np.random.default_rng(0)
_X = pd.DataFrame(_RNG.uniform(-1, 1, (90, 2)), columns=['a', 'b <c>'])
_Y = _X['a']**2 + 0.1 * _X['b <c>']
_QUICK = {'steps': 20, 'learning_rate': 0.05, 'alpha': 1.0,
          'hidden_layer_sizes': ()}


def _write(model, *data):
  path = model.report(pathlib.Path(tempfile.mkdtemp()) / 'page.html', *data)
  return path.read_text('utf-8')


def _headings(page):
  return re.findall('<h2 id="(.*?)">', page)


class ReportTest(parameterized.TestCase):

  def test_of_numbers(self):
    model = estimators.KANRegressor(**_QUICK).fit(_X, _Y)
    page = _write(model)
    self.assertEqual(_headings(page), [
        'agreement', 'importances', 'effects', 'formula', 'network'])
    self.assertIn('No formula has been looked for', page)
    self.assertIn(f'<dd>{model.score(_X, _Y):.4f}</dd>', page)
    for share in model.feature_importances_:
      self.assertIn(f'{share:.3g}', page)
    self.assertIn('b &lt;c&gt;', page)
    self.assertNotIn('<c>', page)
    ids = re.findall(r'\bid="(.*?)"', page)
    self.assertCountEqual(ids, set(ids))
    self.assertRegex(page, 'alpha</th><td>1.0<')
    self.assertRegex(page, 'alpha_</th><td>1<')
    path = pathlib.Path(tempfile.mkdtemp()) / 'kept.html'
    path.write_text('mine')
    with self.assertRaisesRegex(FileExistsError, 'overwrite=True'):
      model.report(path)
    self.assertEqual(path.read_text(), 'mine')
    model.report(path, overwrite=True)
    self.assertNotEqual(path.read_text('utf-8'), 'mine')
    # The formula is shown once it is there.
    model._formulas = [sympy.Symbol('a')**2]
    page = _write(model, _X[:30], _Y[:30])
    self.assertIn('<mi>y</mi><mo>=</mo><msup><mi>a</mi><mn>2</mn></msup>', page)
    self.assertIn('y = a**2', page)
    self.assertIn('On 30 rows given', page)
    predicted = model.predict_by_formula(_X[:30])
    r2 = 1 - np.sum((predicted - _Y[:30])**2) / np.sum(
        (_Y[:30] - _Y[:30].mean())**2)
    self.assertIn(f'R² of the formula</dt><dd>{r2:.4f}</dd>', page)

  def test_of_classes(self):
    labels = np.digitize(_Y, [0.1, 0.4]).astype(str)
    model = estimators.KANClassifier(**_QUICK).fit(_X, labels)
    page = _write(model, _X, labels)
    self.assertIn('confusion', _headings(page))
    counts = [int(count or 0) for count in re.findall(
        r'<td(?: class="\w+"[^>]*)?>(\d*)</td>',
        page.partition('confusion">')[2].partition('</table>')[0])][-9:]
    predicted = model.predict(_X)
    self.assertEqual(counts, [
        np.sum((labels == true) & (predicted == other))
        for true in '012' for other in '012'])
    with self.assertRaisesRegex(ValueError, "class '7'.*'0', '1', '2'"):
      _write(model, _X, np.full(90, '7'))

  def test_several_outputs(self):
    model = estimators.KANRegressor(**_QUICK).fit(
        _X, np.stack([_Y, 2 * _Y], 1))
    page = _write(model)
    self.assertIn('y_0: predictions', page)
    self.assertIn('y_1: residuals', page)

  def test_rows_need_targets(self):
    model = estimators.KANRegressor(**_QUICK).fit(_X, _Y)
    with self.assertRaisesRegex(ValueError, '`X` and `y` need each other'):
      _write(model, _X)
    with self.assertRaisesRegex(ValueError, 'inconsistent numbers'):
      _write(model, _X, _Y[:5])
