"""Options of XLA's compiler, for programs that compile longer than they run.

For `compiler_options` of `jax.jit` and of `fitting.fit`. What a program
computes stays the same up to rounding.
"""

import jax

# The older way of writing code for CPUs takes two thirds of the time. Later
# versions may not know the option.
OLDER_CPU: dict[str, bool | int] = (
    {'xla_cpu_use_fusion_emitters': False}
    if jax.__version_info__ < (0, 11) else {})

# Code that is hardly optimized, in a fourth of the time.
QUICK: dict[str, bool | int] = OLDER_CPU | {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True}
