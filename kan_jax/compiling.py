"""Options of XLA's compiler, for programs that run for a short time only.

For `compiler_options` of `jax.jit` and of `kan_jax.fit`:

  kan_jax.fit(model, variables, x, y, compiler_options=compiling.QUICK)

What a program computes stays the same up to rounding.
"""

import jax

# With the older code generator for CPUs, compiling takes two thirds as long.
# Later versions of JAX may not know the option.
OLDER_CPU: dict[str, bool | int] = (
    {'xla_cpu_use_fusion_emitters': False}
    if jax.__version_info__ < (0, 11) else {})

# With hardly any optimization, compiling takes a fourth as long.
QUICK: dict[str, bool | int] = OLDER_CPU | {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True}
