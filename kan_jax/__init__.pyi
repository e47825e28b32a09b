from . import checkpoints
from . import checks
from . import compiling
from . import estimators
from . import export
from . import interop
from . import layers
from . import model_file
from . import network
from . import plotting
from . import pruning
from . import splines
from . import symbolic
from . import training
from .estimators import KANClassifier
from .estimators import KANRegressor
from .interop import from_efficient_kan
from .interop import from_pykan
from .layers import freeze
from .layers import Function
from .layers import KAN
from .layers import KANConv
from .layers import KANLayer
from .layers import LIBRARY
from .layers import nnx
from .layers import Penalty
from .layers import PowerLaw
from .layers import refine
from .layers import update_grids
from .layers import VarianceScaling
from .model_file import load
from .model_file import save
from .network import Network
from .plotting import plot
from .plotting import plot_edges
from .pruning import activity
from .pruning import attribution
from .pruning import prune_edges
from .pruning import prune_inputs
from .pruning import prune_nodes
from .splines import GridUpdate
from .symbolic import auto_symbolic
from .symbolic import discover
from .symbolic import fix
from .symbolic import formula
from .symbolic import remove
from .symbolic import suggest
from .symbolic import unfix
from .training import fit
from .training import fit_best
from .training import Fitted
from .training import LBFGS
from .training import LevenbergMarquardt

__version__: str

__all__ = [
    'KAN',
    'LBFGS',
    'LIBRARY',
    'Fitted',
    'Function',
    'GridUpdate',
    'KANClassifier',
    'KANConv',
    'KANLayer',
    'KANRegressor',
    'LevenbergMarquardt',
    'Network',
    'Penalty',
    'PowerLaw',
    'VarianceScaling',
    'activity',
    'attribution',
    'auto_symbolic',
    'checkpoints',
    'checks',
    'compiling',
    'discover',
    'estimators',
    'export',
    'fit',
    'fit_best',
    'fix',
    'formula',
    'freeze',
    'from_efficient_kan',
    'from_pykan',
    'interop',
    'layers',
    'load',
    'model_file',
    'network',
    'nnx',
    'plot',
    'plot_edges',
    'plotting',
    'prune_edges',
    'prune_inputs',
    'prune_nodes',
    'pruning',
    'refine',
    'remove',
    'save',
    'splines',
    'suggest',
    'symbolic',
    'training',
    'unfix',
    'update_grids',
]
