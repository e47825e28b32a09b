"""Settings for all tests: one CPU device, and no silent rank promotion."""

import os

import jax

# Tests prove numerics on the CPU, whatever else the machine has.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
jax.config.update('jax_numpy_rank_promotion', 'raise')
