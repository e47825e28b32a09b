from . import modules
from . import passes
from .modules import ConvOptions
from .modules import from_linen
from .modules import Grid
from .modules import KAN
from .modules import KANConv
from .modules import KANLayer
from .modules import LayerOptions
from .modules import Options
from .modules import to_linen
from .passes import penalty
from .passes import update_grids
from .passes import with_penalty

__all__ = [
    'KAN',
    'ConvOptions',
    'Grid',
    'KANConv',
    'KANLayer',
    'LayerOptions',
    'Options',
    'from_linen',
    'modules',
    'passes',
    'penalty',
    'to_linen',
    'update_grids',
    'with_penalty',
]
