"""Finds the function of an edge: candidates, by quality and complexity."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import itertools
from typing import Any
from typing import NamedTuple
from typing import TypeVar

from flax import linen as nn
import jax
import numpy as np

from kan_jax import _progress
from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import structure
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept
from kan_jax.symbolic import _samples
from kan_jax.symbolic import affine_fit

_Model = TypeVar('_Model', bound=nn.Module)

# Defaults of `score`. Every function of LIBRARY was put on [-1, 1], exactly and
# with errors of 1e-3 to 1e-2. With these defaults it comes first, except those
# that are another one with a shift (cos, arccos, sigmoid), and x^1.5 and arcsin
# at errors of 1e-2. With the 0.8 of pykan 0.2, 9 to 15 of 29 lose to something
# simpler.
WEIGHT = 0.35
FLOOR = 1e-5

_ROUNDING = 1e-12
_EXPLAINED = 0.9  # r2 of a candidate that a constant must not come before.
_VALUES = 2**24  # Most samples of edges at a time: 64 MiB in float32.


LayerEdge = tuple[tuple[str, ...], tuple[int, int]]  # Path; input, output.


class Candidate(NamedTuple):
  """One function for one edge, c * f(a * x + b) + d; see `AffineFit`.

  Attributes:
    name: Name of the function.
    score: Quality against complexity, lower is better; see `score`.
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
  function: functions.Function

  def __repr__(self) -> str:
    a, b, c, d = self.params
    end = ', a at its limit' if self.at_boundary else ''
    return (f'{self.name}: score {self.score:.3f}, r2 {self.r2:.6g}, '
            f'a {a:.6g}, b {b:.6g}, c {c:.6g}, d {d:.6g}{end}')


class Choice(NamedTuple):
  """What `auto_symbolic` did with an edge.

  Attributes:
    layer: Path of the layer.
    edge: Input and output.
    best: Best candidate; None if no function was finite on the samples.
    fixed: Whether the edge carries it now.
  """
  layer: tuple[str, ...]
  edge: tuple[int, int]
  best: Candidate | None
  fixed: bool

  def __repr__(self) -> str:
    where = f'{"/".join(self.layer)} {self.edge[0]} -> {self.edge[1]}'.strip()
    stays = '' if self.fixed else ' (not fixed, stays a spline)'
    return f'{where}: {self.best or "no function is finite"}{stays}'


def score(
    complexity: float, parameters: np.ndarray, residual: np.ndarray, *,
    weight: float = WEIGHT, floor: float = FLOOR) -> np.ndarray:
  """Weighs quality against complexity, in bits; lower is better.

  weight * complexity + (1 - weight) * (log2(residual + floor) + parameters):
  the score of pykan 0.2, plus one bit for each number that the fit needs. So a
  further number must at least halve the residual. No units change the score.
  pykan's weight of 0.8 names too many edges by something too simple here: a
  weight does not carry over.

  Args:
    complexity: Complexity of the function.
    parameters: How many of a, b, c, d each fit needs, [edges].
    residual: Residual of each fit, 1 - r2, [edges].
    weight: Weight of the complexity, 0 to 1.
    floor: Residual far below which all are as good as 0, > 0; as much as
      training leaves of noise.

  Raises:
    ValueError: If `weight` or `floor` is not what it says.
  """
  if not 0 <= weight <= 1:
    raise ValueError(f'`weight` lies in 0 to 1; got {weight!r}.')
  if not floor > 0:
    raise ValueError(f'`floor` is a residual > 0; got {floor!r}.')
  return weight * complexity + (1 - weight) * (
      np.log2(residual + floor) + parameters)


