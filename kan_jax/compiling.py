"""Compiling less, and ahead: options of XLA's compiler, programs in threads.

The options are for programs that run for a short time only, for
`compiler_options` of `jax.jit` and of `kan_jax.fit`:

  kan_jax.fit(model, variables, x, y, compiler_options=compiling.QUICK)

What a program computes stays the same up to rounding.
"""

from collections.abc import Callable
from concurrent import futures
from typing import Any

import jax
import numpy as np

# With the older code generator for CPUs, compiling takes two thirds as long.
# Later versions of JAX may not know the option.
OLDER_CPU: dict[str, bool | int] = (
    {'xla_cpu_use_fusion_emitters': False}
    if jax.__version_info__ < (0, 11) else {})

# With fewer optimizations, compiling takes half as long. Loops over arrays are
# still vectorized, so that most programs run as fast.
LIGHT: dict[str, bool | int] = OLDER_CPU | {'xla_backend_optimization_level': 1}

# With hardly any optimization, compiling takes a fourth as long.
QUICK: dict[str, bool | int] = OLDER_CPU | {
    'xla_backend_optimization_level': 0,
    'xla_llvm_disable_expensive_passes': True}

# Two programs at a time: each keeps several cores busy, and the first one that
# is needed should not wait for many others.
_THREADS = futures.ThreadPoolExecutor(2, 'compiling')


class Ahead:
  """A jitted function that threads compile while something else goes on.

    step = compiling.Ahead(jax.jit(step))
    step.prepare(shape_of_state, shape_of_batch)
    batch = read()
    state = step(state, batch)  # Waits for the thread, if it must.

  Threads help since XLA compiles without Python's lock. A call for which
  nothing was prepared compiles as it would without this class; while threads
  compile, it may wait for them.
  """

  def __init__(self, function: Callable[..., Any]):
    """Takes what `jax.jit` returns."""
    self._function: Any = function
    self._pending: dict[Any, futures.Future[Any]] = {}

  def shapes(self, *args: Any) -> Any:
    """Returns shapes and types of what a call would return."""
    return jax.eval_shape(self._function, *args)

  def prepare(self, *args: Any) -> None:
    """Begins to compile, after what was prepared before, and returns at once.

    Args:
      *args: Arguments of a call to come, or `jax.ShapeDtypeStruct`s of their
        shapes, types and shardings; values do not count.
    """
    self._pending[_shapes(args)] = _THREADS.submit(
        lambda: self._function.lower(*args).compile())

  def cancel(self) -> None:
    """Leaves out what no thread has begun to compile."""
    for future in self._pending.values():
      future.cancel()
    self._pending.clear()

  def __call__(self, *args: Any) -> Any:
    """Calls the function, as soon as it is compiled."""
    if self._pending:
      future = self._pending.pop(_shapes(args), None)
      if future:
        future.result()
    return self._function(*args)


def _shapes(args: Any) -> tuple[tuple[int, ...], ...]:
  return tuple(np.shape(leaf) for leaf in jax.tree.leaves(args))
