"""Runs the Python that the documents show, as it is printed."""

import pathlib
import re
from typing import Any

import jax

ROOT = pathlib.Path(__file__).parents[2]


def with_code() -> list[str]:
  """Returns the pages of the site that show Python, by name."""
  return sorted(page.name for page in (ROOT / 'docs').glob('*.md')
                if blocks(f'docs/{page.name}'))


def blocks(page: str) -> list[str]:
  """Returns the Python of a page; its path is relative to the repository."""
  return re.findall(r'^```python\n(.*?)^```$', (ROOT / page).read_text(),
                    re.DOTALL | re.MULTILINE)


def run(page: str, which: slice = slice(None)) -> dict[str, Any]:
  """Runs a page's Python from the top, or some blocks of it.

  Returns:
    The names that are defined then.
  """
  names: dict[str, Any] = {}
  try:  # It may switch float64 on, for the whole process.
    for block in blocks(page)[which]:
      exec(compile(block, page, 'exec'), names)
  finally:
    jax.config.update('jax_enable_x64', False)
  return names
