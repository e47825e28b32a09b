"""Figures that a notebook shows as pictures."""

import io

from matplotlib import figure


class Figure(figure.Figure):
  """A matplotlib figure that is a picture at the end of a notebook's cell.

  A plain one, which pyplot does not know of, is a line of text there until
  pyplot has made a figure or `%matplotlib inline` has run.
  """

  def _repr_png_(self) -> bytes:
    file = io.BytesIO()
    self.savefig(file, format='png')
    return file.getvalue()
