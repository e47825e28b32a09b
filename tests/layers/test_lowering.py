"""Programs as they are lowered for CUDA and TPU: what no CPU would show.

Nothing is compiled and nothing runs. The models are of float32 while JAX has 64
bits, so that an array of float64 in between is seen.
"""

import functools
from unittest import mock

from helpers import lowering
from helpers import networks
import jax
import jax.numpy as jnp
import optax
import pytest

from kan_jax.layers import convolution
from kan_jax.layers import functions
from kan_jax.layers import inference
from kan_jax.layers import linen
from kan_jax.layers import regularization
from kan_jax.layers import traversal
from kan_jax.splines import _backends
from kan_jax.splines import grids
from kan_jax.symbolic import _affine_steps
from kan_jax.symbolic import affine_fit
from kan_jax.training import levenberg_marquardt
from kan_jax.training import train_steps

_ROWS = 37  # No other size and no number of rounds is this.
_X = jax.ShapeDtypeStruct((_ROWS, 3), jnp.float32)
_Y = jax.ShapeDtypeStruct((_ROWS, 2), jnp.float32)
_KAN = linen.KAN([3, [2, 1], 2], grid=3, order=2, outside='linear')
_LAYER = linen.KANLayer(2, grid=3)
_CARRYING = _LAYER.clone(symbolic=(('sin', ((0, 1),)), ('x^2', ((2, 1),))))

# The factors of symmetric matrices; whatever else is called, the host may be.
_CALLS = {'cuda': {'cusolver_potrf_ffi'}, 'tpu': set()}


def _variables(model):
  return jax.eval_shape(model.init, jax.random.key(0), _X)


def _step(model, tx, lamb=0.0, penalty=None):
  objective = train_steps.make_objective(
      model, lambda y, targets: jnp.square(y - targets).mean(-1), penalty, lamb)
  state = jax.eval_shape(
      functools.partial(train_steps.create_state, model, tx),
      jax.random.key(0), _X)
  return train_steps.make_train_step(objective, tx), state, (_X, _Y)


def _lm_step(model):
  """A step with as many equations as the model has parameters, or rows."""
  _, state, batch = _step(model, optax.identity())
  return levenberg_marquardt.make_step(
      levenberg_marquardt.model_residuals(model)), state.replace(
          opt_state=jax.ShapeDtypeStruct((), jnp.float32)), batch


def _gradient(model):
  def total(variables, x):
    return jnp.sin(model.apply(variables, x)).sum()

  return jax.grad(total, (0, 1)), _variables(model), _X


def _second_derivative():
  gradient, *args = _gradient(_LAYER)
  return lambda *args: jax.jvp(gradient, args, args), *args


def _edge_values():
  """What scores, pictures and fits of functions are made of."""
  return lambda variables, x: [
      view.edge_outputs(view.inputs) for view in traversal.view_layers(
          _KAN, variables, x).values()], _variables(_KAN), _X


def _update():
  grid_update = grids.GridUpdate(eps=0.5, rate=0.5)
  return functools.partial(
      traversal.update_grids, _KAN, grid_update=grid_update), _variables(
          _KAN), _X


def _frozen():
  frozen = inference.freeze(_LAYER, networks.layer(3, 2, grid=3))
  return frozen._program, frozen.arrays, _X


def _float64(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float64)


