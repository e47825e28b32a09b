"""The script in docs/from_pykan.md, run as it is printed."""

import pathlib
import re

import jax
import numpy as np

from kan_jax import symbolic

_DOC = pathlib.Path(__file__).parents[1] / 'docs' / 'from_pykan.md'


def test_script(capsys):
  [script] = re.findall(
      r'^```python\n(.*?)^```$', _DOC.read_text(), re.DOTALL | re.M)
  assert len([line for line in script.splitlines() if line]) <= 15
  names = {}
  try:  # It switches float64 on, for the whole process.
    exec(compile(script, _DOC.name, 'exec'), names)
  finally:
    jax.config.update('jax_enable_x64', False)
  assert (0, 2, 0) in names['report'].removed_edges
  # What it prints is the function that made the data, but for 4 digits.
  printed = capsys.readouterr().out.strip()
  assert printed == str(names['formula']), printed
  x = names['x'][:50]
  values = symbolic.lambdify([names['formula']], inputs=3)(x)
  np.testing.assert_allclose(values, names['y'][:50], rtol=1e-3)
