"""What shows that something is going on: a bar on a terminal or in a notebook.
"""

from collections.abc import Mapping
import math
import multiprocessing
import os
import sys
from typing import Any
import warnings

COMPILING = 'compiling (first run only)'
_UNCOUNTED = '{desc} ...'


class Bar:
  """Shows what is going on, how far it is, and losses.

  A context manager; the bar disappears at its end. Outputs that are neither a
  terminal nor a notebook, such as files, stay empty. So do those of worker
  processes, which would mix, and all if the environment has TQDM_DISABLE=1.
  """

  def __init__(
      self, total: int | None, show: bool | str, uncounted: str = ''):
    """Begins with no step done.

    Args:
      total: Number of steps; None if it is not known.
      show: Whether there is a bar, or a text that stands before it.
      uncounted: Phase that it begins with, in which no steps are counted.
    """
    self._bar: Any = None
    self._name = show if isinstance(show, str) else ''
    if show and _may_show():
      with warnings.catch_warnings():
        # A notebook without widgets gets a bar of text, which is enough.
        warnings.filterwarnings('ignore', message='IProgress not found')
        from tqdm import auto  # Not at the top: most imports need no bar.
      # None asks whether the output is a terminal.
      bar = auto.tqdm(
          total=total, disable=False if _in_notebook() else None, leave=False,
          desc=self._text(uncounted) or None,
          bar_format=_UNCOUNTED if uncounted else None)
      self._bar = None if bar.disable else bar

  def __enter__(self) -> 'Bar':
    return self

  def __exit__(self, *error: object) -> None:
    if self._bar is not None:
      self._bar.close()

  def _text(self, *phase: str) -> str:
    return ', '.join(filter(None, (self._name, *phase)))

  def wait(self, *phase: str) -> None:
    """Begins a phase in which no steps are counted, named by some texts."""
    if self._bar is not None:
      self._bar.bar_format = _UNCOUNTED
      self._bar.set_description_str(self._text(*phase))

  def count(self, *phase: str) -> None:
    """Begins a phase in which steps are counted, and its time."""
    if self._bar is not None:
      self._bar.bar_format = None
      self._bar.set_description(self._text(*phase) or None, refresh=False)
      self._bar.unpause()

  def show(self, steps: int, losses: Mapping[str, float]) -> None:
    """Moves on by some steps and shows the losses that are not NaN."""
    if self._bar is not None:
      self._bar.set_postfix(
          {name: value for name, value in losses.items()
           if not math.isnan(value)}, refresh=False)
      self._bar.update(steps)


def name_part(show: bool | str, name: str) -> bool | str:
  """Returns `show` for a part of some work: with a name if it is shown."""
  if not show:
    return False
  return f'{show}, {name}' if isinstance(show, str) else name


def _may_show() -> bool:
  """Whether this is no worker process, and the user has not turned bars off."""
  return (os.environ.get('TQDM_DISABLE', '0') in ('', '0')
          and multiprocessing.parent_process() is None)


def _in_notebook() -> bool:
  """Whether this is the process of a notebook, whose output is no terminal."""
  ipython = sys.modules.get('IPython')
  shell = ipython and ipython.get_ipython()
  return shell is not None and 'IPKernelApp' in shell.config
