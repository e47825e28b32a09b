"""What `device_check` looks at: the parts, each a generator of rows.

Nothing here touches a device before a part runs, since some devices serve one
process at a time.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import itertools
import os
import pathlib
import platform
import re
import subprocess
import sys
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.data import sets
from experiments.data import tables
from experiments.mnist import compiled
from experiments.mnist import configs
from experiments.mnist import loop
from experiments.speed import bench
from experiments.speed import peers
from kan_jax.layers import edges
from kan_jax.layers import linen
from kan_jax.training import train_steps

Row = dict[str, Any]  # As JSON has it.
Rows = Iterator[Row]

_ROOT = pathlib.Path(__file__).parents[2]
_TESTS = (
    'tests/layers', 'tests/splines', 'tests/pruning', 'tests/training',
    'tests/interop', 'tests/symbolic/test_affine_fit.py',
    'tests/symbolic/test_matching.py')
_RESULT = re.compile(
    r'(?:(PASSED|FAILED|ERROR|SKIPPED) )?(tests/\S+)'
    r'(?: (PASSED|FAILED|ERROR|SKIPPED))?')
_WIDE = (784, 64, 10)
_MIB = 2**20
_KINDS = (('float32', 'highest'), ('float32', 'high'), ('float32', 'default'),
          ('bfloat16', 'default'))


def device(quick: bool) -> Rows:
  """What there is."""
  del quick
  config: Any = jax.config  # Its attributes are not typed.
  first = jax.devices()[0]
  version = first.client.platform_version.lower()
  name = first.platform
  if name == 'gpu':
    name = 'rocm' if 'rocm' in version else 'cuda'
  memory = first.memory_stats() or {}
  for what, value in (
      ('platform', name), ('kind', first.device_kind),
      ('devices', jax.device_count()), ('version', version.split('\n')[-1]),
      ('memory, MiB', memory.get('bytes_limit', 0) // _MIB or 'not told'),
      ('jax', jax.__version__), ('python', platform.python_version()),
      ('default precision', str(config.jax_default_matmul_precision))):
    yield {'what': what, 'value': value}


def forward(quick: bool) -> Rows:
  """Outputs against those of the CPU in float64, over their range."""
  shapes = [peers.Shape((16, 20, 10), 128, 5)] if quick else bench.SHAPES
  cpu, = jax.devices('cpu')[:1]
  for shape in shapes:
    model = linen.KAN(shape.features, grid=shape.grid)
    x = np.random.default_rng(0).uniform(
        -1, 1, (shape.batch, shape.features[0])).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    with jax.enable_x64(True), jax.default_device(cpu):
      exact = np.asarray(jax.jit(model.apply)(
          *jax.tree.map(lambda a: np.asarray(a, np.float64), (variables, x))))
    # One program for all kinds: to compile takes most of the time.
    outputs = jax.jit(lambda variables, x, model=model: [
        model.clone(dtype=dtype, precision=precision).apply(variables, x)
        for dtype, precision in _KINDS])(variables, x)
    for (dtype, precision), y in zip(_KINDS, outputs, strict=True):
      yield {'shape': str(shape), 'dtype': dtype, 'precision': precision,
             'largest error over the range': _error(y, exact)}


def _error(y: Any, exact: np.ndarray) -> float:
  return float(np.abs(np.asarray(y, np.float64) - exact).max()
               / np.ptp(exact))


def speed(quick: bool) -> Rows:
  """The table of bench: first what runs in JAX, then the peers in torch."""
  shapes, seconds = (bench.SHAPES[:1], 0.1) if quick else (bench.SHAPES, 1.0)
  in_jax = ['kan_jax', 'frozen', 'jaxkan', 'mlp', 'floor']
  in_torch = [name for name in peers.CONTENDERS if name not in in_jax]
  for names, shape in itertools.product((in_jax, in_torch), shapes):
    for timing in bench.measure(shape, names, seconds):
      yield timing._asdict()


def _show_speed(rows: Sequence[Row]) -> str:
  return bench.table([bench.Timing(**row) for row in rows])


def steps(quick: bool) -> Rows:
  """Training steps in several types and precisions: time, memory, loss."""
  batches, kinds = ((256,), _KINDS[::3]) if quick else ((128, 65_536), _KINDS)
  for batch, (dtype, precision) in itertools.product(batches, kinds):
    yield {'batch': batch, 'dtype': dtype, 'precision': precision} | (
        _time_steps(linen.KAN(_WIDE, dtype=dtype, precision=precision), batch,
                    2 if quick else 20))


def _time_steps(model: linen.KAN, batch: int, count: int) -> Row:
  """Compiles a step of Adam for [784, 64, 10] and takes some."""
  tx = optax.adam(1e-3)
  x = jax.random.uniform(jax.random.key(0), (batch, _WIDE[0]), minval=-1)
  y = (x[:, 0] > 0).astype(jnp.int32)
  state = train_steps.create_state(model, tx, jax.random.key(1), x)
  step = jax.jit(train_steps.make_train_step(
      train_steps.make_objective(
          model, lambda outputs, y:
          optax.softmax_cross_entropy_with_integer_labels(
              outputs.astype(jnp.float32), y)), tx), donate_argnums=0)
  compiled = step.lower(state, (x, y)).compile()
  memory: Any = compiled.memory_analysis()
  state, metrics = compiled(state, (x, y))
  first = float(metrics['loss'])
  start = time.perf_counter()
  for _ in range(count):
    state, metrics = compiled(state, (x, y))
  last = float(metrics['loss'])
  peak = (jax.devices()[0].memory_stats() or {}).get('peak_bytes_in_use', 0)
  return {'ms a step': 1e3 * (time.perf_counter() - start) / count,
          'temporary MiB': memory.temp_size_in_bytes / _MIB,
          'most in use so far, MiB': peak / _MIB or 'not told',
          'loss': f'{first:.4f} to {last:.4f}'}


def kernel(quick: bool) -> Rows:
  """The forward pass of layers by XLA, and by the kernel of `fused`."""
  from experiments.speed import fused  # Pallas takes long to import.
  on_gpu = jax.default_backend() == 'gpu'
  sizes = ((784, 64, 1024), (784, 64, 65_536), (256, 256, 256)) if (
      on_gpu and not quick) else ((5, 3, 70),)
  for (inputs, outputs, batch), precision in itertools.product(
      sizes, ('highest', 'default')):
    x, arrays = _random_layer(inputs, outputs, batch)
    by_xla = jax.jit(lambda x, arrays, precision=precision: edges.node_sums(
        x, arrays, peers.ORDER, jax.nn.silu, 'zero', jnp.float32, precision))
    by_kernel = jax.jit(
        lambda x, arrays, precision=precision: fused.node_sums(
            x, arrays, peers.ORDER, jax.nn.silu, precision=precision,
            interpret=not on_gpu))
    expected = np.asarray(by_xla(x, arrays), np.float64)
    yield {'layer': f'[{inputs}, {outputs}], batch {batch}',
           'precision': precision,
           'largest difference over the range': _error(
               by_kernel(x, arrays), expected),
           'XLA, ms': _median_ms(by_xla, x, arrays),
           'kernel, ms': _median_ms(by_kernel, x, arrays)}


def _random_layer(
    inputs: int, outputs: int, batch: int) -> tuple[jax.Array, edges.Edges]:
  """Returns inputs of a layer, and its arrays."""
  x = jax.random.uniform(jax.random.key(0), (batch, inputs), minval=-1)
  variables = jax.jit(linen.KANLayer(outputs).init)(jax.random.key(1), x)
  return x, edges.Edges(**variables['grid'], **{
      name: array for name, array in variables['params'].items()
      if name in edges.Edges._fields})


def _median_ms(fn: Callable[..., Any], *args: Any) -> float:
  return 1e3 * float(np.median([
      peers.seconds(lambda: jax.block_until_ready(fn(*args)))
      for _ in range(20)]))


def mnist(quick: bool) -> Rows:
  """The MNIST job; the first epoch compiles."""
  dataset = sets.load('mnist')
  for name in ('kan',) if quick else ('kan', 'kan_reg', 'kan_full'):
    config = dataclasses.replace(
        configs.CONFIGS[name], epochs=1 if quick else 5)
    programs = compiled.build(config, dataset.classes, dataset.shape)
    result = loop.Loop(config, dataset, programs).run()
    first, *others = result.epoch_seconds
    yield {'config': name, 'epochs': config.epochs,
           'accuracy, %': result.acc_test, 's, first epoch': first,
           's, the others together': sum(others)}


def tests(quick: bool) -> Rows:
  """Tests of the suite; a row for each that fails, and one that counts."""
  chosen = ['tests/layers/test_edges.py'] if quick else list(_TESTS)
  # Several processes share a GPU, but no TPU.
  workers = '0' if quick or 'tpu' in os.environ.get('JAX_PLATFORMS', '') else (
      'auto')
  process = subprocess.Popen(
      [sys.executable, '-m', 'pytest', '-v', '-rN', '-n', workers, '--tb=short',
       '--no-header', '-p', 'no:cacheprovider', *chosen], cwd=_ROOT, text=True,
      stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
      env=os.environ | {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'})
  assert process.stdout
  yield from count_tests(_echo(process.stdout))
  if code := process.wait():
    raise RuntimeError(f'pytest ended with exit code {code}')


def _echo(lines: Iterable[str]) -> Iterator[str]:
  """Prints lines on their way, for the log."""
  for line in lines:
    print(line, end='', flush=True)
    yield line


def count_tests(lines: Iterable[str]) -> Rows:
  """Yields a row for each test that failed, and from time to time a count."""
  counts = dict.fromkeys(('PASSED', 'FAILED', 'ERROR', 'SKIPPED'), 0)
  seen = 0
  for line in lines:
    match = _RESULT.search(line)
    result = match and (match[1] or match[3])
    if not match or not result or '::' not in match[2]:
      continue
    counts[result] += 1
    seen += 1
    if result in ('FAILED', 'ERROR'):
      yield {'test': match[2], 'result': result}
    if not seen % 50:
      yield {'test': 'so far', 'result': _count(counts)}
  yield {'test': 'all', 'result': _count(counts)}


def _count(counts: dict[str, int]) -> str:
  return ', '.join(f'{n} {name.lower()}' for name, n in counts.items() if n)


def _show_tests(rows: Sequence[Row]) -> str:
  counts = [row for row in rows if row['test'] in ('so far', 'all')]
  failed = [row for row in rows if row not in counts]
  return _show([*counts[-1:], *failed])


def _show(rows: Sequence[Row]) -> str:
  """Returns a Markdown table of rows that may lack some columns."""
  names = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
  return tables.markdown(names, [
      [_cell(row.get(name, '–')) for name in names] for row in rows])


def _cell(value: Any) -> str:
  return f'{value:.4g}' if isinstance(value, float) else str(value)


class Part(NamedTuple):
  """A part of the check.

  Attributes:
    text: What it is about, for people.
    limit: Seconds that it has at most.
    find: Yields rows as they are found, of a small version or of all.
    show: Makes a Markdown table of them.
  """
  text: str
  limit: float
  find: Callable[[bool], Rows]
  show: Callable[[Sequence[Row]], str] = _show


PARTS: dict[str, Part] = {
    'device': Part('What there is.', 20, device),
    'forward': Part(
        'Outputs in float32 against the CPU in float64. The goal is 1e-6 of '
        "the range with the default precision, 'highest'.", 50, forward),
    'steps': Part(
        'Steps of Adam for [784, 64, 10]; the temporary memory is that of the '
        'compiled step.', 60, steps),
    'kernel': Part(
        'A forward pass by XLA, and by one kernel that never stores the '
        'B-splines. Nothing else uses it.', 30, kernel),
    'mnist': Part('The MNIST job, as ./launch.sh mnist.', 80, mnist),
    'speed': Part(
        'Forward and backward beside the libraries that are installed, '
        'milliseconds with quartiles.', 220, speed, _show_speed),
    'tests': Part(
        'Tests of layers, grids, penalties, training, pruning, fits and '
        'imports.', 140, tests, _show_tests)}
