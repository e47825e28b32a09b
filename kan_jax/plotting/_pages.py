"""HTML pages that need nothing else: one text with pictures and a script.

The template beside this file has the style sheet and the script. Texts are
escaped here; what is called HTML goes in as it is.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import html
import itertools
import pathlib
import string

from matplotlib import axes
from matplotlib import figure
import numpy as np

from kan_jax.plotting import _figures
from kan_jax.plotting import _interactive
from kan_jax.plotting import _svg

_TEMPLATE = pathlib.Path(__file__).with_name('_page.html')
_POINTS = 1000  # Most rows that a picture shows.
# Those that follow the page's light or dark scheme.
_COLORS = 'C0', 'C1'


def render(
    title: str, subtitle: str, facts: Mapping[str, str],
    sections: Iterable[str], settings: Mapping[str, object], *,
    style: str = '', script: str = '') -> str:
  """Returns a page.

  Args:
    title: Its name.
    subtitle: What it is about, in a line.
    facts: The numbers to see first, by what they are.
    sections: HTML of the parts, in order; empty ones are left out.
    settings: Values by their names, for the end of the page.
    style: Further rules of the style sheet.
    script: Further lines of the script.
  """
  template = string.Template(_TEMPLATE.read_text('utf-8'))
  return template.substitute(
      title=html.escape(title), subtitle=html.escape(subtitle),
      facts=''.join(
          f'<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>'
          '</div>' for name, value in facts.items()),
      body='\n'.join(filter(None, sections)),
      settings=''.join(
          f'<tr><th scope="row">{html.escape(name)}</th>'
          f'{cells("td", [str(value)])}</tr>'
          for name, value in settings.items()),
      style=style, script=script)


def section(name: str, title: str, body: str, text: str = '') -> str:
  """Returns HTML of a part with a heading and, below it, a text.

  Args:
    name: Id of the heading.
    title: The heading.
    body: HTML of what follows.
    text: What to say first.
  """
  text = f'<p>{html.escape(text)}</p>\n' if text else ''
  return (f'<section aria-labelledby="{name}">\n<h2 id="{name}">'
          f'{html.escape(title)}</h2>\n{text}{body}\n</section>')


def cells(tag: str, texts: Iterable[str]) -> str:
  """Returns HTML of cells of a table."""
  return ''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in texts)


def network_section(
    pictures: Mapping[str, _interactive.Picture]) -> str:
  """Returns the section of one network, or of several by their headings."""
  shown, total = (sum(getattr(picture, name) for picture in pictures.values())
                  for name in ('shown', 'total'))
  text = (f'The strongest edges of each layer, {shown:,} of {total:,} in all, '
          'inputs below, outputs on top. Point at an edge, or tap it, to see '
          'its function; with the keyboard, arrows go from edge to edge.')
  parts = [(f'<div><h3>{html.escape(name)}</h3>' if name else '<div>')
           + f'{picture.write()}</div>' for name, picture in pictures.items()]
  return section(
      'network', 'Network', f'<div class="networks">{"".join(parts)}</div>',
      text)


def confusion_table(
    counts: np.ndarray, names: Sequence[str],
    write: Callable[[int, int, int], str] = lambda true, predicted, count: (
        str(count))) -> str:
  """Returns HTML of a confusion matrix.

  Args:
    counts: How often each true class, a row, was taken for each class.
    names: Names of the classes.
    write: Function of a true class, another one, and their count, that returns
      HTML of the count.
  """
  def cell(true: int, predicted: int) -> str:
    count = int(counts[true, predicted])
    if true == predicted:
      return f'<td class="right">{count}</td>'
    if not count:
      return '<td></td>'
    # The root keeps rare mistakes in sight; a tenth of a class is full color.
    shade = min((10 * count / counts[true].sum())**0.5, 1)
    return (f'<td class="off" style="--shade:{shade:.2f}">'
            f'{write(true, predicted, count)}</td>')

  names = [html.escape(name) for name in names]
  head = ''.join(f'<th scope="col">{name}</th>' for name in names)
  body = ''.join(
      f'<tr><th scope="row">{name}</th>'
      + ''.join(cell(true, k) for k in range(len(names))) + '</tr>'
      for true, name in enumerate(names))
  return ('<div class="wide"><table class="confusion"><thead><tr><td></td>'
          f'{head}</tr></thead><tbody>{body}</tbody></table></div>')


def charts(pictures: Iterable[str]) -> str:
  """Returns HTML of pictures side by side, as far as there is room."""
  return f'<div class="charts">{"".join(pictures)}</div>'


def chart(
    name: str, label: str, draw: Callable[[axes.Axes], None],
    size: tuple[float, float] = (5.0, 2.7)) -> str:
  """Returns HTML of a picture that `draw` makes.

  Args:
    name: Unique on the page.
    label: What it shows, for those who do not see it.
    draw: Function that draws into axes.
    size: Width and height in inches.
  """
  fig = figure.Figure(figsize=size, layout='constrained')
  ax = fig.subplots()
  draw(ax)
  for side in ('top', 'right'):
    ax.spines[side].set_visible(False)
  root = _svg.inline(fig, name, label)
  root.set('style', f'--inches: {size[0]:.1f}')
  return _svg.write(root)


def agreement_charts(
    true: np.ndarray, predicted: Mapping[str, np.ndarray],
    name: str) -> list[str]:
  """Returns pictures of predictions against true values, and of residuals.

  Args:
    true: True values, [n].
    predicted: Predictions by what they come from, [n] each, at most two.
    name: Name of the target.
  """
  rows = np.linspace(0, len(true) - 1, min(len(true), _POINTS)).astype(int)
  true = true[rows]
  predicted = {who: values[rows] for who, values in predicted.items()}

  def draw(ax: axes.Axes, residuals: bool) -> None:
    for (who, values), color in zip(predicted.items(), _COLORS, strict=False):
      ax.plot(true, values - true if residuals else values, '.', ms=3,
              color=color, alpha=0.6, label=who)
    ax.set_xlabel(_figures.plain(f'{name}, true'))
    ax.set_ylabel('predicted − true' if residuals else 'predicted')
    if residuals:
      ax.axhline(0, color='k', lw=0.8)
    else:
      ax.axline((true.mean(), true.mean()), slope=1, color='k', lw=0.8)
    if len(predicted) > 1:
      ax.legend(frameon=False, markerscale=2)

  return [
      chart(f'agreement {name}', f'{name}: predictions over true values',
            lambda ax: draw(ax, False), (4.4, 3.3)),
      chart(f'residuals {name}', f'{name}: residuals over true values',
            lambda ax: draw(ax, True), (4.4, 3.3))]


def bars_chart(values: Mapping[str, float], name: str, label: str) -> str:
  """Returns HTML of numbers as bars, the first one on top."""
  def draw(ax: axes.Axes) -> None:
    places = [-float(k) for k in range(len(values))]
    ax.barh(places, list(values.values()), color='C0')
    ax.set_yticks(places, labels=[_figures.plain(text) for text in values])
    for place, value in zip(places, values.values(), strict=True):
      ax.text(value, place, f' {value:.3g}', va='center', size=9)
    ax.margins(x=0.15)
    ax.set_xticks([])
    ax.spines['bottom'].set_visible(False)

  return charts([chart(name, label, draw, (6.0, 0.3 + 0.28 * len(values)))])


def effect_chart(
    points: np.ndarray, effects: Mapping[str, np.ndarray],
    samples: np.ndarray, column: str) -> str:
  """Returns a picture of mean predictions over the values of a column.

  Args:
    points: Values of the column, [k].
    effects: Mean predictions there, [k], by the name of the output.
    samples: Values of the column in the rows.
    column: Name of the column.
  """
  styles = itertools.cycle(('-', '--', ':', '-.'))

  def draw(ax: axes.Axes) -> None:
    for k, (output, values) in enumerate(effects.items()):
      ax.plot(points, values, next(styles), color=_COLORS[k % 2],
              label=_figures.plain(output))
    ax.plot(samples, np.zeros_like(samples), '|', ms=6, color='k', alpha=0.15,
            transform=ax.get_xaxis_transform())
    ax.set_xlabel(_figures.plain(column))
    if len(effects) > 1:
      ax.legend(frameon=False, fontsize=8)

  return chart(f'effect {column}', f'Mean prediction over {column}', draw,
               (3.4, 2.5))


def formula_block(mathml: str, text: str) -> str:
  """Returns HTML of a formula, as mathematics and as text."""
  return ('<div class="formula"><math displaystyle="true">'
          f'{mathml}</math></div>\n<pre><code>{html.escape(text)}</code></pre>')
