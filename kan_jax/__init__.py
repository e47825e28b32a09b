"""Kolmogorov-Arnold Networks in functional JAX."""

from kan_jax._version import __version__
from kan_jax.fitting import fit
from kan_jax.layers import KAN
from kan_jax.layers import KANLayer
from kan_jax.layers import update_grids
from kan_jax.regularization import Penalty

__all__ = ['KAN', 'KANLayer', 'Penalty', '__version__', 'fit', 'update_grids']
