from . import diagram
from . import edge_panels
from .diagram import plot
from .edge_panels import plot_edges

__all__ = [
    'diagram',
    'edge_panels',
    'plot',
    'plot_edges',
]
