"""Which parts of a network go: by threshold, by fraction or by name."""

from collections.abc import Sequence
import math
import operator
from typing import Any
from typing import NamedTuple

import numpy as np

from kan_jax.layers import structure


class Rule(NamedTuple):
  """What the user says; exactly one of the last three is not None.

  Attributes:
    name: Name that the caller has for the last of them.
    threshold: Least score of what stays.
    fraction: Part that goes, 0 to 1, rounded down: the lowest scores.
    named: Tuples of layer and indices that go.
  """
  name: str
  threshold: float | None
  fraction: float | None
  named: Sequence[Any] | None

  def check(self) -> None:
    """Raises a ValueError that names what is wrong."""
    given = [value for value in self[1:] if value is not None]
    if len(given) != 1:
      raise ValueError(
          f'`threshold`, `fraction` or `{self.name}` says what goes: give one '
          f'of them; got {len(given)}.')
    if self.threshold is not None and math.isnan(self.threshold):
      raise ValueError('`threshold` is a number; got NaN.')
    if self.fraction is not None and not 0 <= self.fraction <= 1:
      raise ValueError(f'`fraction` lies in 0 to 1; got {self.fraction!r}.')


def choose(
    rule: Rule, scores: Sequence[np.ndarray],
    candidates: Sequence[np.ndarray], *,
    spare_best: bool = False) -> list[np.ndarray]:
  """Returns what goes, in bool arrays like `candidates`.

  Args:
    rule: The rule.
    scores: Scores of every layer.
    candidates: Bool arrays of the same shapes: what may go.
    spare_best: Whether something of each layer has to stay; where the rule does
      not name what goes, it is the candidate with the highest score.

  Raises:
    ValueError: If the rule names what is no candidate, or all of a layer that
      must keep one.
  """
  if rule.named is not None:
    gone = _named(rule, candidates)
    for k, (layer, free) in enumerate(zip(gone, candidates, strict=True)):
      if spare_best and layer.any() and (layer == free).all():
        raise ValueError(
            f'`{rule.name}` leaves none of layer {k}; one has to stay.')
    return gone
  values = np.concatenate([layer.ravel() for layer in scores])
  may_go = np.concatenate([
      (_but_best(layer, free) if spare_best else free).ravel()
      for layer, free in zip(scores, candidates, strict=True)])
  if rule.threshold is not None:
    flat = may_go & (values < rule.threshold)
  else:
    total = sum(int(layer.sum()) for layer in candidates)
    # A little more: 0.29 * 100 is less than 29 in floats.
    count = math.floor(rule.fraction * total + 1e-9)  # type: ignore[operator]
    order = np.argsort(np.where(may_go, values, np.inf), kind='stable')
    flat = np.zeros_like(may_go)
    flat[order[:min(count, int(may_go.sum()))]] = True
  ends = np.cumsum([layer.size for layer in scores])[:-1]
  return [part.reshape(layer.shape) for part, layer in zip(
      np.split(flat, ends), scores, strict=True)]


def names(chosen: Sequence[np.ndarray]) -> tuple[Any, ...]:
  """Returns layer and indices of all that is chosen, as tuples in order."""
  return tuple((k, *index) for k, layer in enumerate(chosen)
               for index in np.argwhere(layer).tolist())


def alive(
    net: structure.Structure, kept: Sequence[np.ndarray],
    scores: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Keeps the nodes on a path of live edges from inputs to outputs.

  Args:
    net: The structure of the network.
    kept: For the inputs and every layer, which nodes there are, [size], bool.
    scores: Scores of the nodes, [size]: where no path leads through a
      hidden layer, its best node is kept.

  Returns:
    Bool arrays like `kept`; inputs and outputs as they are there.
  """
  live, left = net.live_edges, list(kept)
  hidden = range(1, len(live))
  for k in hidden:
    fed = live[k - 1][left[k - 1]].any(0)
    left[k] = left[k] & [fed[group].any() for group in net.nodes[k].groups]
  for k in reversed(hidden):
    left[k] = left[k] & live[k][:, net.kept_terms(k, left)].any(1)
  return [kept[0]] + [
      left[k] if left[k].any() else _best(scores[k], kept[k])
      for k in hidden] + [kept[-1]]


def _named(
    rule: Rule, candidates: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Returns what the rule names."""
  there = set(names(candidates))
  gone = [np.zeros_like(layer) for layer in candidates]
  for name in rule.named or ():
    try:
      key = tuple(map(operator.index, name))
    except TypeError:
      key = ()
    if key not in there:
      shapes = [layer.shape for layer in candidates]
      raise ValueError(
          f'`{rule.name}` has {name!r}, which is none that can go. Names are '
          'tuples of layer and indices, which count from 0; the layers have '
          f'the shapes {shapes}.')
    gone[key[0]][key[1:]] = True
  return gone


def _best(scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
  """Returns the candidate with the highest score: [size] -> [size], bool."""
  best = np.zeros_like(candidates)
  if candidates.any():
    best[np.where(candidates, scores, -np.inf).argmax()] = True
  return best


def _but_best(scores: np.ndarray, candidates: np.ndarray) -> np.ndarray:
  return candidates & ~_best(scores, candidates)
