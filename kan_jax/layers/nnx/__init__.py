"""KAN layers for Flax NNX, on `kan_jax` itself as `kan_jax.nnx`.

`KANLayer`, `KAN` and `KANConv` take the options of the modules for Linen, begin
with the same numbers and compute by the same functions.
"""

from kan_jax import _faces

__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
