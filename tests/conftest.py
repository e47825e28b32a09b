"""Settings for all tests: one CPU device, and no silent rank promotion.

JAX_PLATFORMS=cuda,cpu runs them on an accelerator, as `device_check` does.
"""

import os

import jax
import pytest

# Tests prove numerics on the CPU, whatever else the machine has, unless they
# are told where to run.
_ON_CPU = os.environ.setdefault('JAX_PLATFORMS', 'cpu') == 'cpu'
# Most programs of the tests run once, and compile for longer than they run:
# LLVM need not optimize them, and XLA's older emitter and a single module take
# a third of the time. Also for the programs that tests start, whose results are
# compared to the bit. An accelerator is tested as it is used.
if _ON_CPU:
  os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
  jax.config.update('jax_disable_most_optimizations', True)
_FLAGS = ('--xla_cpu_use_fusion_emitters=false '
          '--xla_cpu_parallel_codegen_split_count=1')
# Later versions end the process at a flag that they do not know. Workers
# inherit them.
if (_ON_CPU and jax.__version_info__ < (0, 11)
    and _FLAGS not in os.environ.get('XLA_FLAGS', '')):
  os.environ['XLA_FLAGS'] = f'{_FLAGS} {os.environ.get("XLA_FLAGS", "")}'
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(autouse=True, scope='module')
def forget_programs():
  """Frees the programs of a file once its tests are done.

  Those of all files together came near the 65,530 memory maps that Linux allows
  a process, and beyond them JAX 0.12 ends it with a segmentation fault.
  """
  yield
  jax.clear_caches()
