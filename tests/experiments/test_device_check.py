"""The check of a device: parts that fail, run out of time, or find something.

No part runs as a process of Python here; what they find is looked at on small
networks, on the CPU.
"""

import json

from absl import flags
import jax
import pytest

from experiments import cli
from experiments.speed import bench
from experiments.speed import device_check
from experiments.speed import device_parts
from experiments.speed import peers

_ROWS = [{'what': 'platform', 'value': 'cuda'}, {'what': 'kind', 'more': 0.5}]


def _part(limit=60.0, find=lambda quick: iter(_ROWS)):
  return device_parts.Part('A part.', limit, find)


def _run(tmp_path, script, limit=30.0):
  """Runs a shell script as a part."""
  return device_check.run_part(
      ['sh', '-c', script], {'ROWS': str(tmp_path / 'rows')},
      tmp_path / 'rows', tmp_path / 'log', limit)


def test_a_part_that_ends_well(tmp_path):
  outcome = _run(tmp_path, 'echo \'{"a": 1}\' > $ROWS')
  assert (outcome.error, outcome.rows) == ('', [{'a': 1}])


def test_a_part_that_fails_keeps_its_rows(tmp_path):
  outcome = _run(
      tmp_path, 'echo \'{"a": 1}\' > $ROWS; echo \'{"a"\' >> $ROWS;'
      'echo out of memory; echo; exit 3')
  assert outcome.error == 'failed (exit code 3): out of memory'
  assert outcome.rows == [{'a': 1}]
  killed = _run(tmp_path, 'kill -SEGV $$')
  assert killed.error == 'failed (SIGSEGV): it printed nothing'


def test_a_part_that_takes_too_long_ends_with_all_it_started(tmp_path):
  outcome = _run(
      tmp_path, 'echo \'{"a": 1}\' > $ROWS; sleep 60 & sleep 60', 0.5)
  assert outcome.error == 'its 0 s were over'
  assert outcome.rows == [{'a': 1}]
  assert outcome.seconds < 30


def test_no_part_stops_another(capsys):
  def run(name, limit):
    assert limit <= 60
    if name == 'broken':
      raise OSError('no more processes')
    return device_check.Outcome(1.0, '', _ROWS)

  outcomes = device_check.run_all(
      {'broken': _part(), 'sound': _part()}, run)
  assert outcomes['broken'].error == 'it could not be run: no more processes'
  assert outcomes['sound'].rows == _ROWS
  assert 'sound: A part.\n  1 s, done' in capsys.readouterr().out


def test_the_budget_is_for_all():
  outcomes = device_check.run_all({'late': _part()}, None, budget=1.0)
  assert outcomes['late'].error == 'no time was left for it'


def test_limits_are_ten_minutes():
  assert sum(part.limit for part in device_parts.PARTS.values()) <= 600


def test_page():
  parts = {'found': _part(), 'none': _part(), 'odd': _part()._replace(
      show=lambda rows: rows[0]['absent'])}
  text = device_check.page({
      'found': device_check.Outcome(1.0, '', _ROWS),
      'none': device_check.Outcome(2.0, 'failed', []),
      'odd': device_check.Outcome(3.0, '', _ROWS)}, parts, 'A note.')
  assert text.startswith('# Device check\n\nA note.\n\n## found')
  assert '| platform | cuda | – |\n| kind | – | 0.5 |' in text
  assert '## none\n\nA part. (2 s, failed.)' in text
  assert "This table cannot be made: KeyError('absent')" in text


@pytest.mark.parametrize(('platform', 'expected'), [
    ('cuda', {'JAX_PLATFORMS': 'cuda,cpu'}), ('cpu', {'JAX_PLATFORMS': 'cpu'}),
    (None, {})])
