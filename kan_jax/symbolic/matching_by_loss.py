"""Which function an edge is, judged by what the whole model then loses."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Unpack

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import functions as library_lib
from kan_jax.layers import traversal
from kan_jax.symbolic import _switchable
from kan_jax.symbolic import matching
from kan_jax.training import fitting as model_fitting
from kan_jax.training import optimizers
from kan_jax.training import train_steps

_FIT: model_fitting.FitOptions = {
    'steps': 20, 'log_every': 20, 'update_steps': (), 'progress': False}


def auto_symbolic_by_loss(
    model: nn.Module, variables: Mapping[str, Any], x: jax.Array,
    y: jax.Array, *, candidates: int = 3,
    library: Sequence[library_lib.Function] = library_lib.LIBRARY,
    weight: float = matching.WEIGHT, floor: float = matching.FLOOR,
    **fit_options: Unpack[model_fitting.FitOptions]) -> tuple[
        nn.Module, dict[str, Any], list[matching.Choice]]:
  """Gives every live spline the function with which the model does best.

  One edge after the other, layer by layer. Each candidate is fixed and all
  parameters are tuned for a few steps; the loss then takes the place of the
  residual in `matching.score`, over the loss of a constant: the mean of the
  outputs. The next edge sees the tuned model. One program serves all trials;
  `auto_symbolic` is still much faster and mostly as good.

  Args:
    model: A KAN or a KANLayer.
    variables: Its variables.
    x: Inputs, [n, in].
    y: Targets, as the `loss_fn` of `fit_options` takes them.
    candidates: How many to try for each edge, the best by `matching.score`.
    library: The functions to try.
    weight: See `matching.score`.
    floor: See `matching.score`.
    **fit_options: Options of `kan_jax.fit`, such as `optimizer` and `loss_fn`,
      whose losses are >= 0; 20 steps by default.

  Returns:
    A model and variables, and a report with an entry for each edge; `score` of
    its candidates is as said here, the rest as by `auto_symbolic`.
  """
  if candidates < 1:
    raise ValueError(f'`candidates` is a number >= 1; got {candidates!r}.')
  options: model_fitting.FitOptions = {
      **_FIT, 'validation': (x, y), **fit_options}
  loss_fn = options.get('loss_fn', optimizers.squared_error)
  outputs: Any = model.apply(variables, x)
  constant = jnp.broadcast_to(
      outputs.mean(0, keepdims=True), outputs.shape)
  worst = train_steps.row_losses(loss_fn, constant, y).mean()
  report = []
  for path, edge in _live(model, variables, x):
    view = traversal.view_layer(model, variables, x, path)
    ranked = matching.rank(
        *traversal.edge_samples(view, [edge]), library=library, weight=weight,
        floor=floor)[0]
    trials = []
    for candidate in ranked[:candidates]:
      new, fixed = edits.assign(
          model, variables, path,
          {edge: (candidate.function, candidate.params)})
      found = model_fitting.fit(
          *_switchable.open_edges(new, fixed, library), x, y, **options)
      loss = found.history['validation_loss'][-1]
      trials.append((_rescore(candidate, float(loss / worst), weight, floor),
                     new, _switchable.close_edges(new, found.variables)))
    best = None
    if trials:
      best, model, variables = min(trials, key=lambda trial: trial[0].score)
    report.append(matching.Choice(path, edge, best, best is not None))
  return model, dict(variables), report


def _live(model, variables, x):
  """Paths and edges of all live splines."""
  views = traversal.view_layers(model, variables, x)
  return [(path, edge) for path, view in views.items()
          for edge in traversal.spline_edges(view)]


def _rescore(
    candidate: matching.Candidate, residual: float, weight: float,
    floor: float) -> matching.Candidate:
  """Scores a candidate by the loss of the model instead of its own residual."""
  if not np.isfinite(residual):
    return candidate._replace(score=np.inf)
  own = matching.score(0, np.zeros(()), np.asarray(candidate.residual),
                     weight=weight, floor=floor)
  new = matching.score(
      0, np.zeros(()), np.asarray(residual), weight=weight, floor=floor)
  return candidate._replace(score=float(candidate.score - own + new))
