from . import estimators
from .estimators import KANClassifier
from .estimators import KANRegressor

__all__ = [
    'KANClassifier',
    'KANRegressor',
    'estimators',
]
