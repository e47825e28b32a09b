"""How rough the curves of a model are, in coordinates where that is diagonal.

The roughness of a spline is the sum of squared differences of its neighbouring
coefficients (P-splines; Eilers and Marx, Statistical Science 11, 1996). Their
order here is twice that which a spline of degree k approximates to, 2 (k + 1):
for a smooth function they shrink with the intervals h as h^(2k + 2), faster
than the error h^(k + 1) of the best spline. So a weight that lets what the
samples leave open go on smoothly costs such a function next to nothing.

The squares are weighted with the number of intervals to the power of 2 (k + 1):
then they fall with h as the squared error of the best spline does, and one
weight serves all grids.
"""

import functools
import math
from typing import Any

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.splines import bsplines


@functools.cache
def _modes(size: int, order: int) -> tuple[np.ndarray, np.ndarray]:
  """Orthonormal columns [size, size], and the squared differences of each.

  Few coefficients leave room for differences of a lower order alone.
  """
  degree = min(2 * (order + 1), size - 1)
  differences = np.diff(np.eye(size), degree, axis=0)
  _, values, rows = np.linalg.svd(differences)
  return rows.T, np.pad(np.square(values), (0, size - len(values)))


def _splines(params: Any, grid: Any) -> dict[tuple, int]:
  """Paths of the coefficients of splines, and the order of each."""
  arrays = traverse_util.flatten_dict(grid)
  orders = {}
  for path, coef in traverse_util.flatten_dict(params).items():
    knots = arrays.get((*path[:-1], 'knots'))
    if path[-1] == 'coef' and knots is not None:
      _, orders[path] = bsplines.grid_and_order(
          knots.shape[-1], coef.shape[1])
  return orders


def to_modes(params: Any, grid: Any) -> Any:
  """Returns parameters with coefficients in coordinates along the modes.

  A rotation for each layer, so that lengths stay as they are; `from_modes`
  turns back.

  Args:
    params: Parameters of any model that holds KAN layers.
    grid: Their knots, in the collection of that name.
  """
  return _rotate(params, grid, lambda modes: modes.T)


def from_modes(params: Any, grid: Any) -> Any:
  """Returns what `to_modes` was given."""
  return _rotate(params, grid, lambda modes: modes)


def _rotate(params, grid, matrix):
  flat = traverse_util.flatten_dict(params)
  for path, order in _splines(params, grid).items():
    coef = flat[path]
    modes = jnp.asarray(matrix(_modes(coef.shape[1], order)[0]), coef.dtype)
    flat[path] = jnp.einsum('kl,ilo->iko', modes, coef, precision='highest')
  return traverse_util.unflatten_dict(flat)


def squares(params: Any, grid: Any) -> tuple[Any, Any]:
  """Returns the squared differences that a unit along each mode has.

  Args:
    params: See `to_modes`.
    grid: Likewise.

  Returns:
    Two trees like `params`: plain, and weighted as the module says. The
    roughness is the sum of the second one times the squares of the
    coordinates. 0 for all that is no coefficient of a spline.
  """
  plain = traverse_util.flatten_dict(jax.tree.map(jnp.zeros_like, params))
  weighted = dict(plain)
  for path, order in _splines(params, grid).items():
    size = plain[path].shape[1]
    values = jnp.asarray(_modes(size, order)[1], plain[path].dtype)
    plain[path] += values[None, :, None]
    weighted[path] = plain[path] * math.pow(size - order, 2 * (order + 1))
  return (traverse_util.unflatten_dict(plain),
          traverse_util.unflatten_dict(weighted))
