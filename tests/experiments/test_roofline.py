"""Arithmetic and bytes of a KAN, against counts by hand."""

import pytest

from experiments.speed import peers
from experiments.speed import roofline

_SHAPE = peers.Shape((100, 50), 1000, 5)


def _sum(parts, field, name=None):
  return sum(getattr(part, field) for part in parts
             if name in (None, part.name))


def test_products():
  """900 features of 1000 rows and 50 outputs, twice that for gradients."""
  parts = list(roofline.parts(_SHAPE))
  assert _sum(parts, 'flops', 'product') == 2 * 1000 * 900 * 50
  assert _sum(parts, 'flops') == 3 * 2 * 1000 * 900 * 50
  assert _sum(roofline.fused(_SHAPE), 'flops') == _sum(parts, 'flops')


def test_bytes():
  """A basis is made of the inputs and written; a fused kernel never does."""
  basis, *_ = roofline.parts(_SHAPE)
  assert basis.moved == 4 * 1000 * (100 + 900)
  forward, *_ = roofline.fused(_SHAPE)
  assert forward.moved == 4 * (1000 * 100 + 900 * 50 + 1000 * 50)


def test_wide_layers_evaluate_the_basis_again():
  wide = peers.Shape((100, 500), 1000, 5)
  once, *_ = roofline.parts(wide)
  again, *_ = roofline.fused(wide)
  assert again.operations == 4 * once.operations


@pytest.mark.parametrize(('flops', 'moved', 'bound', 'tf32', 'seconds'), [
    (67e12, 0, 'arithmetic', False, 1.0),
    (67e12, 0, 'products', True, 67 / 494.5),
    (1.0, 3.35e12, 'memory', True, 1.0)])
def test_what_is_slowest_bounds(flops, moved, bound, tf32, seconds):
  part = roofline.Part('product', flops, 1.0, moved)
  bounds = part.bounds(roofline.H100, tf32)
  assert max(bounds, key=lambda kind: bounds[kind]) == bound
  assert part.seconds(roofline.H100, tf32) == pytest.approx(seconds)


def test_table():
  header, _, row = roofline.table([_SHAPE]).splitlines()
  assert header.count('|') == row.count('|')
  assert row.startswith('| [100, 50], batch 1000, G = 5 | 0.27 |')
