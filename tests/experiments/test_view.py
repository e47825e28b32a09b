"""The page of a run: what it says, that it needs nothing else, that it works.
"""

import base64
import dataclasses
import functools
from html import parser
import io
import re
import shutil

from absl.testing import parameterized
from helpers import browser
from helpers import command
import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image
import pytest

from experiments import cli
from experiments.data import sets
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import run_folder
from experiments.view import __main__ as view
from kan_jax.layers import traversal

_CONFIGS = {
    'kan': configs.Config(hidden=4, grid=2, order=1, epochs=3),
    'mlp': configs.Config(hidden=4, model='conv_mlp')}
_VOID = {'meta', 'img', 'link', 'br', 'input'}
_RNG = np.random.default_rng(0)
_TEST = sets.Split(_RNG.random((40, 28, 28), np.float32),
                   _RNG.integers(0, 3, 40).astype(np.int32))
_DATA = sets.Dataset(_TEST, _TEST, 3)
_view = functools.partial(view.view, edges=6, images=20, dataset=_DATA)


class _Page(parser.HTMLParser):
  """A page as a list of elements; complains of tags that do not match.

  Attributes:
    found: Of each element its tag, its attributes and the text in it.
  """

  def __init__(self, text):
    super().__init__()
    self.found, self._open = [], []
    self.feed(text)
    self.close()
    assert not self._open, self._open

  def all(self, tag, **attributes):
    """Returns the attributes and texts of elements; '' is any value."""
    return [
        (given, ''.join(text)) for name, given, text in self.found
        if name == tag and all(
            key in given and value in ('', given[key])
            for key, value in attributes.items())]

  def handle_starttag(self, tag, attrs):
    names = [name for name, _ in attrs]
    assert len(names) == len(set(names)), (tag, attrs)
    self.found.append((tag, dict(attrs), []))
    if tag not in _VOID:
      self._open.append(self.found[-1])

  def handle_startendtag(self, tag, attrs):
    self.found.append((tag, dict(attrs), []))

  def handle_endtag(self, tag):
    assert self._open.pop()[0] == tag, tag

  def handle_data(self, data):
    for _, _, text in self._open:
      text.append(data)


@functools.cache
def _begin(name):
  """The programs of a run and its progress before the first step."""
  programs = compiled.build(_CONFIGS[name], 3)
  return programs, compiled.begin(_CONFIGS[name], programs, _TEST.images[:1])


def _row(epoch):
  return {'epoch': epoch, 'step': 10 * (epoch + 1), 'loss': 0.5**epoch,
          'acc_train': 60.5 + epoch, 'acc_test': 50.25 + epoch, 'seconds': 2.0}


def _write_run(folder, name='kan', epochs=2):
  """Writes the folder of a run that has learned nothing in some epochs."""
  progress = _begin(name)[1]
  with run_folder.open_recorder(str(folder), _CONFIGS[name]) as recorder:
    recorder.restore(progress)
    if not epochs:
      recorder.checkpoint(progress)
    for epoch in range(epochs):
      state = progress.state.replace(step=jnp.asarray(10 * (epoch + 1)))
      recorder.epoch(progress._replace(state=state), _row(epoch))
  return folder


@functools.cache
def _probabilities(name):
  programs, progress = _begin(name)
  return np.asarray(jax.nn.softmax(jax.jit(programs.model.apply)(
      progress.state.variables, _TEST.images)))


