"""Finds the function of an edge by the loss of the whole model."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import TypeVar
from typing import Unpack

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import _progress
from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import traversal
from kan_jax.layers.nnx import accept
from kan_jax.symbolic import _switchable
from kan_jax.symbolic import matching
from kan_jax.training import fitting
from kan_jax.training import optimizers
from kan_jax.training import train_steps

_Model = TypeVar('_Model', bound=nn.Module)

_FIT: fitting.FitOptions = {
    'steps': 20, 'log_every': 20, 'update_steps': ()}


@accept.takes_nnx
def auto_symbolic_by_loss(
    model: _Model, variables: Mapping[str, Any], x: jax.Array,
    y: jax.Array, *, candidates: int = 3,
    library: Sequence[functions.Function] = functions.LIBRARY,
    weight: float = matching.WEIGHT, floor: float = matching.FLOOR,
    **fit_options: Unpack[fitting.FitOptions]) -> tuple[
        _Model, dict[str, Any], list[matching.Choice]]:
  """Gives every live spline the function with which the model does best.

  The edges take turns, layer by layer. Each candidate is fixed, and all
  parameters are tuned for a few steps. The loss of the model, divided by that
  of the constant outputs' mean, then takes the place of the residual in
  `matching.score`. The next edge sees the tuned model. One program serves all
  trials; `auto_symbolic` is still much faster, and mostly as good.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: Inputs, [n, in].
    y: Targets, as the `loss_fn` of `fit_options` takes them.
    candidates: How many functions to try for each edge, the best by
      `matching.score`.
    library: Functions to try.
    weight: Weight of the complexity; see `matching.score`.
    floor: Residual that is as good as 0; see `matching.score`.
    **fit_options: Options of `kan_jax.fit`, such as `optimizer` and `loss_fn`,
      whose losses are >= 0; 20 steps by default.

  Returns:
    The model, the variables, and a report with an entry for each edge. The
    scores in it are those by loss; the rest is as in that of `auto_symbolic`.
  """
  if candidates < 1:
    raise ValueError(f'`candidates` is a number >= 1; got {candidates!r}.')
  options: fitting.FitOptions = {
      **_FIT, 'validation': (x, y), **fit_options}
  loss_fn = options.get('loss_fn', optimizers.squared_error)
  outputs: Any = model.apply(variables, x)
  constant = jnp.broadcast_to(
      outputs.mean(0, keepdims=True), outputs.shape)
  worst = train_steps.row_losses(loss_fn, constant, y).mean()
  # Steps may leave the domain of a function; they are then taken back.
  with jax.debug_nans(False), jax.debug_infs(False):
    return _choose(
        model, variables, x, y, float(worst), candidates, library, weight,
        floor, options)


def _choose(
    model: _Model, variables: Mapping[str, Any], x: jax.Array, y: jax.Array,
    worst: float, candidates: int, library: Sequence[functions.Function],
    weight: float, floor: float, options: fitting.FitOptions) -> tuple[
        _Model, dict[str, Any], list[matching.Choice]]:
  """Chooses the function of one edge after the other; `worst` is a loss."""
  report = []
  edges = _live(model, variables, x)
  for k, (path, edge) in enumerate(edges):
    trial_options: fitting.FitOptions = {
        **options, 'progress': _progress.name_part(
            options.get('progress', True), f'edge {k + 1} of {len(edges)}')}
    view = traversal.view_layer(model, variables, x, path)
    ranked = matching.rank(
        *traversal.edge_samples(view, [edge]), library=library, weight=weight,
        floor=floor)[0]
    trials = []
    for candidate in ranked[:candidates]:
      new, fixed = edits.assign(
          model, variables, path,
          {edge: (candidate.function, candidate.params)})
      fitted = fitting.fit(
          *_switchable.open_edges(new, fixed, library), x, y,
          **trial_options)
      loss = fitted.history['validation_loss'][-1]
      trials.append((_rescore(candidate, float(loss / worst), weight, floor),
                     new, _switchable.close_edges(new, fitted.variables)))
    best = None
    if trials:
      best, model, variables = min(trials, key=lambda trial: trial[0].score)
    report.append(matching.Choice(path, edge, best, best is not None))
  return model, dict(variables), report


def _live(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array) -> list[
        tuple[tuple[str, ...], tuple[int, int]]]:
  """Returns paths and edges of all splines that were not removed."""
  views = traversal.view_layers(model, variables, x)
  return [(path, edge) for path, view in views.items()
          for edge in traversal.spline_edges(view)]


def _rescore(
    candidate: matching.Candidate, residual: float, weight: float,
    floor: float) -> matching.Candidate:
  """Scores a candidate by the loss of the model instead of its own residual."""
  if not np.isfinite(residual):
    return candidate._replace(score=np.inf)
  own = matching.score(
      0, np.zeros(()), np.asarray(candidate.residual), weight=weight,
      floor=floor)
  new = matching.score(
      0, np.zeros(()), np.asarray(residual), weight=weight, floor=floor)
  return candidate._replace(score=float(candidate.score - own + new))
