"""The benchmark's parts, without looking at any time."""

import json

import pytest

from experiments import cli
from experiments.speed import bench
from experiments.speed import peers

_BACKWARD = bench.PASSES[1]
_SMALL = peers.Shape((3, 4, 2), 6, 5)


def test_contenders_run():
  timings = list(bench.measure(
      _SMALL, ['kan_jax', 'frozen', 'mlp', 'floor'], 0.0))
  assert [(t.contender, t.passes) for t in timings] == [
      (name, passes) for name in ('kan_jax', 'frozen', 'mlp', 'floor')
      for passes in bench.PASSES if (name, passes) != ('frozen', _BACKWARD)]
  assert all(t.calls >= 3 and t.low <= t.median <= t.high for t in timings)


def test_a_missing_peer_is_said(capsys, monkeypatch):
  def missing(*_):
    raise ModuleNotFoundError('No module named absent')

  monkeypatch.setitem(peers.CONTENDERS, 'inkan', missing)
  assert not list(bench.measure(_SMALL, ['inkan'], 0.0))
  assert 'inkan is left out: No module named absent' in capsys.readouterr().out


def _timings():
  return [bench.Timing('[2, 1], batch 8, G = 5', name, 'forward', median,
                       median / 2, 2 * median, 9)
          for name, median in (
              ('kan_jax', 2.0), ('frozen', 1.2), ('pykan', 40.0),
              ('inkan', 4.0), ('floor', 1.0))]


def test_table():
  lines = bench.table(_timings()).splitlines()
  assert lines[2] == (
      '| [2, 1], batch 8, G = 5 | forward | 2 (1–4) | 1.2 (0.6–2.4) '
      '| 40 (20–80) | 4 (2–8) | 1 (0.5–2) | 0.50 | 0.30 | 2.00 |')


def test_picture_and_json(tmp_path):
  timings = [t._replace(passes=_BACKWARD) for t in _timings()]
  bench.draw(timings, tmp_path / 'bench.png')
  assert (tmp_path / 'bench.png').read_bytes().startswith(b'\x89PNG')
  json.dumps([t._asdict() for t in timings])


@pytest.mark.parametrize('shapes', [['0'], ['11'], ['x']])
def test_unknown_shapes(shapes):
  with pytest.raises(cli.UsageError, match='from 1 to 10'):
    bench.shapes_of(shapes)


def test_unknown_contenders():
  with pytest.raises(cli.UsageError, match='got torchkan'):
    cli.choose('contenders', ['torchkan'], peers.CONTENDERS)


def test_no_contenders_named_are_all():
  assert cli.choose('contenders', [], peers.CONTENDERS) == [
      'kan_jax', 'frozen', 'pykan', 'jaxkan', 'inkan', 'flashkan', 'mlp',
      'floor']
