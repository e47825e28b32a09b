"""Initial values that keep signals alive through many layers.

With the initial values of arXiv 2404.19756, each layer halves the variations of
its inputs or worse, and a deep network starts as nearly a constant. Adam makes
up for much of that. The schemes here scale base functions and splines by the
size of the layer (Rigas et al., Initialization Schemes for Kolmogorov-Arnold
Networks, arXiv 2509.03417).
"""

import dataclasses
import functools
import math
from typing import get_args
from typing import Literal
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kan_jax.layers import edges
from kan_jax.splines import bases
from kan_jax.splines import bsplines

Mode = Literal['fan_in', 'fan_out', 'fan_avg']

_POINTS = 1024  # Of the sums that stand for integrals over a grid.


class Sizes(NamedTuple):
  """What the initial values of a layer depend on; options as in `KANLayer`."""
  inputs: int
  outputs: int
  grid: int
  order: int
  grid_range: tuple[float, float]
  base_fn: edges.BaseFn
  basis: bases.Name = 'bspline'


class Deviations(NamedTuple):
  """Standard deviations of normal initial values with mean 0.

  Attributes:
    base: That of scale_base.
    spline: That of coef.
  """
  base: jax.typing.ArrayLike
  spline: jax.typing.ArrayLike


@dataclasses.dataclass(frozen=True)
class VarianceScaling:
  """Keeps the variance of what goes through a layer, forward or backward.

  Inputs count as uniform on the grid. A spline is rougher than a base function
  of the same size: splines with much of the variance let gradients grow from
  layer to layer.

  Attributes:
    scale: Variance of the outputs over that of the inputs, > 0; with 'fan_out'
      that of the gradients.
    splines: Part of the variance that the splines bear, 0 to 1.
    mode: 'fan_in' keeps the variance of the outputs (LeCun), 'fan_out' that of
      the gradients, 'fan_avg' something between (Glorot), as for Flax's
      `variance_scaling`.
  """
  scale: float = 1.0
  splines: float = 0.5
  mode: Mode = 'fan_avg'

  def __post_init__(self):
    if not 0 < self.scale < math.inf:
      raise ValueError(f'`scale` needs a number > 0; got {self.scale!r}.')
    if not 0 <= self.splines <= 1:
      raise ValueError(
          f'`splines` needs a number from 0 to 1; got {self.splines!r}.')
    if self.mode not in get_args(Mode):
      raise ValueError(
          f'`mode` is one of {", ".join(get_args(Mode))}; got {self.mode!r}.')

  def __call__(self, sizes: Sizes) -> Deviations:
    """Returns the deviations that suit a layer."""
    low, high = sizes.grid_range
    values, slopes = _moments(*sizes[2:])
    # Growth of the variance by a layer whose weights have variance 1.
    forward = sizes.inputs * values * 12 / (high - low)**2
    backward = sizes.outputs * slopes
    growth = {'fan_in': forward, 'fan_out': backward,
              'fan_avg': (forward + backward) / 2}[self.mode]
    # A function that is zero everywhere bears nothing.
    parts = jnp.array([1 - self.splines, self.splines]) * (growth > 0)
    variance = self.scale * parts / jnp.where(parts > 0, growth, 1)
    return Deviations(*jnp.sqrt(variance / jnp.maximum(parts.sum(), 1e-9)))


@dataclasses.dataclass(frozen=True)
class PowerLaw:
  """Scales by a power of the number of terms that a sum has.

  The deviation is (inputs * (grid + order + 1)) ** -exponent. With 1 / 2, all
  terms of a sum weigh alike, and signals shrink by about a half in each layer;
  a greater exponent of the splines starts with smoother functions.

  Attributes:
    base: Exponent of the base functions, >= 0.
    spline: Exponent of the splines, >= 0.
  """
  base: float = 0.5
  spline: float = 0.5

  def __post_init__(self):
    for name, value in dataclasses.asdict(self).items():
      if not 0 <= value < math.inf:
        raise ValueError(f'`{name}` needs a number >= 0; got {value!r}.')

  def __call__(self, sizes: Sizes) -> Deviations:
    """Returns the deviations that suit a layer."""
    terms = sizes.inputs * (sizes.grid + sizes.order + 1)
    return Deviations(terms**-self.base, terms**-self.spline)


Scheme = VarianceScaling | PowerLaw


@functools.partial(jax.jit, static_argnums=range(5), inline=True)
def _moments(
    grid: int, order: int, grid_range: tuple[float, float],
    base_fn: edges.BaseFn,
    basis: bases.Name) -> tuple[jax.Array, jax.Array]:
  """Mean squares over a grid of base function and B-splines, and of slopes.

  Returns:
    Two arrays [2]: of the base function, and summed over the B-splines.
  """
  low, high = grid_range
  x = low + (high - low) * (jnp.arange(_POINTS) + 0.5) / _POINTS
  knots = bsplines.uniform_knots(1, grid, order, grid_range, x.dtype)

  def mean_squares(derivative):
    fn = base_fn if not derivative else lambda x: jax.jvp(
        base_fn, (x,), (jnp.ones_like(x),))[1]
    splines = bases.find(basis).values(
        x[None], knots, order=order, derivative=derivative)
    return jnp.stack([
        jnp.mean(fn(x)**2), (splines**2).sum(1).mean()])

  return mean_squares(0), mean_squares(1)
