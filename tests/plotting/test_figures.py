"""Figures as a notebook asks for them."""

import io

from matplotlib import figure
from matplotlib import image
import numpy as np

from kan_jax.plotting import _figures


def test_is_a_picture_of_its_size():
  fig = _figures.Figure(figsize=(2, 1), dpi=50, facecolor='r')
  assert isinstance(fig, figure.Figure)
  pixels = image.imread(io.BytesIO(fig._repr_png_()))
  assert pixels.shape == (50, 100, 4)
  np.testing.assert_array_equal(pixels[25, 50], [1, 0, 0, 1])