_PROGRAMS = {
    'forward': lambda: (_KAN.apply, _variables(_KAN), _X),
    'bfloat16': lambda: _gradient(_LAYER.clone(dtype=jnp.bfloat16)),
    'convolution': lambda: _gradient(convolution.KANConv(2, 2, grid=3)),
    'second derivative': _second_derivative,
    'looked up': lambda: _gradient(_LAYER.clone(grid=2**11)),
    'edges that carry functions': lambda: _gradient(_CARRYING),
    'step with the penalty': lambda: _step(
        _LAYER, optax.adam(1e-3), 0.1, regularization.Penalty(coefdiff=1.0)),
    'step with pykan\'s penalty': lambda: _step(
        _LAYER, optax.adam(1e-3), 0.1, regularization.Penalty(metric='std')),
    'L-BFGS': lambda: _step(_LAYER, optax.lbfgs()),
    'Levenberg-Marquardt': lambda: _lm_step(_LAYER),
    'Levenberg-Marquardt, few rows': lambda: _lm_step(_LAYER.clone(grid=9)),
    'grid update': _update,
    'refinement': lambda: (
        lambda knots, coef: grids.refine_grid(knots, coef, 3, 10),
        jax.ShapeDtypeStruct((3, 10), jnp.float32),
        jax.ShapeDtypeStruct((3, 6, 2), jnp.float32)),
    'first variables': lambda: (_LAYER.init, jax.random.key(0), _X),
    'edge values': _edge_values,
    'frozen': _frozen,
    'fit of a function': lambda: (
        _affine_steps.linearize, _float64(2, 5, 2), _float64(2, 5, _ROWS),
        _float64(2, 5, _ROWS), _float64(2, _ROWS), _float64(2, _ROWS)),
    'starts of a fit': lambda: (
        affine_fit._starts, _float64(1, len(affine_fit._GRID), _ROWS),
        _float64(1, _ROWS), _float64(1))}

# These add to places in no order: the gradient of what is looked up, of
# thousands of B-splines; the sums of such edges; the memory of optax.
_SCATTERING = ('looked up', 'edges that carry functions', 'L-BFGS')

# Of these, float64 is wanted; the line search of optax takes it with 64 bits.
_IN_FLOAT64 = ('L-BFGS', 'fit of a function', 'starts of a fit')


@pytest.fixture(autouse=True)
def as_on_an_accelerator():
  """Lets programs be traced as they would be there."""
  with jax.enable_x64(True), mock.patch.object(
      _backends, 'choices', lambda: _backends._ACCELERATOR):
    yield


@pytest.mark.parametrize('name', _PROGRAMS)
def test_program(name):
  for platform, text in lowering.lower(*_PROGRAMS[name]()).items():
    assert lowering.products(text).keys() <= {'HIGHEST'}
    assert lowering.calls(text) <= _CALLS[platform]
    assert _ROWS not in lowering.rounds(text)
    assert bool(lowering.unsuited(text)) == (name in _SCATTERING)
    if name not in _IN_FLOAT64:
      assert not lowering.arrays(text, 'f64')
    if name == 'bfloat16':
      assert lowering.arrays(text, 'bf16')


def test_policy_reaches_every_product():
  """Of a step with the penalty; so the test above would find one without."""
  texts = lowering.lower(*_step(
      _LAYER.clone(precision='default'), optax.adam(1e-3), 0.1,
      regularization.Penalty()))
  for text in texts.values():
    assert lowering.products(text).keys() == {'DEFAULT'}


def test_the_search_sees_what_it_looks_for():
  def fn(x):
    x = jax.lax.map(jnp.sin, jnp.sort(x, 0))
    return (jnp.zeros(3).at[x.astype(int)].add(1.0), x @ x.T,
            jnp.linalg.qr(x))

  texts = lowering.lower(fn, _X)
  for text in texts.values():
    assert lowering.products(text)['DEFAULT'] >= 1
    assert _ROWS in lowering.rounds(text)
    assert len(lowering.unsuited(text)) == 2
    assert lowering.arrays(text, 'f64')
  assert lowering.calls(texts['cuda'])


def test_functions_need_nothing_but_the_device():
  texts = lowering.lower(
      lambda x: [function.fn(x) for function in functions.LIBRARY],
      jax.ShapeDtypeStruct((_ROWS,), jnp.float32))
  for text in texts.values():
    assert not lowering.calls(text)
    assert not lowering.arrays(text, 'f64')
