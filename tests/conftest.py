"""Settings for all tests: one CPU device, and no silent rank promotion."""

import os

import jax

# Tests prove numerics on the CPU, whatever else the machine has.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
# Most programs of the tests run once, and compile for longer than they run:
# LLVM need not optimize them. Also for the programs that tests start, whose
# results are compared to the bit.
os.environ['JAX_DISABLE_MOST_OPTIMIZATIONS'] = '1'
jax.config.update('jax_disable_most_optimizations', True)
jax.config.update('jax_numpy_rank_promotion', 'raise')
