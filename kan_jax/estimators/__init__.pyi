from . import estimators
from . import inputs
from .estimators import KANClassifier
from .estimators import KANRegressor

__all__ = [
    'KANClassifier',
    'KANRegressor',
    'estimators',
    'inputs',
]
