"""For the reference: the fields of Flax modules, with their defaults.

Flax makes a dataclass of a module when Python runs it. The reference is read
from the source, where no decorator says so; mkdocs.yml names this file.
"""

from typing import Any

import griffe

_KIND = griffe.ParameterKind.positional_or_keyword


class Fields(griffe.Extension):
  """Gives every Flax module the `__init__` that Flax will give it."""

  def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
    del kwargs
    if not any(str(base) == 'nn.Module' for base in cls.bases):
      return
    fields = [
        griffe.Parameter(name, annotation=member.annotation, kind=_KIND,
                         default=member.value)
        for name, member in cls.members.items()
        if member.is_attribute and member.annotation is not None
        and 'property' not in member.labels]
    cls.set_member('__init__', griffe.Function(
        '__init__', lineno=cls.lineno, endlineno=cls.lineno, parent=cls,
        parameters=griffe.Parameters(
            griffe.Parameter('self', kind=_KIND), *fields)))
