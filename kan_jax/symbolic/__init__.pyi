from . import affine_fit
from . import by_structure
from . import discovery
from . import expressions
from . import fixing
from . import formulas
from . import matching
from . import matching_by_loss
from . import simplify
from . import symmetries
from . import trees
from .affine_fit import AffineFit
from .affine_fit import fit_affine
from .by_structure import find_law
from .by_structure import Formula
from .by_structure import Law
from .discovery import default_shapes
from .discovery import discover
from .discovery import Discovery
from .expressions import lambdify
from .expressions import latex
from .fixing import fix
from .fixing import remove
from .fixing import unfix
from .formulas import formula
from .matching import auto_symbolic
from .matching import Candidate
from .matching import Choice
from .matching import suggest
from .matching_by_loss import auto_symbolic_by_loss
from .simplify import round_digits
from .simplify import tidy
from .symmetries import find_symmetries
from .symmetries import Separability
from .symmetries import separability
from .symmetries import Symmetry
from .trees import find_tree
from .trees import Part
from .trees import Tree

__all__ = [
    'AffineFit',
    'Candidate',
    'Choice',
    'Discovery',
    'Formula',
    'Law',
    'Part',
    'Separability',
    'Symmetry',
    'Tree',
    'affine_fit',
    'auto_symbolic',
    'auto_symbolic_by_loss',
    'by_structure',
    'default_shapes',
    'discover',
    'discovery',
    'expressions',
    'find_law',
    'find_symmetries',
    'find_tree',
    'fit_affine',
    'fix',
    'fixing',
    'formula',
    'formulas',
    'lambdify',
    'latex',
    'matching',
    'matching_by_loss',
    'remove',
    'round_digits',
    'separability',
    'simplify',
    'suggest',
    'symmetries',
    'tidy',
    'trees',
    'unfix',
]
