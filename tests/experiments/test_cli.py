"""What all programs share: numbers, outputs, and how a program ends."""

import contextlib
import io
import os
import pathlib
import signal
import subprocess
import sys
import time
from unittest import mock

from absl import flags
from absl.testing import parameterized
import pytest

from experiments import cli

_ROOT = pathlib.Path(__file__).parents[2]


class FlagsTest(parameterized.TestCase):
  """Takes its flags away again: absl has one set for the whole process."""

  def setUp(self):
    super().setUp()
    if not flags.FLAGS.is_parsed():
      self.addCleanup(flags.FLAGS.unparse_flags)
    before = set(flags.FLAGS)
    cli.define_number('e_count', 3, 'Count.', low=1)
    cli.define_number('e_time', 1.0, 'Seconds.', low=0)
    cli.define_number('e_part', 0.5, 'Part.', above=0, high=1)
    cli.define_number('e_free', 0.5, 'Anything.')
    cli.define_seed('Seed.')
    flags.DEFINE_bool('e_resume', False, 'Whether.')
    for name in set(flags.FLAGS) - before:
      self.addCleanup(delattr, flags.FLAGS, name)

  def _parse(self, *args):
    """Returns the exit code and what is said of wrong flags."""
    errors = io.StringIO()
    with (contextlib.redirect_stderr(errors),
          self.assertRaises(SystemExit) as caught):
      cli._parse(['program', *args])
    return caught.exception.code, errors.getvalue()

  @parameterized.parameters(
      ('--e_count=0', '--e_count=0: it must be 1 or more'),
      ('--e_count=1.5', '--e_count'), ('--e_count=', '--e_count'),
      (f'--e_count={2**31}', 'it must be 2147483647 or less'),
      (f'--e_count={10**400}', 'it must be 2147483647 or less'),
      (f'--e_count={"9" * 5000}', '--e_count'),
      ('--e_time=nan', '--e_time=nan: it must be 0 or more'),
      ('--e_time=inf', '--e_time=inf: it must be 0 or more'),
      ('--e_time=-1', 'it must be 0 or more'),
      ('--e_part=0', 'allowed are values above 0 and up to 1'),
      ('--e_part=1.5', 'allowed are values above 0 and up to 1'),
      ('--e_free=nan', 'it must be a finite number'),
      ('--seed=-1', '--seed=-1: allowed are values from 0 to 4.29497e+09'),
      (f'--seed={2**64}', 'allowed are values from 0 to'),
      ('--noe_resume=1', '--noe_resume=1 does not take an argument'),
      ('--e_resume=maybe', '--e_resume'), ('--unknown=1', 'unknown'),
      ('stray', "unexpected argument 'stray'"))
  def test_one_line_for_a_mistake(self, arg, message):
    code, text = self._parse(arg)
    self.assertEqual(code, 2)
    self.assertStartsWith(text, 'error: ')
    self.assertEqual(text.count('\n'), 1)
    self.assertIn(message, text)

  def test_limits_are_allowed(self):
    cli._parse(['program', '--e_count=1', '--e_time=0', '--e_part=1',
                f'--seed={2**32 - 1}', '--noe_resume'])
    values = flags.FLAGS
    self.assertEqual((values.e_count, values.e_time, values.e_part, values.seed,
                      values.e_resume), (1, 0.0, 1.0, 2**32 - 1, False))


class OutputsTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def test_a_new_folder_is_made_at_once(self):
    folder = cli.new_folder(str(self.path / 'a' / 'b'))
    self.assertEqual(list(folder.iterdir()), [])
    self.assertEqual(cli.new_folder(str(folder)), folder)  # Still empty.
    self.assertIsNone(cli.new_folder(None))

  @parameterized.parameters(
      ('file', 'is not an empty folder'),
      ('.', 'is not an empty folder'),
      ('file/under', '--workdir=.*cannot be written: Not a directory'),
      ('x' * 300, 'cannot be written: File name too long'))
  def test_folders_that_cannot_be(self, name, message):
    (self.path / 'file').write_text('mine')
    with self.assertRaisesRegex(cli.UsageError, message):
      cli.new_folder(str(self.path / name))
    self.assertEqual((self.path / 'file').read_text(), 'mine')

  def test_a_folder_of_a_system_that_takes_no_files(self):
    with self.assertRaisesRegex(cli.UsageError, '--workdir=.*cannot be writ'):
      cli.new_folder('/proc/results')

  @parameterized.parameters(
      ('file', '--csv=.*file is there already; name a new file'),
      ('file/under', 'cannot be written: Not a directory'),
      ('nowhere/file', 'cannot be written: No such file'),
      ('x' * 300, 'cannot be written: File name too long'))
  def test_files_that_cannot_be(self, name, message):
    (self.path / 'file').write_text('mine')
    with self.assertRaisesRegex(cli.UsageError, message):
      cli.new_file(str(self.path / name), 'csv')
    self.assertEqual((self.path / 'file').read_text(), 'mine')

  def test_a_new_file_is_not_there_yet(self):
    path = cli.new_file(str(self.path / 'file'), 'csv')
    self.assertFalse(path.exists())

  def test_a_file_that_may_be_overwritten_stays_until_then(self):
    (self.path / 'file').write_text('old')
    path = cli.new_file(str(self.path / 'file'), 'output', overwrite=True)
    self.assertEqual(path.read_text(), 'old')
    with self.assertRaisesRegex(cli.UsageError, 'Is a directory'):
      cli.new_file(str(self.path), 'output', overwrite=True)

  def test_what_cannot_be_written_at_the_end(self):
    with (self.assertRaisesRegex(
        cli.RunError, '^/dev/full cannot be written: No space left on device; '
        'the result is printed above$') as caught,
          cli.writing('/dev/full')):
      pathlib.Path('/dev/full').write_text('text')
    self.assertEqual(caught.exception.code, 1)


class EndTest(parameterized.TestCase):

  @parameterized.parameters(
      (cli.RunError('no  way\nout'), 1, 'error: no way out\n'),
      (cli.UsageError('what?'), 2, 'error: what?\n'),
      (cli.InterruptedRunError('stopped', 15), 143, 'error: stopped\n'),
      (KeyboardInterrupt(), 130, 'error: interrupted\n'),
      (MemoryError('Unable to allocate 8 TiB'), 1,
       'error: there is not enough memory: Unable to allocate 8 TiB\n'),
      (cli.jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: 8 TiB'), 1,
       'error: there is not enough memory: RESOURCE_EXHAUSTED: 8 TiB\n'))
  def test_one_line(self, error, code, text):
    errors = io.StringIO()
    with (contextlib.redirect_stderr(errors),
          self.assertRaises(SystemExit) as caught):
      cli._guarded(mock.Mock(side_effect=error))
    self.assertEqual((caught.exception.code, errors.getvalue()), (code, text))

  def test_faults_keep_their_traceback(self):
    for error in (KeyError('fault'), cli.jax.errors.JaxRuntimeError('fault')):
      with self.assertRaises(type(error)):
        cli._guarded(mock.Mock(side_effect=error))

  def test_a_reader_that_wants_one_line_alone(self):
    """As `| head -1`: neither main's prints nor those at the end complain."""
    program = ('from experiments import cli\n'
               'cli.run(lambda: [print("line") for _ in range(100_000)])\n')
    with subprocess.Popen(
        [sys.executable, '-c', program], cwd=_ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True) as process:
      self.assertEqual(process.stdout.readline(), 'line\n')
      process.stdout.close()
      self.assertEqual(process.stderr.read(), '')
    self.assertEqual(process.returncode, 128 + signal.SIGPIPE)

  @pytest.mark.skipif(not os.path.exists('/proc/self/maps'), reason='Linux')
  def test_ctrl_c_while_a_program_loads(self):
    # A shell has what it starts in the background ignore the signal, so the
    # process asks for it again before it becomes the program.
    start = ('import os, signal, sys\n'
             'signal.signal(signal.SIGINT, signal.SIG_DFL)\n'
             'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])\n')
    with subprocess.Popen(
        [sys.executable, '-c', start, '-m', 'experiments.mnist'], cwd=_ROOT,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
      maps = pathlib.Path(f'/proc/{process.pid}/maps')
      while process.poll() is None and 'jaxlib' not in maps.read_text():
        time.sleep(0.005)
      process.send_signal(signal.SIGINT)
      self.assertEqual(process.communicate(), ('', ''))
    self.assertEqual(process.returncode, -signal.SIGINT)
