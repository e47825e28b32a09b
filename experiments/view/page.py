"""The HTML page of a run: one text that needs nothing else.

The template beside this file has the style sheet and the script. Everything
that comes from a run is escaped.
"""

import base64
from collections.abc import Iterable
import dataclasses
import html
import io
import pathlib
import string
from typing import NamedTuple

from matplotlib import figure
import numpy as np
from PIL import Image

from experiments.mnist import configs
from experiments.mnist import run_folder
from experiments.view import diagram
from experiments.view import svg

_TEMPLATE = pathlib.Path(__file__).with_name('page.html')


class Run(NamedTuple):
  """What a page shows.

  Attributes:
    name: Name of the run.
    config: Its settings.
    rows: Metrics of each epoch that has ended.
    step: Number of steps taken.
    images: Test images, [n, 28, 28], 0 to 1.
    labels: Classes of the images, [n].
    probabilities: The model's probabilities of the classes, [n, classes].
    picture: Picture of its KAN, if it has one.
  """
  name: str
  config: configs.Config
  rows: list[dict[str, float]]
  step: int
  images: np.ndarray
  labels: np.ndarray
  probabilities: np.ndarray
  picture: diagram.Picture | None

  @property
  def predicted(self) -> np.ndarray:
    """The most probable classes, [n]."""
    return self.probabilities.argmax(1)


def render(run: Run, most: int) -> str:
  """Returns the page of a run, with at most `most` wrong images."""
  template = string.Template(_TEMPLATE.read_text('utf-8'))
  return template.substitute(
      name=html.escape(run.name), subtitle=html.escape(_subtitle(run)),
      facts=_facts(run), curves=_curves(run), network=_network(run.picture),
      confusion=_confusion(run), count=_shown(run, most),
      wrong=_images(run, most), settings=_settings(run.config))


def _subtitle(run: Run) -> str:
  kind = {'conv_kan': 'KAN behind two convolutions', 'kan': 'KAN on pixels',
          'conv_mlp': 'MLP behind two convolutions'}[run.config.model]
  return (f'{kind}, on {run.config.dataset}: {len(run.rows)} of '
          f'{run.config.epochs} epochs, {run.step:,} steps')


def _facts(run: Run) -> str:
  """The numbers to see first."""
  wrong = int((run.predicted != run.labels).sum())
  facts = {
      'test accuracy': f'{100 - 100 * wrong / len(run.labels):.2f} %',
      'wrong test images': f'{wrong:,} of {len(run.labels):,}'}
  if run.rows:
    facts |= {'training accuracy': f'{run.rows[-1]["acc_train"]:.2f} %',
              'training loss': f'{run.rows[-1]["loss"]:.4f}'}
  return ''.join(f'<div><dt>{name}</dt><dd>{value}</dd></div>'
                 for name, value in facts.items())


def _curves(run: Run) -> str:
  """Loss and accuracy over the epochs, as pictures and as a table."""
  if not run.rows:
    return '<p>No epoch has ended yet.</p>'
  pictures = []
  for what, draw in (
      ('loss', run_folder.draw_loss), ('accuracy', run_folder.draw_accuracy)):
    fig = figure.Figure(figsize=(5, 2.7), layout='constrained')
    draw(fig.subplots(), run.rows)
    pictures.append(svg.write(svg.inline(
        fig, what, f'The {what} over the epochs; the table has the numbers')))
  head = _cells(
      'th', ['epoch', 'loss', 'training, %', 'test, %', 'seconds'])
  body = ''.join(
      f'<tr>{_cells("td", _epoch(row))}</tr>' for row in run.rows)
  return (f'<div class="charts">{"".join(pictures)}</div><details><summary>'
          'The numbers</summary><div class="wide"><table class="numbers">'
          f'<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
          '</details>')


def _epoch(row: dict[str, float]) -> list[str]:
  return [f'{row["epoch"] + 1:g}', f'{row["loss"]:.4f}',
          f'{row["acc_train"]:.2f}', f'{row["acc_test"]:.2f}',
          f'{row.get("seconds", np.nan):.1f}']


def _cells(tag: str, texts: Iterable[str]) -> str:
  return ''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)


def _network(picture: diagram.Picture | None) -> str:
  """The diagram and, beside or below it, the function of one edge."""
  if not picture:
    return ''
  return f'''<section aria-labelledby="network">
<h2 id="network">Network</h2>
<p>The strongest edges of each layer, {picture.shown:,} of {picture.total:,} in
all, inputs below, classes on top. Point at an edge, or tap it, to see its
function; with the keyboard, arrows go from edge to edge.</p>
<div class="network"><div class="wide">{picture.diagram}</div>
<div class="panel" aria-live="polite">{picture.curves}
<p class="key"><span class="line">function</span> <span class="bar">test images
</span> <span class="tick">knots</span></p></div></div>
</section>'''


def _confusion(run: Run) -> str:
  """A table of counts; those off the diagonal choose what is shown below."""
  classes = range(run.probabilities.shape[1])
  counts = np.zeros((len(classes), len(classes)), int)
  np.add.at(counts, (run.labels, run.predicted), 1)
  head = ''.join(f'<th scope="col">{k}</th>' for k in classes)
  body = ''.join(
      f'<tr><th scope="row">{true}</th>'
      + ''.join(_count(true, k, counts[true]) for k in classes) + '</tr>'
      for true in classes)
  return (f'<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody>')


def _count(true: int, predicted: int, row: np.ndarray) -> str:
  """A cell of the confusion matrix, of the counts of a true class."""
  count = int(row[predicted])
  if true == predicted:
    return f'<td class="right">{count}</td>'
  if not count:
    return '<td></td>'
  # The root keeps rare mistakes in sight; a tenth of a class is full color.
  shade = min((10 * count / row.sum())**0.5, 1)
  return (f'<td style="--shade:{shade:.2f}"><button data-true="{true}" '
          f'data-predicted="{predicted}" aria-pressed="false" aria-label="'
          f'{count} times a {true}, taken for a {predicted}">{count}</button>'
          '</td>')


def _shown(run: Run, most: int) -> str:
  """Says how many of the wrong images are shown."""
  wrong = int((run.predicted != run.labels).sum())
  return f'{min(wrong, most):,} of {wrong:,} shown.'


def _images(run: Run, most: int) -> str:
  """The images that the model gets wrong, the surest mistakes first."""
  [wrong] = np.nonzero(run.predicted != run.labels)
  sure = run.probabilities[wrong].max(1)
  wrong = wrong[np.argsort(-sure, kind='stable')]
  return '\n'.join(_image(run, int(k)) for k in wrong[:most])


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


def _settings(config: configs.Config) -> str:
  return ''.join(
      f'<tr><th scope="row">{html.escape(name)}</th>'
      f'{_cells("td", [str(value)])}</tr>'
      for name, value in dataclasses.asdict(config).items())
