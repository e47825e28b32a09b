"""KANs with scikit-learn's interface, for tables of numbers.

Needs scikit-learn: `pip install -e '.[sklearn]'` in a copy of the repository.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
