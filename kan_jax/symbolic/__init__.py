"""From the edges of a trained KAN, or from data, to a formula.

`suggest` and `auto_symbolic` look for functions. `fix`, `unfix` and `remove`
change which edge carries one. `formula` writes down what the model computes;
`round_digits`, `tidy`, `latex` and `lambdify` go on from there. `discover` does
all of it from data. Whatever makes expressions needs sympy:
`pip install -e '.[symbolic]'` in a copy of the repository.
"""

from kan_jax import _faces

__getattr__, __dir__, __all__ = _faces.attach(__name__, __file__)
