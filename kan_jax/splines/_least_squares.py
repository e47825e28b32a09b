"""Least squares for splines: normal matrices, quadrature, damped solutions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np


def quadrature(breaks: jax.Array, order: int) -> tuple[jax.Array, jax.Array]:
  """Returns points and weights that average over each input's intervals.

  Gauss-Legendre with order + 1 points in each interval, exact there for
  products of two splines. All intervals weigh the same, however narrow: a
  spline that lives on narrow ones must not come for free. The weights of an
  input sum to one.

  Args:
    breaks: Ends of the intervals, a grid or all knots, [in, intervals + 1].
    order: Degree of the splines.

  Returns:
    Points and weights, both [in, intervals * (order + 1)].
  """
  nodes, parts = (jnp.asarray(a, breaks.dtype) / 2
                  for a in np.polynomial.legendre.leggauss(order + 1))
  width = jnp.diff(breaks)[..., None]
  nodes, parts = nodes[None, None], parts[None, None]
  points = breaks[:, :-1, None] + width * (nodes + 0.5)
  weights = jnp.broadcast_to(parts / width.shape[1], points.shape)
  flat = (breaks.shape[0], -1)
  return points.reshape(flat), weights.reshape(flat)


def gram_matrix(a: jax.Array, b: jax.Array) -> jax.Array:
  """Sums products of two bases [in, p, n], [in, q, n] over n: [in, p, q]."""
  return jnp.einsum('ipn,iqn->ipq', a, b, precision='highest')


def damped_solve(
    gram: jax.Array, rhs: jax.Array, prior_gram: jax.Array,
    prior_rhs: jax.Array, *, weight: jax.typing.ArrayLike,
    steps: int) -> jax.Array:
  """Solves normal equations that may be singular, with the help of a prior.

  Iterated Tikhonov regularization (Engl, Hanke and Neubauer, Regularization of
  Inverse Problems, 1996, section 5.1): the first solution balances the samples
  against a weak prior, and each further step repeats against the solution
  before it, so that the prior is left to decide only what the samples do not.
  One Cholesky factor serves all steps; it takes no rank decision and runs
  alike on every device, where `lstsq` does not.

  Args:
    gram: Normal matrices of the samples, [in, m, m], positive semidefinite.
    rhs: Their right-hand sides, [in, m, out].
    prior_gram: Normal matrices of the prior, [in, m, m], positive definite.
    prior_rhs: Their right-hand sides, [in, m, out].
    weight: Weight of the prior, a scalar or [in, 1, 1].
    steps: Number of repetitions. The prior decides where the samples weigh less
      than about weight / steps.

  Returns:
    Solutions, [in, m, out].
  """
  eps = float(jnp.finfo(gram.dtype).eps)
  matrix = gram + weight * prior_gram
  # What rounding leaves of the weakest directions is noise; damp that, too.
  size = gram.shape[-1]
  noise = eps * jnp.trace(matrix, axis1=-2, axis2=-1)
  matrix += noise[:, None, None] * jnp.eye(size, dtype=gram.dtype)[None]
  factor = jnp.linalg.cholesky(matrix)
  # Many small systems: products are faster than triangular solves, and what the
  # inverse lacks in accuracy, the steps make up for.
  inverse = jax.vmap(lambda f: jax.scipy.linalg.cho_solve(
      (f, True), jnp.eye(size, dtype=f.dtype)))(factor)
  multiply = functools.partial(jnp.matmul, precision='highest')

  def step(_, solution):
    return solution + multiply(inverse, rhs - multiply(gram, solution))

  return jax.lax.fori_loop(
      0, steps, step, multiply(inverse, rhs + weight * prior_rhs))
