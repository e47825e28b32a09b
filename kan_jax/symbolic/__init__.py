"""From the edges of a trained KAN, or from data, to a formula.

Look for functions (`suggest`, `auto_symbolic`), give them to edges (`fix`,
`unfix`, `remove`), and write down what the model computes (`formula`,
`lambdify`); `discover` does it all from data. What makes expressions needs
sympy: pip install 'kan_jax[symbolic]'.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
