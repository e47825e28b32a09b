"""Kolmogorov-Arnold Networks in functional JAX.

`KAN` and `KANLayer` are Flax modules; the functions beside them take a model
and its variables and return what changed. Everything is imported when it is
first used: what needs an optional package says so then.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
