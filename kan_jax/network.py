"""A network as one value: its model, its variables and the rows it saw.

Thin: every method calls the function of the same name and returns a new
network. Numbers are float64, whatever JAX's default is, since formulas need
that; the caller's setting is not touched.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import Concatenate
from typing import ParamSpec
from typing import TYPE_CHECKING
from typing import TypeVar
from typing import Unpack

import jax
import jax.numpy as jnp
import numpy as np

from kan_jax.layers import edge_moments
from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import linen
from kan_jax.layers import structure
from kan_jax.pruning import prune
from kan_jax.pruning import scores
from kan_jax.symbolic import fixing
from kan_jax.symbolic import matching
from kan_jax.training import fitting
from kan_jax.training import multistart
from kan_jax.training import optimizers

if TYPE_CHECKING:
  from matplotlib import figure

_P = ParamSpec('_P')
_R = TypeVar('_R')

# The steps of Levenberg and Marquardt solve a system with as many unknowns as
# there are parameters; larger networks take L-BFGS.
_MOST_PARAMETERS = 1000
# A formula leaves out what changes no row by more than this part of the
# targets' deviation, or of the network's own error.
_ROUNDING, _ERROR = 1e-10, 0.01
_ROWS = 1000  # Rows that pictures and formulas look at, at most.


def _in_float64(
    method: Callable[Concatenate['Network', _P], _R]) -> Callable[
        Concatenate['Network', _P], _R]:
  """Makes a method compute in float64."""
  @functools.wraps(method)
  def wrapped(self: 'Network', /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
    with jax.enable_x64(True):
      return method(self, *args, **kwargs)

  return wrapped


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Network:
  """A KAN with its variables and the rows it was fitted to; never changes.

      kan = kan_jax.Network(kan_jax.KAN([2, 5, 1])).fit(x, y)
      kan = kan.prune().auto_symbolic().fit()
      print(kan.formula())

  To undo a step, go on with the network before it. `model` and `variables` go
  into any other function of the library.

  Attributes:
    model: The KAN. Its parameters become float64.
    variables: Its variables; None until the first `fit`.
    x: Inputs of the last `fit`, [n, in].
    y: Targets of the last `fit`, [n] or [n, out], or as its `loss_fn` takes
      them.
    history: What the last `fit` went through; see `training.Fitted`.
    report: What the last `prune` removed.
    choices: What the last `auto_symbolic` did, an entry for each edge.
    seed: Number behind all random numbers: first parameters and shuffles.
  """
  model: linen.KAN
  variables: dict[str, Any] | None = None
  _: dataclasses.KW_ONLY
  x: np.ndarray | None = None
  y: np.ndarray | None = None
  history: dict[str, np.ndarray] | None = None
  report: prune.Report | None = None
  choices: Sequence[matching.Choice] = ()
  seed: int = 0

  def __post_init__(self) -> None:
    if not isinstance(self.model, linen.KAN):
      raise ValueError(
          '`model` needs to be a KAN, like kan_jax.KAN([2, 5, 1]); got '
          f'{self.model!r}.')
    object.__setattr__(
        self, 'model', self.model.clone(param_dtype=jnp.float64))
    if self.variables is not None:
      with jax.enable_x64(True):
        variables = jax.tree.map(
            lambda leaf: jnp.asarray(leaf, jnp.float64), self.variables)
      object.__setattr__(self, 'variables', variables)

  def __repr__(self) -> str:
    text = f'Network {list(self.model.features)}'
    if self.variables is None:
      return f'{text}, not fitted'
    net = structure.read(self.model, self.variables)
    carrying = sum(len(edges) for layer in net.symbolic for _, edges in layer)
    text += f', {net.edge_count} edges'
    text += f', {carrying} of them functions' if carrying else ''
    if self.history is None:
      return text
    return f'{text}; loss {self.history["loss"][-1]:.3g}'

  @_in_float64
  def fit(
      self, x: jax.typing.ArrayLike | None = None,
      y: jax.typing.ArrayLike | None = None, *, starts: int = 1,
      **options: Unpack[fitting.FitOptions]) -> 'Network':
    """Fits the parameters; see `training.fit` for the options.

    Args:
      x: Inputs, [n, in]; by default the rows seen before.
      y: Targets, [n] or [n, out]; with a `loss_fn`, as that takes them.
      starts: Random starts of a network without variables; the best one goes
        on, see `training.fit_best`.
      **options: Options of `training.fit`. By default small networks without
        penalty take Levenberg-Marquardt steps, others L-BFGS, and the grids of
        a network without splines stay.

    Raises:
      ValueError: If there are no rows, or an option is not what it says.
    """
    x = self.x if x is None else np.asarray(x, np.float64)
    y = self.y if y is None else np.asarray(y)
    if x is None or y is None:
      raise ValueError(
          '`x` and `y` are needed: the network saw no rows so far.')
    targets = y
    if 'loss_fn' not in options:
      targets = y.reshape(len(y), -1).astype(np.float64)
    options = {**self._defaults(x, options), **options}
    if self.variables is None:
      fitted = multistart.fit_best(
          self.model, x, targets, key=jax.random.key(self.seed), starts=starts,
          **options)
    else:
      fitted = fitting.fit(
          self.model, self.variables, x, targets,
          key=jax.random.key(self.seed), **options)
    return self._with(
        fitted.model, fitted.variables, x=x, y=y, history=fitted.history)

  @_in_float64
  def predict(self, x: jax.typing.ArrayLike) -> np.ndarray:
    """Returns outputs for inputs [n, in], in the shape of the targets."""
    outputs = np.asarray(self.model.apply(
        self._known(), np.asarray(x, np.float64)))
    return outputs[..., 0] if self._is_flat() else outputs

  def _defaults(
      self, x: np.ndarray,
      options: fitting.FitOptions) -> fitting.FitOptions:
    """Returns options of `training.fit` that suit this network."""
    defaults: fitting.FitOptions = {}
    variables = self.variables or jax.eval_shape(
        self.model.init, jax.random.key(0), x)
    size = sum(leaf.size for leaf in jax.tree.leaves(variables['params']))
    plain = not options.get('lamb') and 'loss_fn' not in options and (
        'batch_size' not in options)
    if plain and size <= _MOST_PARAMETERS:
      defaults['optimizer'] = optimizers.LevenbergMarquardt()
    if self.variables is not None and not self._has_splines():
      defaults['update_steps'] = ()
    return defaults

  def _with(
      self, model: Any, variables: dict[str, Any],
      **changes: Any) -> 'Network':
    return dataclasses.replace(
        self, model=model, variables=variables, **changes)

  def _has_splines(self) -> bool:
    """Whether any edge that is live carries no function."""
    masks = [layer['mask'] for layer in self._known()['grid'].values()]
    return any(bool(np.any(mask)) for mask in masks)

  def _known(self) -> dict[str, Any]:
    """Returns the variables; raises a ValueError if there are none."""
    if self.variables is None:
      raise ValueError('the network has no variables so far; call `fit` first.')
    return self.variables

  def _is_flat(self) -> bool:
    """Whether targets are [n], and there is one output."""
    return (self.y is not None and self.y.ndim == 1
            and self.model.nodes[-1].size == 1)

  def _rows(self) -> jax.Array:
    """Returns some of the rows that the network saw."""
    if self.x is None:
      raise ValueError('the network saw no rows so far; call `fit` first.')
    return jnp.asarray(self.x[::-(-len(self.x) // _ROWS)])

  @_in_float64
  def prune(self, *, edges: float = 0.03, nodes: float = 0.01) -> 'Network':
    """Removes edges and hidden nodes that matter little; inputs stay.

    Args:
      edges: Threshold of the edges' scores, shares of 1 / outputs; see
        `pruning.attribution`.
      nodes: Threshold of the nodes' scores.
    """
    x = self._rows()
    model, variables, first = prune.prune_edges(
        self.model, self._known(), x, threshold=edges)
    model, variables, report = prune.prune_nodes(
        model, variables, x, threshold=nodes)
    report = report._replace(  # Of both steps together.
        edges_before=first.edges_before, removed_edges=first.removed_edges)
    return self._with(model, variables, report=report)

  @_in_float64
  def refine(self, grid: int) -> 'Network':
    """Splits the grids into `grid` intervals; the functions stay."""
    model, variables = edits.refine(self.model, self._known(), grid)
    return self._with(model, variables)

  @_in_float64
  def attribution(self) -> edge_moments.Scores:
    """Returns what edges and nodes contribute; see `pruning.attribution`."""
    return scores.attribution(self.model, self._known(), self._rows())

  @_in_float64
  def suggest(self, layer: int, i: int, o: int) -> list[matching.Candidate]:
    """Returns what functions an edge may be; see `symbolic.suggest`."""
    return matching.suggest(
        self.model, self._known(), self._rows(), layer, i, o)

  @_in_float64
  def fix(
      self, layer: int, i: int, o: int,
      name: str | functions.Function) -> 'Network':
    """Lets an edge carry a function; see `symbolic.fix`."""
    model, variables = fixing.fix(
        self.model, self._known(), self._rows(), layer, i, o, name)
    return self._with(model, variables)

  @_in_float64
  def unfix(self, layer: int, i: int, o: int) -> 'Network':
    """Gives an edge its spline back; see `symbolic.unfix`."""
    model, variables = fixing.unfix(
        self.model, self._known(), layer, i, o)
    return self._with(model, variables)

  @_in_float64
  def auto_symbolic(
      self, *, library: Sequence[functions.Function] = functions.LIBRARY,
      min_r2: float = 0.0) -> 'Network':
    """Gives each spline its best function; see `symbolic.auto_symbolic`."""
    model, variables, choices = matching.auto_symbolic(
        self.model, self._known(), self._rows(), library=library,
        min_r2=min_r2)
    return self._with(model, variables, choices=tuple(choices))

  @_in_float64
  def formula(
      self, *, names: Sequence[str] | None = None,
      digits: int | None = None) -> Any:
    """Returns what the network computes, simplified, as sympy expressions.

    Numbers are dropped, or become simpler, where that changes no row by more
    than rounding or a hundredth of the network's own error.

    Args:
      names: Names of the inputs; x_0, x_1, ... by default.
      digits: Significant digits of the numbers that are left.

    Returns:
      An expression for targets [n], a list of them for [n, out].

    Raises:
      ValueError: If an edge is still a spline; see `symbolic.formula`.
    """
    from kan_jax.symbolic import formulas  # Its sympy is optional.
    from kan_jax.symbolic import simplify
    x = np.asarray(self._rows())
    expressions = formulas.formula(
        self.model, self._known(), names=names, x=x)
    names = names or [f'x_{i}' for i in range(x.shape[1])]
    allowed = self._allowed()
    tidied = [simplify.tidy(e, names, x, allowed) for e in expressions]
    if digits is not None:
      tidied = [
          simplify.round_digits(e, digits, names, x) for e in tidied]
    return tidied[0] if self._is_flat() else tidied

  def _allowed(self) -> float:
    """How much a simpler formula may change the value of a row."""
    assert self.x is not None and self.y is not None
    outputs = self.predict(self.x)
    error = 0.0  # Targets of another shape, as labels, are no outputs.
    if outputs.shape == self.y.shape:
      error = float(np.sqrt(np.mean(np.square(outputs - self.y))))
    return max(_ERROR * error, _ROUNDING * float(np.std(outputs)))

  @_in_float64
  def plot(self, **options: Any) -> 'figure.Figure':
    """Returns a picture of the network; see `plotting.plot`."""
    from kan_jax.plotting import diagram  # Its matplotlib is optional.
    return diagram.plot(self.model, self._known(), self._rows(), **options)
