"""A progress bar on a terminal."""

from collections.abc import Mapping
import math
from typing import Any


class Bar:
  """Shows steps and losses, if the output is a terminal and tqdm is installed.

  A context manager; the bar disappears at its end.
  """

  def __init__(self, total: int, show: bool):
    self._bar: Any = None
    if show:
      try:
        import tqdm  # Optional, so not at the top.
      except ImportError:
        return
      self._bar = tqdm.tqdm(total=total, disable=None, leave=False)

  def __enter__(self) -> 'Bar':
    return self

  def __exit__(self, *error: object) -> None:
    if self._bar is not None:
      self._bar.close()

  def show(self, steps: int, losses: Mapping[str, float]) -> None:
    """Moves on by some steps and shows the losses that are not NaN."""
    if self._bar is not None:
      self._bar.set_postfix(
          {name: value for name, value in losses.items()
           if not math.isnan(value)}, refresh=False)
      self._bar.update(steps)
