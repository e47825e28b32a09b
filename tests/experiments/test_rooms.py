"""The rooms of experiments/, and the launcher that finds programs in them."""

import subprocess

from helpers import imports
import pytest

# What each room may import from the others.
_BELOW = {
    'cli': set(), 'data': {'cli'}, 'devices': {'cli', 'data'},
    'mnist': {'cli', 'data', 'devices'},
    'view': {'cli', 'data', 'devices', 'mnist'},
    'speed': {'cli', 'data', 'devices', 'mnist'},
    'accuracy': {'cli', 'data'}, 'formula': {'cli', 'data'}}


@pytest.mark.parametrize('room', sorted(_BELOW))
def test_imports_point_one_way(room):
  assert imports.rooms('experiments')[room] <= _BELOW[room]


def test_no_room_is_missing():
  assert imports.rooms('experiments').keys() == _BELOW.keys()


def _launch(*args):
  return subprocess.run(
      ['bash', imports.ROOT / 'launch.sh', *args], capture_output=True,
      text=True, check=False, env={'PATH': '/usr/local/bin:/usr/bin:/bin'})


def _programs():
  """The names of the programs, as the launcher should know them."""
  return sorted(
      path.stem if path.stem != '__main__' else path.parent.name
      for path in imports.modules('experiments').values()
      if '\n  cli.run(main)' in path.read_text())


@pytest.mark.parametrize('arg', ['--help', '-h', 'help'])
def test_launcher_lists_all_programs(arg):
  done = _launch(arg)
  assert (done.returncode, done.stderr) == (0, '')
  programs = done.stdout.split('Programs:')[1]
  listed = [line.split()[0] for line in programs.splitlines()
            if line.startswith('  ')]
  assert listed[:5] == ['mnist', 'formula', 'view', 'export', 'sweep']
  assert listed[-2:] == ['crash', 'goals']  # Under a heading that says why.
  assert 'Checks, for those who change the code:' in done.stdout
  assert sorted(listed) == _programs()
  assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize(('args', 'message'), [
    ((), 'a program is needed'), (('nope',), 'there is no program nope'),
    (('cli',), 'there is no program cli'), (('../x',), 'no program ../x'),
    (('--nprocs=0', 'mnist'), '--nprocs=0 mnist is not possible'),
    (('--nprocs=2', 'view'), '--nprocs=2 view is not possible')])
def test_one_line_for_a_wrong_name(args, message):
  done = _launch(*args)
  assert (done.returncode, done.stdout) == (2, '')
  assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
  assert message in done.stderr
  assert './launch.sh --help' in done.stderr


def test_programs_have_a_name_of_their_own():
  """Else the launcher would find the wrong one."""
  names = _programs()
  assert len(names) == len(set(names))
