"""Figures that a notebook shows as pictures."""

import io
from typing import NamedTuple

import matplotlib as mpl
from matplotlib import colors
from matplotlib import figure

Color = tuple[float, float, float]


class Palette(NamedTuple):
  """Colors of a picture, as the style in force has them.

  Attributes:
    ink: Color of curves and text.
    paper: Color of what they are drawn on.
  """
  ink: Color
  paper: Color

  @property
  def pale(self) -> Color:
    """A color a quarter of the way from paper to ink."""
    red, green, blue = (
        0.75 * paper + 0.25 * ink
        for ink, paper in zip(self.ink, self.paper, strict=True))
    return red, green, blue


def palette() -> Palette:
  """Returns the colors of the style in force, such as 'dark_background'."""
  paper = colors.to_rgba(mpl.rcParams['figure.facecolor'])
  if not paper[-1]:  # Transparent: whatever is below should suit the axes.
    paper = colors.to_rgba(mpl.rcParams['axes.facecolor'])
  return Palette(colors.to_rgb(mpl.rcParams['text.color']), paper[:3])


def plain(text: str) -> str:
  """Returns a text for a picture, where two $ would begin mathematics."""
  return text.replace('$', r'\$')


class Figure(figure.Figure):
  """A matplotlib figure that is a picture at the end of a notebook's cell.

  A plain one, which pyplot does not know of, is a line of text there until
  pyplot has made a figure or `%matplotlib inline` has run.
  """

  def _repr_png_(self) -> bytes:
    file = io.BytesIO()
    self.savefig(file, format='png')
    return file.getvalue()
