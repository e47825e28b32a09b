"""The pages of the site: their Python runs, and nothing is left out."""

import dataclasses
import pathlib
import re

from helpers import imports
from helpers import pages
import numpy as np
import pytest

from experiments.data import sets
from kan_jax import symbolic
from kan_jax.layers import linen

pytestmark = pytest.mark.documents
_DOCS = pages.ROOT / 'docs'


@pytest.fixture
def run(monkeypatch, tmp_path):
  """Runs a page in an empty folder, since a page may write files."""
  monkeypatch.chdir(tmp_path)
  return lambda name: pages.run(f'docs/{name}')


def _values(expression, names, x):
  return symbolic.lambdify([expression], names)(x)[:, 0]


def test_readme(capsys):
  names = pages.run('README.md')
  assert capsys.readouterr().out == 'exp(b**2 + sin(pi*a))\n'
  # Noiseless, and the formula is exact: no more than rounding is left.
  kan = names['kan']
  np.testing.assert_allclose(kan.predict(kan.x), kan.y, atol=1e-6)
  y = names['model'].apply(names['variables'], names['x'])
  assert y.shape == (100, 1)


def test_start(run):
  names = run('start.md')
  x, energy = names['x'], names['energy']
  columns, test = names['columns'], names['test']
  # Noiseless, and a sum of a function of each column.
  assert names['regressor'].score(test[columns], test['energy']) > 0.999
  np.testing.assert_allclose(
      _values(names['regressor'].formula_, columns, x), energy, rtol=1e-6)
  # Parabolas and straight lines are splines, so little is left.
  assert names['fitted'].history['validation_loss'][-1] < 1e-8 * energy.var()
  # Four digits of numbers that add up to the energy.
  by_network = names['kan'].formula(names=columns, digits=4)
  for formula in names['formula'], by_network:
    np.testing.assert_allclose(
        _values(formula, columns, x), energy, atol=1e-3 * energy.max())


def test_formula(run):
  names = run('formula.md')
  # The splines are good enough to tell functions by.
  assert names['splines'].history['loss'][-1] < 1e-5
  expression = symbolic.tidy(names['raw'], ['a', 'b'], names['x'], 1e-6)
  x = np.random.default_rng(1).uniform(0.5, 2, (50, 2))
  np.testing.assert_allclose(
      _values(expression, ['a', 'b'], x), np.hypot(*x.T), rtol=1e-6)


def test_models(run):
  names = run('models.md')
  for losses in names['losses'], names['nnx_losses']:
    # A constant's loss is the variance of a sine, about 0.5.
    assert losses[0] > 0.2 and losses[-1] < 0.05
  assert names['kan'].options.grid == 10
  left, right = pages.blocks('docs/models.md')[1:3]
  assert len(left.splitlines()) == len(right.splitlines())


def test_choosing(run):
  names = run('choosing.md')
  history = names['fitted'].history
  last = np.flatnonzero(np.diff(history['grid'], append=0))
  assert history['grid'][last].tolist() == [3, 6, 60]
  coarse, middle, fine = history['validation_loss'][last]
  # The noise has a variance of 0.01; 200 rows tell it, and the curves, to some
  # tenths.
  assert 0.007 < middle < 0.015
  assert middle < coarse and middle < fine
  assert (np.diff(history['loss'][last]) < 0).all()


def test_grid_updates(run):
  names = run('grid_updates.md')
  # The margin of the grid is 1 % beyond each end.
  ends = names['knots'][np.array([3, -4])]
  np.testing.assert_allclose(ends, [-0.53, 2.53], atol=0.05)
  # The first splines are 0.01 high, and may be lost where they were not 0.
  assert names['change'] < 0.02
  # Some roundings of values around 1.
  assert names['difference'] < 1e-5


def test_large_data(run):
  """What the page writes is a set that the programs read."""
  names = run('large_data.md')
  found = sets.read(sets.open_set('runs/table'))
  a, b, c, _, _ = found.train.images.T
  np.testing.assert_array_equal(found.train.labels, a * b > c)
  np.testing.assert_array_equal(
      found.test.images[-1], names['row'].astype('float32'))


def test_many_devices(run):
  names = run('many_devices.md')
  assert names['state'].step == 10
  # Ten steps from a small start: about the variance of the product, 1 / 9.
  assert 0 < names['totals']['loss'] / 10 < 1


def test_from_pykan(run, capsys):
  names = run('from_pykan.md')
  [script] = pages.blocks('docs/from_pykan.md')
  assert len([line for line in script.splitlines() if line]) <= 11
  kan = names['kan']
  assert (0, 2, 0) in kan.report.removed_edges
  # What it prints is the function that made the data.
  printed = capsys.readouterr().out.strip()
  assert printed == str(kan.formula()), printed
  x = names['x'][:50]
  values = symbolic.lambdify([kan.formula()], inputs=3)(x)[:, 0]
  np.testing.assert_allclose(values, names['y'][:50], rtol=1e-6)


def test_some_test_runs_each_page_with_python():
  tests = ''.join(path.read_text() for path in (
      pages.ROOT / 'tests').rglob('test_*.py'))
  assert [name for name in pages.with_code() if name not in tests] == []


def test_every_room_is_in_the_reference():
  packages, files = imports.entries('kan_jax')
  public = [*packages, *(name.removesuffix('.py') for name in files
                         if not name.startswith('_'))]
  shown = re.findall(r'^::: (.*)$', ''.join(
      page.read_text() for page in (_DOCS / 'reference').glob('*.md')), re.M)
  assert sorted(set(shown) - {'kan_jax.layers.nnx'}) == sorted(
      f'kan_jax.{name}' for name in public)


@pytest.mark.parametrize('module', [linen.KAN, linen.KANLayer])
def test_the_reference_shows_the_fields_of_modules_and_their_defaults(module):
  griffe = pytest.importorskip('griffe')
  package = griffe.load(
      'kan_jax', search_paths=[pages.ROOT],
      extensions=griffe.load_extensions(str(_DOCS / 'fields.py')))
  shown = list(package['layers'][module.__name__]['__init__'].parameters)[1:]
  fields = [field for field in dataclasses.fields(module)
            if field.name not in ('parent', 'name')]  # Flax's own.
  assert [one.name for one in shown] == [field.name for field in fields]
  for one, field in zip(shown, fields, strict=True):
    assert one.required == (field.default is dataclasses.MISSING), one.name
  assert str(shown[1].default) == str(fields[1].default) == '5'


def test_readme_shows_files_that_are_there():
  links = re.findall(r'\]\(((?!https?://)[^)#]+)', (
      pages.ROOT / 'README.md').read_text())
  assert links and all((pages.ROOT / pathlib.Path(link)).exists()
                       for link in links), links
