"""Models from elsewhere, against their formulas in numpy and scipy.

`test_importers_pykan` compares with pykan itself.
"""

from collections.abc import Sequence
from typing import Any

from absl.testing import parameterized
import chex
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
from scipy import interpolate
from scipy import special

from kan_jax.interop import importers
from kan_jax.layers import functions
from kan_jax.layers import linen

_X = np.random.default_rng(0).uniform(-2, 2, (64, 2))
_ARITY = [[], [2, 3], []]
_CUBE = functions.Function('cube', lambda x: x**3, lambda z: z**3)
# Functions by layer, output, input. '?' stands where no edge carries one.
_NAMES = [[['?'] * 2, ['?', '1/sqrt(x)']] + [['?'] * 2] * 5,
          [['?', _CUBE, '?', 'sin']]]


class Tensor:
  """As much of a torch tensor as is needed."""

  def __init__(self, array: np.ndarray):
    self._array = array

  def detach(self):
    return self

  cpu = detach

  def numpy(self) -> np.ndarray:
    return self._array


def _pykan(dtype: Any = np.float64) -> dict[str, np.ndarray]:
  """A [2, [2, 2], 1] with all that pykan has, grids of 4 and 6 intervals."""
  rng = np.random.default_rng(1)
  state = {}
  for k, (size, terms, count, grid) in enumerate([(2, 7, 4, 4), (4, 1, 1, 6)]):
    knots = np.sort(rng.uniform(-1, 1, (size, grid + 7)), 1)
    state |= {
        f'act_fun.{k}.grid': knots + 0.2 * np.arange(-3, grid + 4),
        f'act_fun.{k}.coef': rng.normal(size=(size, terms, grid + 3)),
        f'act_fun.{k}.mask': rng.choice([0, 0.5, 1, 1], (size, terms)),
        f'act_fun.{k}.scale_base': rng.normal(size=(size, terms)),
        f'act_fun.{k}.scale_sp': rng.normal(size=(size, terms)),
        f'symbolic_fun.{k}.mask': np.zeros((terms, size)),
        f'symbolic_fun.{k}.affine': rng.uniform(0.2, 1, (terms, size, 4))}
    for name, n in (('node', count), ('subnode', terms)):
      state[f'{name}_scale_{k}'] = rng.uniform(0.5, 2, n)
      state[f'{name}_bias_{k}'] = rng.normal(size=n)
  state['node_bias_0'][2:] = 0
  state['symbolic_fun.0.mask'][1, 1] = 1
  state['symbolic_fun.0.affine'][1, 1, 1] = 3  # The root's argument is > 0.
  state['symbolic_fun.1.mask'][0, [1, 3]] = 1, 0.5
  state['act_fun.1.mask'][1] = 1  # Carries a function and a spline.
  return {name: array.astype(dtype) for name, array in state.items()}


def _plain(
    sizes: Sequence[int] = (2, 3, 1),
    terms: Sequence[int] = (3, 1)) -> dict[str, np.ndarray]:
  """What pykan has of a network without functions; see `networks.kan`."""
  state = {}
  for k, (size, count) in enumerate(zip(sizes, terms, strict=False)):
    layer = networks.layer(size, count, seed=k)
    params, held = layer['params'], layer['grid']
    state |= {
        f'act_fun.{k}.grid': held['knots'], f'act_fun.{k}.mask': held['mask'],
        f'act_fun.{k}.coef': params['coef'].swapaxes(1, 2),
        f'act_fun.{k}.scale_base': params['scale_base'],
        f'act_fun.{k}.scale_sp': params['scale_spline'],
        f'symbolic_fun.{k}.mask': np.zeros((count, size)),
        f'symbolic_fun.{k}.affine': np.zeros((count, size, 4))}
    for name, n in (('node', sizes[k + 1]), ('subnode', count)):
      state[f'{name}_scale_{k}'] = np.ones(n)
      state[f'{name}_bias_{k}'] = np.zeros(n)
  return {name: np.array(array, np.float32) for name, array in state.items()}


