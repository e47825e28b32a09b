"""What a package hands out: listed in its stub, imported when first used."""

from collections.abc import Callable
from typing import Any

import lazy_loader

# The extra of pyproject.toml that brings a package along.
_EXTRAS = {
    'flatbuffers': 'export', 'grain': 'grain', 'matplotlib': 'plot',
    'onnx': 'onnx', 'orbax': 'checkpoints', 'sklearn': 'sklearn',
    'sympy': 'symbolic', 'threadpoolctl': 'symbolic'}

_Face = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def attach(package: str, path: str) -> _Face:
  """Returns `__getattr__`, `__dir__` and `__all__` of a package.

  Args:
    package: Its `__name__`.
    path: Its `__file__`; the stub, with the ending pyi, lies beside it.
  """
  resolve, listed, names = lazy_loader.attach_stub(package, path)

  def resolve_or_explain(name: str) -> Any:
    try:
      return resolve(name)
    except ModuleNotFoundError as error:
      missing = (error.name or '').partition('.')[0]
      if missing not in _EXTRAS:
        raise
      # Several lines of imports lead to it; none of them is the user's.
      raise ModuleNotFoundError(
          f'{package}.{name} needs {missing}, which is not installed; in a '
          'copy of the repository, '
          f"`pip install -e '.[{_EXTRAS[missing]}]'` brings it along.",
          name=error.name) from None

  return resolve_or_explain, listed, names
