"""From data to trained variables: steps, fits, optimizers, devices."""

from kan_jax import _faces

__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