def _edges(
    x: np.ndarray, knots: np.ndarray, coef: np.ndarray, base: np.ndarray,
    scale: np.ndarray) -> np.ndarray:
  """Values [n, in, out] for coefficients [in, out, count], by scipy."""
  order = knots.shape[1] - coef.shape[2] - 1
  element = interpolate.BSpline.basis_element
  columns = [
      [element(t[j:j + order + 2], extrapolate=False)(z)
       for j in range(coef.shape[2])] for t, z in zip(knots, x.T, strict=True)]
  # NaN is what scipy gives outside of a B-spline's support.
  splines = np.einsum('ijn,ioj->nio', np.nan_to_num(columns), coef)
  return base * (x * special.expit(x))[..., None] + scale * splines


def _layer_of_pykan(state, k, x):
  """The terms of one layer in pykan, before any node multiplies."""
  get = {name: np.float64(array) for name, array in state.items()}
  values = get[f'act_fun.{k}.mask'] * _edges(
      x, *(get[f'act_fun.{k}.{name}']
           for name in ('grid', 'coef', 'scale_base', 'scale_sp')))
  for o, i in np.argwhere(get[f'symbolic_fun.{k}.mask']):
    a, b, c, d = get[f'symbolic_fun.{k}.affine'][o, i]
    f = {'1/sqrt(x)': lambda z: z**-0.5, 'sin': np.sin}.get(
        _NAMES[k][o][i], lambda z: z**3)
    values[:, i, o] += get[f'symbolic_fun.{k}.mask'][o, i] * (
        c * f(a * x[:, i] + b) + d)
  return get[f'subnode_scale_{k}'] * values.sum(1) + get[f'subnode_bias_{k}']


def _evaluate_pykan(state, x):
  """What the network of `_pykan` computes, in float64."""
  t = _layer_of_pykan(state, 0, np.float64(x))
  products = [t[:, 2] * t[:, 3], t[:, 4] * t[:, 5] * t[:, 6]]
  x = np.stack([t[:, 0], t[:, 1], *products], 1)
  x = state['node_scale_0'] * x + state['node_bias_0']
  return (state['node_scale_1'] * _layer_of_pykan(state, 1, x)
          + state['node_bias_1'])


def _efficient(scaler: bool = True) -> dict[str, np.ndarray]:
  rng = np.random.default_rng(2)
  state = {}
  for k, (size, out) in enumerate([(2, 3), (3, 2)]):
    knots = 0.4 * np.arange(-2, 8) - 1 + rng.uniform(0, 0.1, (size, 10))
    state |= {f'layers.{k}.grid': knots,
              f'layers.{k}.base_weight': rng.normal(size=(out, size)),
              f'layers.{k}.spline_weight': rng.normal(size=(out, size, 7))}
    if scaler:
      state[f'layers.{k}.spline_scaler'] = rng.normal(size=(out, size))
  return state


def _evaluate_efficient(state, x):
  for k in range(2):
    get = {name: state.get(f'layers.{k}.{name}') for name in (
        'grid', 'base_weight', 'spline_weight', 'spline_scaler')}
    scaler = get['spline_scaler']
    scale = np.ones(get['base_weight'].shape) if scaler is None else scaler
    x = _edges(x, get['grid'], get['spline_weight'].swapaxes(0, 1),
               get['base_weight'].T, scale.T).sum(1)
  return x


def _assert_same(got, expected, tolerance):
  """Compares relative to the range of what is expected."""
  np.testing.assert_allclose(
      got, expected, rtol=0, atol=tolerance * np.ptp(expected))


