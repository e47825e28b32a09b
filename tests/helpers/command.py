"""Runs the programs of experiments/ as a user does, each in its own process."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def call(
    name: str, *args: str, cwd: pathlib.Path | str = ROOT,
    **env: str) -> subprocess.CompletedProcess[str]:
  """Runs `python -m experiments.NAME` and returns how it ended.

  Args:
    name: Name of the program, such as 'mnist' or 'devices.rehearse'.
    *args: Its flags.
    cwd: Folder in which it runs.
    **env: Variables that are added to the environment of the tests.
  """
  return subprocess.run(
      [sys.executable, '-m', f'experiments.{name}', *args], cwd=cwd,
      env=os.environ | {'PYTHONPATH': str(ROOT)} | env, capture_output=True,
      text=True, timeout=200, check=False)
