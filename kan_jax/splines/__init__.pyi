from . import bases
from . import bsplines
from . import grids
from .bsplines import basis
from .bsplines import basis_by_input
from .bsplines import evaluate
from .bsplines import extend_knots
from .bsplines import fit_coef
from .bsplines import insert_knots
from .bsplines import interior
from .bsplines import MAX_ORDER
from .bsplines import Outside
from .bsplines import uniform_knots
from .grids import GridUpdate
from .grids import knots_from_samples
from .grids import move_knots
from .grids import refine_grid
from .grids import refit
from .grids import update_grid

__all__ = [
    'MAX_ORDER',
    'GridUpdate',
    'Outside',
    'bases',
    'basis',
    'basis_by_input',
    'bsplines',
    'evaluate',
    'extend_knots',
    'fit_coef',
    'grids',
    'insert_knots',
    'interior',
    'knots_from_samples',
    'move_knots',
    'refine_grid',
    'refit',
    'uniform_knots',
    'update_grid',
]
