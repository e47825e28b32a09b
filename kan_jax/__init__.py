"""Kolmogorov-Arnold Networks in functional JAX.

`KAN` and `KANLayer` are Flax modules; the functions beside them take a model
and its variables and return what changed. Everything is imported when it is
first used: what needs an optional package says so then.
"""

from kan_jax import _faces

__version__ = '0.1.0'
__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
