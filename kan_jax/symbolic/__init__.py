"""From the edges of a trained KAN to a formula.

Look for functions (`suggest`, `auto_symbolic`), give them to edges (`fix`,
`unfix`, `remove`), and write down what the model computes (`formula`,
`lambdify`). Only the last two need sympy: pip install 'kan_jax[symbolic]'.
"""

import importlib
from typing import Any

# By module. Imported when asked for: sympy is an extra, and the layers, which
# some of these modules import, themselves import others of this package.
_EXPORTS = {
    'kan_jax.symbolic.affine_fit': ('Fit', 'fit'),
    'kan_jax.symbolic.fixing': ('fix', 'remove', 'unfix'),
    'kan_jax.symbolic.formulas': ('formula', 'lambdify', 'round_digits'),
    'kan_jax.layers.functions': ('LIBRARY', 'Function'),
    'kan_jax.symbolic.search': (
        'Candidate', 'Choice', 'auto_symbolic', 'suggest'),
    'kan_jax.symbolic.simplify': ('tidy',),
    'kan_jax.symbolic.by_loss': ('auto_symbolic_by_loss',),
}
_MODULES = {name: module for module, names in _EXPORTS.items()
            for name in names}


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(_MODULES[name])
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_MODULES])