@pytest.fixture(scope='module')
def chromium(tmp_path_factory):
  """A browser, which takes a second to start."""
  found = browser.Browser(tmp_path_factory.mktemp('profile'))
  yield found
  found.close()


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The folder of a run, for tests to copy."""
  return _write_run(tmp_path_factory.mktemp('runs') / 'whole')


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  """The text of a page for each config; the name of the run needs escapes."""
  folder = tmp_path_factory.mktemp('runs')
  return {name: _view(_write_run(folder / f'{name} <i>&"$name', name))
          for name in _CONFIGS}


class PageTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _pages(self, pages):
    self.text = pages
    self.page = {name: _Page(text) for name, text in pages.items()}

  @parameterized.parameters('kan', 'mlp')
  def test_needs_nothing_else(self, name):
    """All addresses in it are data or places on the page."""
    for tag, attributes, _ in self.page[name].found:
      self.assertNotIn(tag, ('link', 'iframe', 'object', 'base'))
      for key in ('src', 'href', 'xlink:href', 'action', 'srcset'):
        self.assertRegex(attributes.get(key, '#'), '^(#|data:image/png;)')
      self.assertNotIn('xmlns', attributes)
    self.assertNotRegex(self.text[name], r'url\((?!#)|@import|https?:|\bon\w+=')

  @parameterized.parameters('kan', 'mlp')
  def test_what_it_refers_to_is_there_once(self, name):
    found = self.page[name].found
    ids = [given['id'] for _, given, _ in found if 'id' in given]
    self.assertCountEqual(set(ids), ids)
    for _, given, _ in found:
      for key in ('href', 'data-curve', 'aria-labelledby'):
        if key in given:
          self.assertIn(given[key].removeprefix('#'), ids)
      for value in filter(None, given.values()):
        self.assertContainsSubset(re.findall(r'url\(#(.*?)\)', value), ids)

  def test_escapes(self):
    [(_, title)] = self.page['kan'].all('title')
    self.assertEqual(title, 'kan <i>&"$name')
    self.assertEmpty(self.page['kan'].all('i'))

  def test_training(self):
    cells = [text for _, text in self.page['kan'].all('td')]
    for text in ('0.5000', '61.50', '51.25', '2.0'):
      self.assertIn(text, cells)
    # Epochs count from 0, as in the log and in metrics.csv.
    self.assertEqual(cells[cells.index('0.5000') - 1], '1')
    self.assertIn('2 of 3 epochs, 20 steps', self.text['kan'])

  def test_an_mlp_has_all_but_the_network(self):
    edges = [len(page.all('g', role='button')) for page in self.page.values()]
    self.assertEqual(edges, [12, 0])  # Two layers, six edges each.
    self.assertNotIn('id="network"', self.text['mlp'])
    sections = [{given['id'] for given, _ in page.all('h2', id='')}
                for page in self.page.values()]
    self.assertEqual(sections[0] - sections[1], {'network'})
    self.assertEqual(sections[1], {'training', 'confusion', 'wrong'})

  def test_curves(self):
    """What is drawn is the function, read back from the picture."""
    programs, progress = _begin('kan')
    views = list(traversal.view_layers(
        programs.model, progress.state.variables, _TEST.images).values())
    curves = re.findall(
        r'<figure class="curve" id="edge-(\d)-(\d+)-(\d+)".*?'
        r'<polyline points="(.*?)".*?</figure>', self.text['kan'], re.DOTALL)
    self.assertLen(curves, 12)
    for k, i, o, points in curves:
      self._check_curve(views[int(k)], int(i), int(o), np.array(
          [point.split(',') for point in points.split()], float))

  def _check_curve(self, layer, i, o, points):
    inputs = np.asarray(layer.inputs)
    across = points[:, 0] - points[0, 0]
    x = inputs[:, i].min() + np.ptp(inputs[:, i]) * across / across[-1]
    rows = np.broadcast_to(x[:, None], (len(x), inputs.shape[1]))
    y = np.asarray(layer.edge_outputs(jnp.asarray(rows, jnp.float32)))[:, i, o]
    # Places have one decimal, on a picture 184 high; SVG's y points down.
    height = np.ptp(points[:, 1])
    np.testing.assert_allclose(
        (points[:, 1].max() - points[:, 1]) / height,
        (y - y.min()) / np.ptp(y), atol=0.005)

  @parameterized.parameters('kan', 'mlp')
  def test_confusion(self, name):
    """Counts as from a loop over the images; the buttons say the same."""
    wanted = np.zeros((3, 3), int)
    for true, predicted in zip(
        _TEST.labels, _probabilities(name).argmax(1), strict=True):
      wanted[true, predicted] += 1
    table = re.search(
        r'<table class="confusion">.*?<tbody>(.*)</tbody></table>\n</?div',
        self.text[name].replace('</table></div>', '</table>\n</div'), re.DOTALL)
    found = [[int('0' + re.sub('<.*?>', '', cell))
              for cell in re.findall('<td.*?</td>', row)]
             for row in table[1].split('</tr>')[:3]]
    np.testing.assert_array_equal(found, wanted)
    for given, text in self.page[name].all('button', **{'data-true': ''}):
      self.assertEqual(int(text), wanted[
          int(given['data-true']), int(given['data-predicted'])])

  def test_wrong_images(self):
    """The pixels are those of the set, and the numbers those of the model."""
    outputs = _probabilities('kan')
    images = self.page['kan'].all('img')
    entries = self.page['kan'].all('li', **{'data-true': ''})
    wrong = (outputs.argmax(1) != _TEST.labels).sum()
    self.assertLen(images, min(20, wrong))
    self.assertIn(f'{min(20, wrong)} of {wrong} shown', self.text['kan'])
    surest = 1.0
    for (image, _), (entry, text) in zip(images, entries, strict=True):
      k = int(re.search(r'\d+', image['alt'])[0])
      pixels = np.asarray(Image.open(io.BytesIO(
          base64.b64decode(image['src'].partition(',')[2]))))
      np.testing.assert_allclose(pixels / 255, _TEST.images[k], atol=0.5 / 255)
      predicted = outputs[k].argmax()
      self.assertEqual(
          (int(entry['data-true']), int(entry['data-predicted'])),
          (_TEST.labels[k], predicted))
      self.assertNotEqual(predicted, _TEST.labels[k])
      np.testing.assert_allclose(
          [float(number) for number in re.findall(r'(\d+) %', text)],
          100 * outputs[k, [predicted, _TEST.labels[k]]], atol=0.51)
      self.assertLessEqual(outputs[k, predicted], surest + 1e-6)
      surest = outputs[k, predicted]


class FolderTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path, whole):
    self.path, self.whole = tmp_path / 'run', whole

  def test_before_the_first_epoch_has_ended(self):
    self.assertIn('No epoch has ended yet',
                  _view(_write_run(self.path, epochs=0)))

  def test_metrics_that_are_gone(self):
    (shutil.copytree(self.whole, self.path) / 'metrics.csv').unlink()
    text = _view(self.path)
    self.assertIn('metrics.csv is missing or empty', text)
    self.assertNotIn('No epoch has ended yet', text)

  @parameterized.parameters(
      ('config.json', None, 'holds no run'), ('config.json', '[]', 'no run'),
      ('config.json', '{"depth": 3}', 'holds no run.*depth'),
      ('config.json', '{"hidden": 0}', '--hidden=0 is not possible'),
      ('config.json', '{"hidden": 5, "grid": 2, "order": 1}',
       r'different networks: grid/kan/layers_0/mask has the shape \(16, 4\) in '
       r'the checkpoint, and \(16, 5\) by the config$'),
      ('config.json', '[' * 100_000, 'holds no run'),
      ('config.json', '{"hidden": "x"}',
       "holds no run.*--hidden='x' is not possible; it must be a whole number"),
      ('metrics.csv', 'epoch,step\n0,1\n', 'metrics.csv is damaged.*loss'),
      ('metrics.csv', 'epoch,step,loss,acc_train,acc_test\n0,x,1,1,1\n',
       'metrics.csv is damaged.*x'),
      ('checkpoints/20/SHA256SUMS', 'no', '20 is damaged.*step 10'))
  def test_what_is_wrong_with_a_folder(self, name, text, message):
    file = shutil.copytree(self.whole, self.path) / name
    file.unlink() if text is None else file.write_text(text)
    with self.assertRaisesRegex(cli.UsageError, message):
      _view(self.path)

  def test_no_folder_and_no_checkpoint(self):
    with self.assertRaisesRegex(cli.UsageError, 'holds no run.*No such file'):
      _view(self.path)
    with run_folder.open_recorder(str(self.path), _CONFIGS['kan']):
      pass
    with self.assertRaisesRegex(cli.UsageError, 'no complete checkpoint yet'):
      _view(self.path)

  def test_nothing_is_overwritten_unasked(self):
    self.path.write_text('mine')
    with self.assertRaisesRegex(cli.UsageError, 'is there already; --overw'):
      view.write(self.path, 'new')
    self.assertEqual(self.path.read_text(), 'mine')
    view.write(self.path, 'new', overwrite=True)
    self.assertEqual(self.path.read_text(), 'new')
    with self.assertRaisesRegex(cli.UsageError, 'cannot be written: Not a dir'):
      view.write(self.path / 'under' / 'a file', 'new')

  def test_command_line(self):
    """On MNIST, with the start of an MLP."""
    config = dataclasses.replace(_CONFIGS['mlp'], hidden=20)
    programs = compiled.build(config, 10)
    with run_folder.open_recorder(str(self.path), config) as recorder:
      recorder.checkpoint(compiled.begin(config, programs, _TEST.images[:1]))
    done = command.call('view', f'--workdir={self.path}', '--images=7')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertRegex(done.stdout, r'^\S+/view\.html: \d\.\d MB; open it')
    page = _Page((self.path / 'view.html').read_text())
    self.assertLen(page.all('img'), 7)


@pytest.mark.skipif(not browser.PROGRAM, reason='needs chromium: apt install')
class BrowserTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _open(self, chromium, pages, tmp_path):
    file = tmp_path / 'page.html'
    file.write_text(pages['kan'])
    self.browser = chromium
    chromium.complaints.clear()
    chromium.requests.clear()
    chromium.show(width=1200, height=900)
    chromium.open(file)
    yield
    # Whatever a test did, nothing was fetched and nothing went wrong.
    self.assertEqual(chromium.complaints, [])
    self.assertEqual([address for address in chromium.requests
                      if not address.startswith('data:')], [file.as_uri()])

  def _shown(self):
    """The ids of the curves that can be seen."""
    return self.browser.run(
        '[...document.querySelectorAll(".curve")].filter('
        'one => one.getClientRects().length).map(one => one.id)')

  def test_edges_answer(self):
    """To the mouse, and to the keyboard."""
    edges = self.browser.run('[...document.querySelectorAll(".edge")].map('
                             'one => one.dataset.curve)')
    self.assertLen(self._shown(), 1)
    for name in (edges[0], edges[7], edges[2]):
      self.browser.point(f'[data-curve={name}] polygon')
      self.assertEqual(self._shown(), [name])
    self.browser.run(
        'document.querySelector(".edge[tabindex=\\"0\\"]").focus()')
    for key, place in (('ArrowRight', 3), ('ArrowUp', 9), ('ArrowLeft', 8),
                       ('ArrowUp', 8), ('ArrowDown', 2)):
      self.browser.press(key)
      self.assertEqual(self._shown(), [edges[place]], key)

  def test_confusion_chooses_images(self):
    everything = self._images()
    label = self.browser.run(
        'document.querySelector(".confusion button").ariaLabel')
    count, true, predicted = re.findall(r'\d+', label)
    self.browser.click('.confusion button')
    chosen = self._images()
    self.assertEqual(set(chosen), {f'{true} {predicted}'})
    self.assertEqual(chosen, [x for x in everything if x == chosen[0]])
    self.assertLessEqual(len(chosen), int(count))
    self.browser.click('.all')
    self.assertEqual(self._images(), everything)

  def _images(self):
    """True and predicted classes of the images that can be seen."""
    return self.browser.run(
        '[...document.querySelectorAll(".wrong li")].filter('
        'one => one.getClientRects().length).map('
        'one => one.dataset.true + " " + one.dataset.predicted)')

  @parameterized.parameters((360, 'dark'), (1200, 'light'))
  def test_fits_the_window(self, width, scheme):
    """The page does not scroll sideways; ink and paper differ."""
    self.browser.show(width=width, height=700, scheme=scheme)
    self.assertLessEqual(
        self.browser.run('document.documentElement.scrollWidth'), width)
    style = 'getComputedStyle(document.body)'
    ink, paper = (
        np.mean([int(x) for x in re.findall(r'\d+', self.browser.run(
            f'{style}.{name}'))]) for name in ('color', 'backgroundColor'))
    self.assertEqual(ink > paper, scheme == 'dark')
    self.assertGreater(abs(ink - paper), 150)
