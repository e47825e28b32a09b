"""The bar: on terminals and in notebooks alone, and gone at the end."""

import contextlib
import io
import math
import multiprocessing
import sys
import types
from unittest import mock

import pytest
import tqdm.auto  # noqa: F401 Before there is an IPython that is made up.

from kan_jax import _progress


class _Terminal(io.StringIO):

  def isatty(self):
    return True


def test_a_terminal_shows_steps_and_losses_that_are_known():
  terminal = _Terminal()
  with contextlib.redirect_stderr(terminal), _progress.Bar(10, True) as bar:
    bar.show(10, {'loss': 0.25, 'validation_loss': math.nan})
    text = str(bar._bar)
  assert '10/10' in text and 'loss=0.25' in text
  assert 'validation_loss' not in text
  assert '0/10' in terminal.getvalue()
  assert terminal.getvalue().endswith('\r')  # Wiped out.


def test_phases_have_names():
  """Nothing is counted before there is something to count."""
  terminal = _Terminal()
  with (contextlib.redirect_stderr(terminal),
        _progress.Bar(10, 'network 2 of 3', _progress.COMPILING) as bar):
    waiting = terminal.getvalue()
    bar.count('grid 5')
    bar.show(5, {})
    counting = str(bar._bar)
    bar.wait('grid 10')
    again = str(bar._bar)
  assert 'network 2 of 3, compiling (first run only) ...' in waiting
  assert '0/10' not in waiting
  assert counting.startswith('network 2 of 3, grid 5:  50%')
  assert again == 'network 2 of 3, grid 10 ...'


def test_other_outputs_show_nothing(capsys):
  with _progress.Bar(10, True) as bar:
    bar.show(10, {'loss': 0.25})
  assert capsys.readouterr() == ('', '')


def test_a_notebook_shows_a_bar_though_it_is_no_terminal():
  shell = types.SimpleNamespace(config={'IPKernelApp': {}})
  output = io.StringIO()
  with (contextlib.redirect_stderr(output), mock.patch.dict(sys.modules, {
      'IPython': types.SimpleNamespace(get_ipython=lambda: shell)}),
        _progress.Bar(10, True)):
    pass
  assert '0/10' in output.getvalue()


@pytest.mark.parametrize('reason', ['unasked', 'environment', 'worker'])
def test_unasked_or_unwanted_nothing_is_shown(reason, monkeypatch):
  if reason == 'environment':
    monkeypatch.setenv('TQDM_DISABLE', '1')
  elif reason == 'worker':
    monkeypatch.setattr(multiprocessing, 'parent_process', mock.Mock)
  terminal = _Terminal()
  with (contextlib.redirect_stderr(terminal),
        _progress.Bar(10, reason != 'unasked') as bar):
    bar.wait('compiling')
    bar.count()
    bar.show(10, {'loss': 0.25})
  assert terminal.getvalue() == ''


def test_a_part_has_a_name_of_its_own():
  assert _progress.name_part(False, 'part') is False
  assert _progress.name_part(True, 'part') == 'part'
  assert _progress.name_part('whole', 'part') == 'whole, part'
