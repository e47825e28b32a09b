from . import importers
from .importers import from_efficient_kan
from .importers import from_pykan

__all__ = [
    'from_efficient_kan',
    'from_pykan',
    'importers',
]