class PykanTest(parameterized.TestCase):

  # A few roundings in float64; in float32, of splines and of the cube.
  @parameterized.parameters((np.float64, 1e-13), (np.float32, 1e-6))
  def test_follows_its_formula(self, dtype, tolerance):
    state = _pykan(dtype)
    x = _X.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
      model, variables = importers.from_pykan(
          state, arity=_ARITY, symbolic=_NAMES)
      y = jax.jit(model.apply)(variables, x)
      chex.assert_trees_all_equal_shapes_and_dtypes(
          variables, jax.eval_shape(model.init, jax.random.key(0), x))
    self.assertEqual(y.dtype, dtype)
    self.assertEqual(model.features, (2, (2, 2), 1))
    self.assertEqual(
        model.symbolic, ((('1/sqrt', ((1, 1),)),),
                         ((_CUBE, ((1, 0),)), ('sin', ((3, 0),)))))
    _assert_same(y, _evaluate_pykan(state, x), tolerance)

  def test_plain(self):
    """Everything lands where it belongs, to the last bit."""
    expected = networks.kan([2, 3, 1])
    for make in (np.asarray, jnp.asarray, Tensor):
      state = {name: make(array) for name, array in _plain().items()}
      model, variables = importers.from_pykan(state, base_fn=nn.gelu)
      self.assertEqual(
          model, linen.KAN([2, 3, 1], grid=5, order=3, base_fn=nn.gelu))
      chex.assert_trees_all_equal(variables, expected)

  def test_types(self):
    wide = {name: a.astype(np.float64) for name, a in _plain().items()}
    model, variables = importers.from_pykan(wide)
    self.assertEqual(model.param_dtype, np.float32)
    narrow = {name: a.astype(jnp.bfloat16) for name, a in wide.items()}
    model, variables = importers.from_pykan(narrow)
    self.assertEqual(model.param_dtype, jnp.bfloat16)
    self.assertEqual(variables['grid']['layers_0']['knots'].dtype, np.float32)

  @parameterized.parameters(
      (1, 4, None, (0, 1), 4), (3, 4, None, (2, 1), 2), (2, 4, 2, (0, 2), 2),
      (3, 7, 3, (1, 2), 3), (2, 5, [[], [3, 2], []], (0, 2), None))
  def test_infers_products(self, size, terms, arity, expected, common):
    model, _ = importers.from_pykan(
        _plain((2, size, 1), (terms, 1)), arity=arity)
    self.assertEqual(model.features, (2, expected, 1))
    self.assertEqual(model.arity, common or ((), (3, 2), ()))

  @parameterized.parameters(
      (None, 'needed: layer 0 has 4 nodes'), (3, 'not fit layer 0.*got 3'),
      (7, 'not fit'), (0, 'not fit'), ('x', 'not fit'), (1.5, 'not fit'),
      ([[], [2, 2], []], 'not fit'), ([[], [2]], 'not fit'))
  def test_arity_that_does_not_fit(self, arity, message):
    with self.assertRaisesRegex(ValueError, f'`arity`.*{message}'):
      importers.from_pykan(_plain((2, 4, 1), (7, 1)), arity=arity)

  @parameterized.parameters(
      (None, 'needed: 1 edges of layer 0'), ([[['sin'] * 2] * 3], '2 layers'),
      ([[['sin']] * 3, []], r'\[0\]` has no name for output 2 and input 1'),
      ([[['anonymous'] * 2] * 3, []], r'\[0\]\[2\]\[1\]`.*anonymous'))
  def test_names_that_do_not_fit(self, names, message):
    state = _plain()
    state['symbolic_fun.0.mask'][2, 1] = 1
    with self.assertRaisesRegex(ValueError, f'`symbolic.*{message}'):
      importers.from_pykan(state, symbolic=names)

  @parameterized.parameters(
      ('act_fun.1.mask', None, r"'act_fun.1.mask' .*\[3, 1\]; got no such"),
      ('node_scale_0', None, "'node_scale_0' .*; got no such name"),
      ('act_fun.0.coef', np.ones((2, 3)), 'of a pykan before 0.2'),
      ('biases.0.weight', np.ones((1, 3)), 'of a pykan before 0.2'),
      ('act_fun.1.coef', np.ones((2, 1, 8)),
       r'\[3, out, grid \+ order\]; got \[2, 1, 8\]'),
      ('act_fun.0.grid', np.ones((2, 9)), "9 knots .*'act_fun.0.grid'.* 8 co"),
      ('act_fun.0.grid', np.ones((2, 12)), "increase; in 'act_fun.0.grid'"),
      ('symbolic_fun.1.affine', np.ones((3, 1, 4)), r'\[1, 3, 4\]; got'),
      ('base_fun.weight', np.ones(1), 'no model .* has: base_fun.weight'),
      ('act_fun.999999999999.coef', np.ones((1, 1, 8)),
       '3 layers from 0 to 2; got a layer 999999999999'),
      ('act_fun.' + '9' * 5000 + '.coef', np.ones((1, 1, 8)), 'got a layer 9'),
      ('act_fun.3.coef', np.ones((1, 1, 8)), 'got a layer 3'),
      ('act_fun.01.coef', np.ones((1, 1, 8)), 'got a layer 01'),
      ('act_fun.1.coef', np.full((3, 1, 8), np.nan),
       "finite numbers; 'act_fun.1.coef' has NaN"),
      ('act_fun.0.grid', np.tile([*range(11), np.inf], (2, 1)),
       "finite numbers; 'act_fun.0.grid'"),
      ('act_fun.0.grid', np.tile([*range(11), 1e300], (2, 1)),
       'too large for float32: knots'),
      ('act_fun.0.scale_sp', np.full((2, 3), -1e39),
       'too large for float32: scale_spline'),
      ('act_fun.0.mask', np.ones((2, 3), int), "'act_fun.0.mask' is int64"),
      ('act_fun.0.mask', [[1.0], [1.0, 2.0]], "'act_fun.0.mask' is list"))
  def test_other_layouts(self, name, array, message):
    state = _plain() | {name: array}
    if array is None:
      del state[name]
    with self.assertRaisesRegex(ValueError, f'`state_dict`.*{message}'):
      importers.from_pykan(state)

  def test_products_that_overflow(self):
    """Each is finite, but the scale of a node goes into those of its edges."""
    state = _plain()
    state['node_scale_0'] = np.full(3, 1e30, np.float32)
    state['act_fun.0.scale_base'] = np.full((2, 3), 1e30, np.float32)
    with self.assertRaisesRegex(ValueError, 'float32: scale_base of a layer'):
      importers.from_pykan(state)

  def test_bias_after_a_product(self):
    state = _pykan() | {'node_bias_0': np.array([0, 0, 0, 0.5])}
    with self.assertRaisesRegex(ValueError, "'node_bias_0'.*0.5"):
      importers.from_pykan(state, arity=_ARITY, symbolic=_NAMES)

  def test_orders_that_differ(self):
    state = _plain()
    state['act_fun.1.grid'] = np.tile(np.arange(11.0), (3, 1))
    with self.assertRaisesRegex(ValueError, 'orders 3, 2'):
      importers.from_pykan(state)

  @parameterized.parameters(
      ('model.pt', 'got a str'), ({}, 'act_fun.0.coef'),
      ({'fc1.weight': np.ones((2, 2))}, 'fc1.weight'))
  def test_no_kan(self, state, message):
    for read in (importers.from_pykan, importers.from_efficient_kan):
      with self.assertRaisesRegex(
          ValueError, message.replace('act_fun.0.coef', r'\.0\.')):
        read(state)


