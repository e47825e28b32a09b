"""Meshes and placements; and that eight devices compute what one does."""

import functools
import json
import os
import pathlib
import subprocess
import sys

from absl.testing import parameterized
import jax
import numpy as np

from kan_jax.training import sharding

_ROOT = pathlib.Path(__file__).parents[2]


class MeshTest(parameterized.TestCase):

  @parameterized.parameters(
      ('data:8', (8, 1)), ('model:2', (1, 2)), ('data:4,model:2', (4, 2)),
      ('model:2, data:4', (4, 2)))
  def test_parse(self, text, sizes):
    self.assertEqual(sharding.parse_mesh(text), sizes)

  @parameterized.parameters(
      '', 'data', 'data:0', 'data:-1', 'data:x', 'rows:2', 'data:2,data:2',
      'data:2;model:2', 'data:²')
  def test_no_mesh(self, text):
    with self.assertRaisesRegex(ValueError, r"as in 'data:4,model:2'; got"):
      sharding.parse_mesh(text)

  def test_too_few_devices(self):
    with self.assertRaisesRegex(
        ValueError, "'data:3' needs 3 devices; there are 1 of the kind cpu. "
        'JAX_NUM_CPU_DEVICES=3'):
      sharding.make_mesh('data:3')


class PlacementTest(parameterized.TestCase):

  def test_rows_of_one_device(self):
    placement = sharding.Placement(sharding.make_mesh('data:1'))
    rows = np.arange(10.0).reshape(5, 2)
    self.assertEqual(placement.local_rows(5), slice(0, 5))
    np.testing.assert_array_equal(placement.put_rows(rows, 5), rows)
    with self.assertRaisesRegex(ValueError, 'rows 0 to 6 of 6; got 5'):
      placement.put_rows(rows, 6)

  def test_only_wide_layers_are_split(self):
    mesh = jax.sharding.AbstractMesh((4, 2), sharding.AXES)
    shapes = {
        'front': {'kernel': (64, 64)},
        'layers_0': {'coef': (8, 8, 64), 'node_bias': (64,), 'knots': (8, 64)},
        'layers_1': {'coef': (64, 8, 10)}, 'layers_2': {'mask': (10, 33)}}
    state = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, np.float32), shapes,
        is_leaf=lambda node: isinstance(node, tuple))
    specs = jax.tree.map(
        lambda sharding: sharding.spec,
        sharding.Placement(mesh).shardings(state))
    spec = jax.sharding.PartitionSpec
    self.assertEqual(specs, {
        'front': {'kernel': spec()},
        'layers_0': {'coef': spec(None, None, 'model'),
                     'node_bias': spec('model'), 'knots': spec()},
        'layers_1': {'coef': spec()}, 'layers_2': {'mask': spec()}})


@functools.cache
def _report():
  """What helpers/eight_devices.py prints; devices that wait for each other
  without end are ended."""
  done = subprocess.run(
      [sys.executable, 'tests/helpers/eight_devices.py', '3', 'float64'],
      cwd=_ROOT,
      env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': '8',
                        'PYTHONPATH': str(_ROOT)},
      capture_output=True, text=True, timeout=250, check=False)
  if done.returncode:
    raise AssertionError(done.stderr)
  return json.loads(done.stdout)


@parameterized.parameters('data:8', 'data:4,model:2')
class EightDevicesTest(parameterized.TestCase):
  """A hundred steps, with grid updates and the penalty, from the same start."""

  def test_equal_one_device(self, mesh):
    """Sums are added in another order.

    In float64, as cubics have coefficients that hardly a sample sees; what
    the rounding of float32 does to these is in docs/many_devices.md.
    """
    report = _report()
    for name in ('params', 'grid'):
      self.assertLess(report[mesh]['difference'][name], 1e-5)
      self.assertGreater(report['moved'][name], 0.1)
    for name, wanted in report['one'].items():
      np.testing.assert_allclose(
          report[mesh]['means'][name], wanted, rtol=1e-5, err_msg=name)

  def test_the_host_has_no_part_in_a_step(self, mesh):
    """Ten steps are one call of a program that is compiled once."""
    self.assertEqual(_report()[mesh]['host'], [])

  def test_parts(self, mesh):
    found = _report()[mesh]
    self.assertEqual(
        found['coef'], [16, 7, 4 if mesh.endswith('model:2') else 8])
    # 500 rows and, over eight devices, four that do not count.
    self.assertEqual(set(found['rows']), {63 if mesh == 'data:8' else 125})

  def test_batches_that_are_read_come_where_they_belong(self, mesh):
    """The same ones as from memory, and no device is sent the rows of another;
    they exchange nothing but the sum of the batch."""
    found = _report()[mesh]['streamed']
    self.assertEqual(found['steps'], 8)  # The last one is of 52 rows.
    self.assertTrue(found['equal'])
    self.assertTrue(found['taken'])
    self.assertEqual(
        found['images'], [7, 64 // (8 if mesh == 'data:8' else 4), 16])
    self.assertEqual([(kind, shapes) for kind, shapes, *_
                      in found['collectives']], [('all-reduce', [[]])])

  def test_what_is_split_is_never_gathered(self, mesh):
    """Gradients are summed; no device ever has a wide layer whole."""
    found = _report()[mesh]['collectives']
    self.assertIn('all-reduce', [kind for kind, *_ in found])
    gathered = [shape for kind, shapes, *_ in found if kind == 'all-gather'
                for shape in shapes]
    for shape in gathered:
      if mesh == 'data:8':  # Which rows to take.
        self.assertEqual(shape, [64, 1])
      else:
        self.assertNotIn(shape, ([16, 5, 8], [16, 8]))
