"""Kolmogorov-Arnold Networks in functional JAX."""

from kan_jax._version import __version__
from kan_jax.layers.linen import KAN
from kan_jax.layers.linen import KANLayer
from kan_jax.layers.regularization import Penalty
from kan_jax.layers.traversal import update_grids
from kan_jax.training.fitting import fit
from kan_jax.training.multistart import fit_best

__all__ = ['KAN', 'KANLayer', 'Penalty', '__version__', 'fit', 'fit_best',
           'update_grids']
