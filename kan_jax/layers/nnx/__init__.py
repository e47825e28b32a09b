"""KAN layers for Flax NNX, on `kan_jax` itself as `kan_jax.nnx`.

`KANLayer` and `KAN` take the options of the modules for Linen, begin with the
same numbers and compute by the same functions.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