def test_later_parts_use_the_device_of_the_first(
    platform, expected, monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS')
  outcome = device_check.Outcome(
      1.0, '', [{'what': 'platform', 'value': platform}])
  assert device_check._platform(outcome) == expected


@pytest.fixture
def program(monkeypatch, tmp_path):
  """Runs the program with parts that are found at once, in this process."""
  parts = {'device': _part(), 'forward': _part()}
  monkeypatch.setattr(device_parts, 'PARTS', parts)

  def run_part(command, env, found, log, limit):
    name = command[-3].removeprefix('--part=')
    log.write_text('')
    device_check.write_rows(parts[name], True, str(found))
    error = 'failed' if name in failing else ''
    return device_check.Outcome(1.0, error, device_check._read_rows(found))

  failing = set()
  monkeypatch.setattr(device_check, 'run_part', run_part)
  values = {'quick': True, 'parts': [], 'part': None,
            'workdir': str(tmp_path / 'out')}
  monkeypatch.setattr(flags, 'FLAGS', type('Flags', (), values))
  return device_check.main, failing, tmp_path / 'out'


def test_program_writes_a_page_and_json(program, capsys):
  main, _, folder = program
  main()
  page = (folder / 'device_check.md').read_text()
  assert page in capsys.readouterr().out
  found = json.loads((folder / 'device_check.json').read_text())
  assert found['forward'] == {'seconds': 1.0, 'error': '', 'rows': _ROWS}


def test_program_says_what_failed_and_writes(program):
  main, failing, folder = program
  failing.add('forward')
  with pytest.raises(cli.RunError, match=r'1 of 2 parts did.*: forward; '):
    main()
  assert '(1 s, failed.)' in (folder / 'device_check.md').read_text()
  with pytest.raises(cli.UsageError, match='is not an empty folder'):
    main()


def test_count_tests():
  lines = [
      'tests/layers/test_edges.py::EdgesTest::test_a PASSED        [  1%]',
      '[gw0] [  2%] FAILED tests/layers/test_edges.py::test_b[1-x] ',
      'tests/a.py::test_c SKIPPED (no card)', 'collected 3 items', '',
      'tests/a.py::test_d ERROR']
  rows = list(device_parts.count_tests(lines))
  assert rows == [
      {'test': 'tests/layers/test_edges.py::test_b[1-x]', 'result': 'FAILED'},
      {'test': 'tests/a.py::test_d', 'result': 'ERROR'},
      {'test': 'all', 'result': '1 passed, 1 failed, 1 error, 1 skipped'}]
  assert '1 passed' in device_parts._show_tests(rows).splitlines()[2]


def test_files_of_tests_are_there():
  for name in device_parts._TESTS:
    assert (device_parts._ROOT / name).exists()


def test_device():
  found = {row['what']: row['value'] for row in device_parts.device(True)}
  assert found['platform'] == 'cpu'
  assert found['jax'] == jax.__version__


def test_forward(monkeypatch):
  monkeypatch.setattr(device_parts, '_KINDS', device_parts._KINDS[::3])
  rows = list(device_parts.forward(True))
  errors = {(row['dtype'], row['precision']):
            row['largest error over the range'] for row in rows}
  # Roundings of float32 in sums of 180; of bfloat16, whose steps are 4e-3.
  assert errors['float32', 'highest'] < 1e-6
  assert 1e-4 < errors['bfloat16', 'default'] < 3e-2


def test_steps(monkeypatch):
  monkeypatch.setattr(device_parts, '_WIDE', (6, 4, 3))
  monkeypatch.setattr(device_parts, '_KINDS', device_parts._KINDS[:1])
  row, = device_parts.steps(True)
  assert row['ms a step'] > 0
  first, last = map(float, row['loss'].split(' to '))
  assert last < first


def test_kernel():
  first = next(device_parts.kernel(True))
  # Sums of 45 products in float32, of another order.
  assert first['largest difference over the range'] < 2e-6
  assert first['XLA, ms'] > 0 and first['kernel, ms'] > 0


def test_speed(monkeypatch):
  def measure(shape, names, budget):
    return [bench.Timing(str(shape), name, 'forward', 2.0, 1.0, 3.0, 5)
            for name in names]

  monkeypatch.setattr(bench, 'measure', measure)
  rows = list(device_parts.speed(True))
  assert {row['contender'] for row in rows} == set(peers.CONTENDERS)
  json.dumps(rows)
  assert '| 2 (1–3) |' in device_parts._show_speed(rows)
