"""Pictures of networks and of their edges, with matplotlib.

Needs matplotlib: `pip install -e '.[plot]'` in a copy of the repository.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
