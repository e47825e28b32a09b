from . import convolution
from . import edge_moments
from . import edges
from . import functions
from . import inference
from . import initial_values
from . import linen
from . import nnx
from . import nodes
from . import regularization
from . import structure
from . import traversal
from .convolution import KANConv
from .edge_moments import Scores
from .edges import Edges
from .edges import EdgeStats
from .edits import add_biases
from .edits import refine
from .edits import refine_variables
from .functions import Function
from .functions import LIBRARY
from .inference import freeze
from .inference import Frozen
from .initial_values import PowerLaw
from .initial_values import VarianceScaling
from .linen import KAN
from .linen import KANLayer
from .nodes import Nodes
from .regularization import edge_scores
from .regularization import entropy
from .regularization import layer_stats
from .regularization import Penalty
from .structure import Structure
from .traversal import LayerView
from .traversal import update_grids
from .traversal import view_layers

__all__ = [
    'KAN',
    'LIBRARY',
    'EdgeStats',
    'Edges',
    'Frozen',
    'Function',
    'KANConv',
    'KANLayer',
    'LayerView',
    'Nodes',
    'Penalty',
    'PowerLaw',
    'Scores',
    'Structure',
    'VarianceScaling',
    'add_biases',
    'convolution',
    'edge_moments',
    'edge_scores',
    'edges',
    'entropy',
    'freeze',
    'functions',
    'inference',
    'initial_values',
    'layer_stats',
    'linen',
    'nnx',
    'nodes',
    'refine',
    'refine_variables',
    'regularization',
    'structure',
    'traversal',
    'update_grids',
    'view_layers',
]
