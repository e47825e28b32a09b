"""The bar of a fit: on terminals alone, and gone at the end."""

import contextlib
import io
import math
import sys
from unittest import mock

import pytest

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


def test_other_outputs_show_nothing(capsys):
  with _progress.Bar(10, True) as bar:
    bar.show(10, {'loss': 0.25})
  assert capsys.readouterr() == ('', '')


@pytest.mark.parametrize('show', [True, False])
def test_without_tqdm_or_unasked_nothing_is_shown(show):
  terminal = _Terminal()
  with (contextlib.redirect_stderr(terminal),
        mock.patch.dict(sys.modules, {'tqdm': None} if show else {}),
        _progress.Bar(10, show) as bar):
    bar.show(10, {'loss': 0.25})
  assert terminal.getvalue() == ''
