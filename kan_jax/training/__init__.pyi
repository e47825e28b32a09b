from . import fitting
from . import levenberg_marquardt
from . import multistart
from . import nonfinite
from . import optimizers
from . import refinement
from . import sharding
from . import streaming
from . import train_steps
from .fitting import fit
from .fitting import FitOptions
from .fitting import Fitted
from .fitting import LogEntry
from .multistart import fit_best
from .nonfinite import find_nonfinite
from .optimizers import LBFGS
from .optimizers import LevenbergMarquardt
from .optimizers import OptaxTransform
from .optimizers import Optimizer
from .optimizers import squared_error
from .refinement import refine_state
from .refinement import refine_state_arrays
from .sharding import make_mesh
from .sharding import Placement
from .train_steps import create_state
from .train_steps import make_evaluate
from .train_steps import make_objective
from .train_steps import make_run_steps
from .train_steps import make_train_step
from .train_steps import row_losses
from .train_steps import TrainState
from .train_steps import update_averages
from .train_steps import update_state_grids
from .train_steps import zero_totals

__all__ = [
    'LBFGS',
    'FitOptions',
    'Fitted',
    'LevenbergMarquardt',
    'LogEntry',
    'OptaxTransform',
    'Optimizer',
    'Placement',
    'TrainState',
    'create_state',
    'find_nonfinite',
    'fit',
    'fit_best',
    'fitting',
    'levenberg_marquardt',
    'make_evaluate',
    'make_mesh',
    'make_objective',
    'make_run_steps',
    'make_train_step',
    'multistart',
    'nonfinite',
    'optimizers',
    'refine_state',
    'refine_state_arrays',
    'refinement',
    'row_losses',
    'sharding',
    'squared_error',
    'streaming',
    'train_steps',
    'update_averages',
    'update_state_grids',
    'zero_totals',
]
