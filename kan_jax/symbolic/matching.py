"""Which function an edge is: candidates by quality against complexity."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from flax import linen as nn
import jax
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions as library_lib
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.symbolic import affine_fit

# Defaults of `score`. Of the functions of LIBRARY on [-1, 1], exact or with
# errors of 1e-3 to 1e-2, these name all but the ones that are another with a
# shift (cos, arccos, sigmoid), and x^1.5 and arcsin at 1e-2. With the 0.8 of
# pykan 0.2, 9 to 15 of 29 lose to something simpler, as 1/x^5 to 0.
WEIGHT = 0.35
FLOOR = 1e-5

_ROUNDING = 1e-12


class Candidate(NamedTuple):
  """One function for one edge, c * f(a * x + b) + d; see `fitting.Fit`.

  Attributes:
    name: Of the function.
    score: The lower the better; see `score`.
    r2: 1 - residual.
    residual: Sum of squared errors over that of the best constant.
    params: a, b, c and d, in the units of the edge.
    at_boundary: Whether the search for a ended at its limits.
    function: The function itself.
  """
  name: str
  score: float
  r2: float
  residual: float
  params: tuple[float, float, float, float]
  at_boundary: bool
  function: library_lib.Function


class Choice(NamedTuple):
  """What `auto_symbolic` did with an edge.

  Attributes:
    layer: Path of the layer.
    edge: Input and output.
    best: The best candidate; None if no function was finite on the samples.
    fixed: Whether the edge carries it now.
  """
  layer: tuple[str, ...]
  edge: tuple[int, int]
  best: Candidate | None
  fixed: bool


def score(
    complexity: float, parameters: np.ndarray, residual: np.ndarray, *,
    weight: float = WEIGHT, floor: float = FLOOR) -> np.ndarray:
  """Weighs quality against complexity, in bits; lower is better.

  weight * complexity + (1 - weight) * (log2(residual + floor) + parameters):
  the score of pykan 0.2 and one bit for each number that the fit needs, so that
  a number more must at least halve the residual. It depends on no units.
  pykan's weight is 0.8.

  Args:
    complexity: Of the function.
    parameters: How many of a, b, c, d each fit needs, [edges].
    residual: Of each fit, 1 - r2, [edges].
    weight: Of the complexity, 0 to 1.
    floor: Residuals far below this are as good as 0, > 0: what the training
      has left of noise.

  Raises:
    ValueError: If `weight` or `floor` is not what it says.
  """
  if not 0 <= weight <= 1:
    raise ValueError(f'`weight` lies in 0 to 1; got {weight!r}.')
  if not floor > 0:
    raise ValueError(f'`floor` is a residual > 0; got {floor!r}.')
  return weight * complexity + (1 - weight) * (
      np.log2(residual + floor) + parameters)


def suggest(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    layer: structure.LayerName, i: int, o: int, *,
    library: Iterable[library_lib.Function] = library_lib.LIBRARY,
    weight: float = WEIGHT, floor: float = FLOOR) -> list[Candidate]:
  """Returns what functions an edge may be, the best first.

      best, *others = suggest(model, variables, x, 0, 1, 2)

  Args:
    model: Any Flax module that holds KAN layers.
    variables: Its variables; they are only read.
    x: Inputs of the model, [n, in].
    layer: Index of the nodes that the edge leaves: 0 for the inputs, 1 for the
      nodes of the first layer, and so on. Or a path, a key of
      `layers.view_layers`, which models other than a KAN need.
    i: Index of the node that the edge leaves.
    o: Index of the term that it leads to; where no node multiplies, terms are
      nodes.
    library: Functions to try.
    weight: See `score`.
    floor: See `score`.

  Returns:
    Candidates of increasing score; of equal scores, to three decimals, in the
    order of `library`. A function that is not finite on all samples is none. A
    removed edge is the function 0.
  """
  view = traversal.view_layer(
      model, variables, x, structure.layer_path(model, layer))
  inputs, outputs = view.edges.mask.shape
  if not (0 <= i < inputs and 0 <= o < outputs):
    raise ValueError(
        f'`i` and `o` are an input and an output of a layer with {inputs} and '
        f'{outputs}; got {i} and {o}.')
  return rank(*traversal.edge_samples(view, [(i, o)]), library=library,
              weight=weight, floor=floor)[0]


def rank(
    x: np.ndarray, y: np.ndarray, *,
    library: Iterable[library_lib.Function] = library_lib.LIBRARY,
    weight: float = WEIGHT, floor: float = FLOOR) -> list[list[Candidate]]:
  """Returns the candidates of each edge, the best first.

  Args:
    x: Inputs of each edge, [n, edges].
    y: Outputs of each edge, [n, edges].
    library: The functions to try.
    weight: See `score`.
    floor: See `score`.
  """
  found: list[list[Candidate]] = [[] for _ in range(x.shape[1])]
  for function in library:
    fit = affine_fit.fit_affine(function, x, y)
    scores = score(function.complexity, fit.parameters, fit.residual,
                   weight=weight, floor=floor)
    for edge in np.flatnonzero(np.isfinite(fit.r2)).tolist():
      found[edge].append(_candidate(function, fit, edge, scores[edge]))
  # A sine and a cosine fit alike but for rounding; the library's order decides.
  return [sorted(edge, key=lambda candidate: round(candidate.score, 3))
          for edge in found]


def _candidate(
    function: library_lib.Function, fit: affine_fit.AffineFit, edge: int,
    value: float) -> Candidate:
  a, b, c, d = (float(field[edge]) for field in fit[:4])
  return Candidate(
      function.name, float(value), float(fit.r2[edge]),
      float(fit.residual[edge]), (a, b, c, d), bool(fit.at_boundary[edge]),
      function)


def auto_symbolic(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array, *,
    library: Sequence[library_lib.Function] = library_lib.LIBRARY,
    weight: float = WEIGHT, floor: float = FLOOR,
    min_r2: float = 0.0) -> tuple[nn.Module, dict[str, Any], list[Choice]]:
  """Gives every live spline its best function.

  Edges that were removed stay removed, and edges that carry a function keep it.
  The result depends on the arguments alone.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: Inputs of the model, [n, in].
    library: The functions to try.
    weight: See `score`.
    floor: See `score`.
    min_r2: Edges whose best candidate has a lower r2 stay splines.

  Returns:
    A model and variables, and a report with an entry for each edge.
  """
  views = traversal.view_layers(model, variables, x)
  edges = [(path, edge) for path, view in views.items()
           for edge in traversal.spline_edges(view)]
  ranked = rank(*_all_samples(views), library=library, weight=weight,
                floor=floor) if edges else []
  report = []
  for (path, edge), candidates in zip(edges, ranked, strict=True):
    best = candidates[0] if candidates else None
    # The function 0 has an r2 of 0, up to rounding.
    fixed = best is not None and best.r2 >= min_r2 - _ROUNDING
    report.append(Choice(path, edge, best, fixed))
  for path in views:
    chosen = {choice.edge: (choice.best.function, choice.best.params)
              for choice in report
              if choice.layer == path and choice.best and choice.fixed}
    if chosen:
      model, variables = edits.assign(model, variables, path, chosen)
  return model, dict(variables), report


def _all_samples(
    views: Mapping[tuple[str, ...], traversal.LayerView]) -> tuple[
        np.ndarray, np.ndarray]:
  """Inputs and values of the live edges of all layers, each [n, edges]."""
  parts = [traversal.edge_samples(view, traversal.spline_edges(view))
           for view in views.values()]
  x, y = (np.concatenate(side, 1) for side in zip(*parts, strict=True))
  return x, y