@accept.takes_nnx
def suggest(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    layer: structure.LayerName, i: int, o: int, *,
    library: Iterable[functions.Function] = functions.LIBRARY,
    weight: float = WEIGHT, floor: float = FLOOR,
    progress: bool | str = True) -> list[Candidate]:
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
    weight: Weight of the complexity; see `score`.
    floor: Residual that is as good as 0; see `score`.
    progress: Whether a terminal or a notebook shows a bar; see `fit`.

  Returns:
    Candidates of increasing score; of equal scores, to three decimals, in the
    order of `library`. A function that is not finite on all samples is none.
    The function 0 comes after any that explains 90 % of the edge, whatever its
    score: which edges can go is what pruning decides. A removed edge is the
    function 0.
  """
  view = traversal.view_layer(
      model, variables, x, structure.layer_path(model, layer))
  inputs, outputs = view.edges.mask.shape
  if not (0 <= i < inputs and 0 <= o < outputs):
    raise ValueError(
        f'`i` and `o` are an input and an output of a layer with {inputs} and '
        f'{outputs}; got {i} and {o}.')
  return rank(*traversal.edge_samples(view, [(i, o)]), library=library,
              weight=weight, floor=floor, progress=progress)[0]


def rank(
    x: np.ndarray, y: np.ndarray, *,
    library: Iterable[functions.Function] = functions.LIBRARY,
    weight: float = WEIGHT, floor: float = FLOOR,
    progress: bool | str = False) -> list[list[Candidate]]:
  """Returns the candidates of each edge, the best first.

  Args:
    x: Inputs of each edge, [n, edges].
    y: Outputs of each edge, [n, edges].
    library: Functions to try.
    weight: Weight of the complexity; see `score`.
    floor: Residual that is as good as 0; see `score`.
    progress: Whether a terminal or a notebook shows what is tried; see `fit`.
  """
  library, ranked = list(library), []
  for samples in _samples.chunks(x, y):
    fits = _fit_all(library, samples, progress)
    scores = [score(function.complexity, fit.parameters, fit.residual,
                    weight=weight, floor=floor)
              for function, fit in zip(library, fits, strict=True)]
    for k in range(samples.edges):
      ranked.append(_sort([
          _candidate(function, fit, k, values[k]) for function, fit, values
          in zip(library, fits, scores, strict=True)
          if np.isfinite(fit.r2[k])]))
  return ranked


def _fit_all(
    library: Sequence[functions.Function], samples: _samples.Samples,
    progress: bool | str) -> list[affine_fit.AffineFit]:
  """Fits each function to some edges."""
  fits = []
  with _progress.Bar(len(library), progress, _progress.COMPILING) as bar:
    for function in library:
      fits.append(affine_fit.fit_chunk(function, samples))
      bar.count('functions tried')
      bar.show(1, {})
  return fits


def _sort(candidates: list[Candidate]) -> list[Candidate]:
  """Sorts the candidates of one edge, the best first."""
  least = min((candidate.score for candidate in candidates
               if candidate.r2 >= _EXPLAINED), default=-np.inf)

  def key(candidate):
    behind = candidate.r2 <= _ROUNDING and candidate.score <= least
    # A sine and a cosine fit alike but for rounding: the library's order
    # decides.
    return round(least if behind else candidate.score, 3), behind

  return sorted(candidates, key=key)


def _candidate(
    function: functions.Function, fit: affine_fit.AffineFit, edge: int,
    value: float) -> Candidate:
  """Returns the candidate that a fit is for one of its edges."""
  a, b, c, d = (float(field[edge]) for field in fit[:4])
  return Candidate(
      function.name, float(value), float(fit.r2[edge]),
      float(fit.residual[edge]), (a, b, c, d), bool(fit.at_boundary[edge]),
      function)


@accept.takes_nnx
def auto_symbolic(
    model: _Model, variables: Mapping[str, Any], x: jax.Array, *,
    library: Sequence[functions.Function] = functions.LIBRARY,
    weight: float = WEIGHT, floor: float = FLOOR,
    min_r2: float = 0.0, progress: bool | str = True) -> tuple[
        _Model, dict[str, Any], list[Choice]]:
  """Gives every spline its best function.

      model, variables, report = auto_symbolic(model, variables, x)
      print(*report, sep='\\n')

  Edges that were removed stay removed, and edges that carry a function keep it.
  The result depends on the arguments alone.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: Inputs of the model, [n, in].
    library: Functions to try.
    weight: Weight of the complexity; see `score`.
    floor: Residual that is as good as 0; see `score`.
    min_r2: Least r2 of the best candidate; other edges stay splines.
    progress: Whether a terminal or a notebook shows a bar; see `fit`.

  Returns:
    The model, the variables, and a report with an entry for each edge.
  """
  views = traversal.view_layers(model, variables, x)
  edges = [(path, edge) for path, view in views.items()
           for edge in traversal.spline_edges(view)]
  ranked, report = [], []
  for some in _groups(edges, len(x)):
    ranked += rank(
        *_samples_of(views, some), library=library, weight=weight, floor=floor,
        progress=_progress.name_part(progress, f'{len(edges)} edges'))
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


def _groups(edges: Sequence[LayerEdge], rows: int) -> Iterator[
    Sequence[LayerEdge]]:
  """Splits edges into groups whose samples fit into memory."""
  size = max(8, _VALUES // max(rows, 1))
  for start in range(0, len(edges), size):
    yield edges[start:start + size]


def _samples_of(
    views: Mapping[tuple[str, ...], traversal.LayerView],
    edges: Sequence[LayerEdge]) -> tuple[np.ndarray, np.ndarray]:
  """Inputs and values of some edges, ordered by layer, each [n, edges]."""
  parts = []
  for path, group in itertools.groupby(edges, lambda edge: edge[0]):
    parts.append(traversal.edge_samples(
        views[path], [edge for _, edge in group]))
  x, y = (np.concatenate(side, 1) for side in zip(*parts, strict=True))
  return x, y
