"""Kolmogorov-Arnold Networks in functional JAX."""

from kan_jax._version import __version__
from kan_jax.fitting import fit
from kan_jax.layers import KAN
from kan_jax.layers import KANLayer
from kan_jax.layers import update_grids
from kan_jax.regularization import Penalty
from kan_jax.starts import fit_best

__all__ = ['KAN', 'KANLayer', 'Penalty', '__version__', 'fit', 'fit_best',
           'update_grids']
