from . import prune
from . import scores
from .prune import count_edges
from .prune import mask_edges
from .prune import prune_edges
from .prune import prune_inputs
from .prune import prune_nodes
from .prune import Report
from .scores import activity
from .scores import attribution
from .scores import edge_activity
from .scores import Scores

__all__ = [
    'Report',
    'Scores',
    'activity',
    'attribution',
    'count_edges',
    'edge_activity',
    'mask_edges',
    'prune',
    'prune_edges',
    'prune_inputs',
    'prune_nodes',
    'scores',
]
