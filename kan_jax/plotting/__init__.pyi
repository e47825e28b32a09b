from . import diagram
from . import edge_panels
from . import structure_tree
from .diagram import plot
from .edge_panels import plot_edges
from .structure_tree import plot_structure

__all__ = [
    'diagram',
    'edge_panels',
    'plot',
    'plot_edges',
    'plot_structure',
    'structure_tree',
]