class EfficientKANTest(parameterized.TestCase):

  @parameterized.parameters((True, np.float64), (False, np.float32))
  def test_follows_its_formula(self, scaler, dtype):
    state = {name: a.astype(dtype) for name, a in _efficient(scaler).items()}
    x = _X.astype(dtype)
    with jax.enable_x64(dtype == np.float64):
      model, variables = importers.from_efficient_kan(state)
      y = jax.jit(model.apply)(variables, x)
      chex.assert_trees_all_equal_shapes_and_dtypes(
          variables, jax.eval_shape(model.init, jax.random.key(0), x))
    self.assertEqual(
        model, linen.KAN([2, 3, 2], grid=5, order=2, bias=False,
                          param_dtype=dtype))
    _assert_same(
        y, _evaluate_efficient(state, np.float64(x)),
        1e-13 if dtype == np.float64 else 1e-6)

  @parameterized.parameters(
      ('layers.1.base_weight', None, 'layers.1.base_weight'),
      ('layers.0.grid', np.ones(10), r'\[2, grid .*got \[10\]'),
      ('layers.0.bias', np.ones(3), 'has: layers.0.bias'),
      ('layers.999999999999.grid', np.ones((1, 10)), 'a layer 999999999999'),
      ('layers.1.base_weight', np.full((2, 3), np.inf), 'finite numbers'),
      ('layers.1.base_weight', np.full((2, 3), 1e39), 'too large for float32'))
  def test_other_layouts(self, name, array, message):
    state = _efficient() | {name: array}
    if array is None:
      del state[name]
    with self.assertRaisesRegex(ValueError, f'`state_dict`.*{message}'):
      importers.from_efficient_kan(state)
