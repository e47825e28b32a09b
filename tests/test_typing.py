"""What type checkers know of the library: a user's script, checked strictly."""

import os
import re
import shutil
import subprocess
import sys

from helpers import imports

_SCRIPT = imports.ROOT / 'tests' / 'helpers' / 'user_script.py'


def _check(folder, *scripts):
  """Runs mypy as a user does whose library is installed elsewhere."""
  return subprocess.run(
      [sys.executable, '-m', 'mypy', '--strict', '--follow-imports=silent',
       '--ignore-missing-imports',  # optax has no types.
       f'--cache-dir={imports.ROOT / ".mypy_cache" / "strict"}', *scripts],
      cwd=folder, env=os.environ | {'MYPYPATH': str(imports.ROOT)},
      capture_output=True, text=True, check=False, timeout=280)


def test_a_users_script_passes_and_types_are_known(tmp_path):
  shutil.copy(_SCRIPT, tmp_path / 'script.py')
  (tmp_path / 'wrong.py').write_text(
      'import kan_jax\n'
      'reveal_type(kan_jax.KAN([2, 1]).grid)\n'
      'reveal_type(kan_jax.prune_edges)\n'
      'kan_jax.GridUpdate(epsilon=1)\n'
      'kan_jax.fit_well\n')
  done = _check(tmp_path, 'script.py', 'wrong.py')
  errors = re.findall(r'^(\w+\.py:\d+): error', done.stdout, re.MULTILINE)
  # Not one of the script; what is wrong is seen.
  assert errors == ['wrong.py:4', 'wrong.py:5'], done.stdout
  assert 'Revealed type is "int"' in done.stdout
  assert 'Report' in done.stdout and 'Any"' not in done.stdout
