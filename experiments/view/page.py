"""The HTML page of a run of MNIST: one text that needs nothing else.

`kan_jax.plotting` has the page; here is what belongs to images.
"""

import base64
import dataclasses
import functools
import io
import pathlib
from typing import NamedTuple

import numpy as np
from PIL import Image

from experiments.mnist import configs
from experiments.mnist import run_folder
from kan_jax.plotting import _interactive
from kan_jax.plotting import _pages

_STYLE = pathlib.Path(__file__).with_name('images.css')
_SCRIPT = _STYLE.with_suffix('.js')


class Run(NamedTuple):
  """What a page shows.

  Attributes:
    name: Name of the run.
    config: Its settings.
    rows: Metrics of the epochs, as far as they are there.
    step: Number of steps taken.
    ended: Number of epochs that these steps make.
    images: Test images, [n, 28, 28], 0 to 1.
    labels: Classes of the images, [n].
    probabilities: The model's probabilities of the classes, [n, classes].
    picture: Picture of its KAN, if it has one.
  """
  name: str
  config: configs.Config
  rows: list[dict[str, float]]
  step: int
  ended: int
  images: np.ndarray
  labels: np.ndarray
  probabilities: np.ndarray
  picture: _interactive.Picture | None

  @property
  def predicted(self) -> np.ndarray:
    """The most probable classes, [n]."""
    return self.probabilities.argmax(1)


def render(run: Run, most: int) -> str:
  """Returns the page of a run, with at most `most` wrong images."""
  return _pages.render(
      run.name, _subtitle(run), _facts(run), [
          _pages.section('training', 'Training', _curves(run)),
          _pages.network_section({'': run.picture}) if run.picture else '',
          f'<div class="mistakes">\n{_confusion(run)}\n{_wrong(run, most)}\n'
          '</div>'],
      dataclasses.asdict(run.config), style=_STYLE.read_text('utf-8'),
      script=_SCRIPT.read_text('utf-8'))


def _subtitle(run: Run) -> str:
  kind = {'conv_kan': 'KAN behind two convolutions', 'kan': 'KAN on pixels',
          'conv_mlp': 'MLP behind two convolutions',
          'mlp': 'MLP on pixels', 'kan_conv': 'KAN convolutions',
          'cnn': 'convolutions'}[run.config.model]
  return (f'{kind}, on {run.config.dataset}: {len(run.rows) or run.ended} of '
          f'{run.config.epochs} epochs, {run.step:,} steps')


def _facts(run: Run) -> dict[str, str]:
  """The numbers to see first."""
  wrong = int((run.predicted != run.labels).sum())
  facts = {
      'test accuracy': f'{100 - 100 * wrong / len(run.labels):.2f} %',
      'wrong test images': f'{wrong:,} of {len(run.labels):,}'}
  if run.rows:
    facts |= {'training accuracy': f'{run.rows[-1]["acc_train"]:.2f} %',
              'training loss': f'{run.rows[-1]["loss"]:.4f}'}
  return facts


def _curves(run: Run) -> str:
  """Loss and accuracy over the epochs, as pictures and as a table."""
  if not run.rows and run.ended:
    return ('<p>metrics.csv is missing or empty: the run has epochs behind it, '
            f'{run.ended:,} of them, but not their numbers.</p>')
  if not run.rows:
    return '<p>No epoch has ended yet.</p>'
  pictures = [
      _pages.chart(
          what, f'The {what} over the epochs; the table has the numbers',
          functools.partial(draw, history=run.rows))
      for what, draw in (('loss', run_folder.draw_loss),
                         ('accuracy', run_folder.draw_accuracy))]
  head = _pages.cells(
      'th', ['epoch', 'loss', 'training, %', 'test, %', 'seconds'])
  body = ''.join(
      f'<tr>{_pages.cells("td", _epoch(row))}</tr>' for row in run.rows)
  return (f'{_pages.charts(pictures)}<details><summary>'
          'The numbers</summary><div class="wide"><table class="numbers">'
          f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
          '</details>')


def _epoch(row: dict[str, float]) -> list[str]:
  return [f'{row["epoch"]:g}', f'{row["loss"]:.4f}',
          f'{row["acc_train"]:.2f}', f'{row["acc_test"]:.2f}',
          f'{row.get("seconds", np.nan):.1f}']


def _confusion(run: Run) -> str:
  """A table of counts; those off the diagonal choose what is shown below."""
  size = run.probabilities.shape[1]
  counts = np.zeros((size, size), int)
  np.add.at(counts, (run.labels, run.predicted), 1)
  table = _pages.confusion_table(counts, [str(k) for k in range(size)], _button)
  return _pages.section(
      'confusion', 'Confusion matrix', table, 'Rows are true classes, columns '
      'what the model says, on the test set. A number off the diagonal is a '
      'button: it shows these images alone.')


def _button(true: int, predicted: int, count: int) -> str:
  return (f'<button data-true="{true}" data-predicted="{predicted}" '
          f'aria-pressed="false" aria-label="{count} times a {true}, taken for '
          f'a {predicted}">{count}</button>')


def _wrong(run: Run, most: int) -> str:
  """The images that the model gets wrong, the surest mistakes first."""
  [wrong] = np.nonzero(run.predicted != run.labels)
  sure = run.probabilities[wrong].max(1)
  wrong = wrong[np.argsort(-sure, kind='stable')]
  images = '\n'.join(_image(run, int(k)) for k in wrong[:most])
  return _pages.section('wrong', 'What it gets wrong', (
      f'<p><span id="count" role="status">{min(len(wrong), most):,} of '
      f'{len(wrong):,} shown.</span>\n<button class="all" hidden>Show all'
      '</button></p>\n<p>The surest mistakes come first. Below an image: the '
      'probability of what the model says, then that of the true class.</p>\n'
      f'<ul class="wrong">{images}</ul>'))


def _image(run: Run, k: int) -> str:
  true, predicted = int(run.labels[k]), int(run.predicted[k])
  chances = 100 * run.probabilities[k]
  return (
      f'<li data-true="{true}" data-predicted="{predicted}"><img width="56" '
      f'height="56" src="{_png(run.images[k])}" alt="Test image {k}, a {true}">'
      f'<span><b>{true}</b> taken for <b>{predicted}</b></span> '
      f'<small>{_percent(chances[predicted])}, {_percent(chances[true])}'
      '</small></li>')


def _percent(number: float) -> str:
  return f'{number:.0f} %' if number >= 1 else '&lt; 1 %'


def _png(image: np.ndarray) -> str:
  """Returns an image as a data URI."""
  data = io.BytesIO()
  pixels = np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)
  Image.fromarray(pixels).save(data, 'png', optimize=True)
  return f'data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}'
