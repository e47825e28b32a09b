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
    'fitting': ('Fit', 'fit'),
    'fixing': ('fix', 'remove', 'unfix'),
    'formulas': ('formula', 'lambdify', 'round_digits'),
    'library': ('LIBRARY', 'Function'),
    'search': ('Candidate', 'Choice', 'auto_symbolic', 'suggest'),
    'tidying': ('tidy',),
    'trials': ('auto_symbolic_by_loss',),
}
_MODULES = {name: module for module, names in _EXPORTS.items()
            for name in names}


def __getattr__(name: str) -> Any:
  if name not in _MODULES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  module = importlib.import_module(f'{__name__}.{_MODULES[name]}')
  return getattr(module, name)


def __dir__() -> list[str]:
  return sorted([*globals(), *_MODULES])
