"""Pictures of networks and of their edges, with matplotlib.

Needs matplotlib: pip install 'kan_jax[plot]'.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
