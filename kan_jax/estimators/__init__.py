"""KANs with scikit-learn's interface, for tables of numbers.

Needs scikit-learn: `pip install -e '.[sklearn]'` in a copy of the repository.
"""

from kan_jax import _faces

__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
