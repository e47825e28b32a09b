"""Pictures of networks and of their edges, with matplotlib.

Needs matplotlib: `pip install -e '.[plot]'` in a copy of the repository.
"""

from kan_jax import _faces

__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
