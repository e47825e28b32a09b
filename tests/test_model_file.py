"""Models in one file: back to the last bit, or one clear error."""

import dataclasses
import os
import subprocess
import sys

from absl.testing import parameterized
import chex
from flax import core
from flax import linen as nn
from helpers import networks
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import kan_jax
from kan_jax import model_file
from kan_jax.layers import _options
from kan_jax.layers import _plain
from kan_jax.layers import convolution
from kan_jax.layers import edits
from kan_jax.layers import functions
from kan_jax.layers import initial_values
from kan_jax.layers import linen
from kan_jax.layers import nnx
from kan_jax.layers import structure
from kan_jax.training import fitting

_X = np.random.default_rng(0).uniform(-1, 1, (8, 2)).astype(np.float32)
_PLAIN = linen.KAN([2, 3, 1])


def three_sines(x):
  return jnp.sin(3 * x)


_CUBE = functions.Function('cube', lambda x: x**3, lambda z: z**3)
_SIN = functions.Function('sin', jnp.sinh, lambda z: z)  # Not the library's.

_MODELS = {
    'defaults': _PLAIN,
    'products': linen.KAN([2, [1, 2], [2, 1], 1], arity=3),
    'arities': linen.KAN([2, [2, 2], 1], arity=[[], [2, 3], []]),
    'symbolic': linen.KAN([2, 3, 1], symbolic=(
        (('sin', ((0, 0), (1, 2))), ('1/x^2', ((1, 1),))),
        (('gaussian', ((2, 0),)),))),
    'bfloat16': linen.KAN(
        [2, 3, 1], dtype=jnp.bfloat16, param_dtype=jnp.bfloat16),
    'float16': linen.KAN([2, 1], param_dtype=jnp.float16),
    'options': linen.KAN(
        [2, 1], grid=7, order=1, grid_range=(0, 2.5), base_fn=nn.tanh,
        outside='linear', noise=0.3, scale_base_init=nn.initializers.zeros,
        scale_spline_init=nn.initializers.zeros, bias=False,
        dtype=jnp.float32, precision='high'),
    'initial values': linen.KAN(
        [2, 1], initial=initial_values.VarianceScaling(2, mode='fan_in')),
    'power law': linen.KANLayer(2, initial=initial_values.PowerLaw(1, 0.5)),
    'without base': linen.KAN([2, 1], base_fn=jnp.zeros_like),
    'chebyshev': linen.KAN([2, 1], basis='chebyshev', outside='clamp'),
    'layer': linen.KANLayer(3, order=0, grid=1, base_fn=nn.relu),
    'convolution': convolution.KANConv(
        4, (2, 3), (1, 2), padding=((0, 1), (2, 0)), kernel_dilation=2,
        feature_group_count=2, grid=3, order=1, base_fn=nn.relu,
        basis='radial'),
    'convolution of one axis': convolution.KANConv(2, 3, padding='circular'),
    'symbolic layer': linen.KANLayer(3, symbolic=(('x', ((1, 2),)),)),
}


_LOAD = '''
import sys
import jax
import numpy as np
import kan_jax

model, variables = kan_jax.load(sys.argv[1])
np.save(sys.argv[2], jax.jit(model.apply)(variables, np.load(sys.argv[2])))
print(kan_jax.formula(model, variables))
'''


class ModelFileTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.folder = tmp_path
    self.path = tmp_path / 'model.safetensors'

  def _files(self):
    return [file.name for file in self.folder.iterdir()]

  @parameterized.parameters(*_MODELS)
  def test_round_trip(self, name):
    model = _MODELS[name]
    variables = networks.random(model)
    kan_jax.save(self.path, model, variables)
    loaded, arrays = kan_jax.load(self.path)
    self.assertEqual(loaded, model)
    self.assertEqual(hash(loaded), hash(model))  # jit compiles nothing anew.
    chex.assert_trees_all_equal(arrays, variables, strict=True)
    self.assertEqual(self._files(), ['model.safetensors'])

  def test_every_option_is_kept(self):
    """A new field of the modules needs a place in the format."""
    for model in (
        _PLAIN, linen.KANLayer(2), convolution.KANConv(2, 3)):
      fields = {field.name for field in dataclasses.fields(model)}
      self.assertEqual(
          _options.describe(model).keys() - {'class'},
          fields - {'parent', 'name'})

  def test_a_file_of_before_there_were_these_options(self):
    options = _options.describe(_PLAIN)
    del options['precision'], options['initial'], options['basis']
    self.assertEqual(
        _options.rebuild(options, _options.OwnFunctions([])), _PLAIN)

  def test_in_a_new_process(self):
    """A pruned network whose edges carry functions, and its formula."""
    model, variables = _PLAIN, networks.kan([2, 3, 1])
    model, variables, _ = edits.cut(
        model, variables, structure.read(model, variables), [
            np.array(kept)
            for kept in ([True] * 2, [True, False, False], [True])])
    for k, names in enumerate((('sin', 'x^2'), ('exp',))):
      model, variables = edits.assign(model, variables, (f'layers_{k}',), {
          (i, 0): (name, np.array([2.0, 0.1, -0.5, 0.5]))
          for i, name in enumerate(names)})
    expected = jax.jit(model.apply)(variables, _X)
    kan_jax.save(self.path, model, variables)
    np.save(self.folder / 'x.npy', _X)
    ran = subprocess.run(
        [sys.executable, '-c', _LOAD, self.path, self.folder / 'x.npy'],
        env=os.environ | {'JAX_PLATFORMS': 'cpu'}, capture_output=True,
        text=True, check=False)
    self.assertEqual(ran.stderr, '')
    np.testing.assert_array_equal(np.load(self.folder / 'x.npy'), expected)
    self.assertEqual(
        ran.stdout, f'{kan_jax.formula(model, variables)}\n')
    self.assertRegex(ran.stdout, r'exp\(.*x_1.*\*\*2.*sin\(')

  def test_float64(self):
    with jax.enable_x64(True):
      model = linen.KAN([2, 3, 1], param_dtype=jnp.float64)
      variables = networks.random(model)
      kan_jax.save(self.path, model, variables)
      loaded, arrays = kan_jax.load(self.path)
      self.assertEqual(loaded, model)
      chex.assert_trees_all_equal(arrays, variables, strict=True)
    with self.assertRaisesRegex(
        model_file.ModelFileError, 'holds float64.*jax_enable_x64'):
      kan_jax.load(self.path)

  def test_variables_of_another_type_than_the_model_says(self):
    variables = jax.tree.map(
        lambda a: a.astype(jnp.bfloat16), networks.random(_PLAIN))
    kan_jax.save(self.path, _PLAIN, variables)
    chex.assert_trees_all_equal(
        kan_jax.load(self.path)[1], variables, strict=True)

  def test_what_is_not_finite_is_kept(self):
    variables = jax.tree.map(
        lambda a: a.at[0].set(jnp.nan).at[-1].set(-jnp.inf),
        networks.random(_PLAIN))
    kan_jax.save(self.path, _PLAIN, variables)
    chex.assert_trees_all_equal(kan_jax.load(self.path)[1], variables)

  def test_other_containers(self):
    variables = networks.random(_PLAIN)
    for k, given in enumerate((
        core.freeze(variables), {**variables, 'grid': core.freeze(
            variables['grid'])}, jax.tree.map(np.asarray, variables),
        jax.tree.map(lambda a: np.asarray(a, '>f4'), variables),
        jax.tree.map(lambda a: np.asarray(a, order='F'), variables))):
      kan_jax.save(self.folder / str(k), _PLAIN, given)
      loaded = kan_jax.load(str(self.folder / str(k)))[1]
      chex.assert_trees_all_equal(loaded, variables, strict=True)

  def test_a_model_that_was_changed(self):
    """Refined, pruned, with an edge that carries a function."""
    model, variables = _PLAIN, networks.kan([2, 3, 1])
    model, variables = kan_jax.refine(model, variables, 8)
    model, variables, _ = edits.cut(
        model, variables, structure.read(model, variables), [
            np.array(kept)
            for kept in ([True] * 2, [True, False, True], [True])])
    model, variables = edits.assign(model, variables, ('layers_0',), {
        (1, 1): ('sin', np.array([2.0, 0.1, -1.0, 0.5]))})
    kan_jax.save(self.path, model, variables)
    loaded, arrays = kan_jax.load(self.path)
    self.assertEqual(loaded, model)
    chex.assert_trees_all_equal(arrays, variables, strict=True)

  def test_nnx(self):
    model = nnx.from_linen(_PLAIN, networks.random(_PLAIN))
    kan_jax.save(self.path, model)
    loaded = nnx.from_linen(*kan_jax.load(self.path))
    self.assertEqual(loaded.options, _PLAIN)
    chex.assert_trees_all_equal(
        nnx.to_linen(loaded)[1], nnx.to_linen(model)[1], strict=True)

  def test_what_fit_returned(self):
    history = {'step': np.array([1, 2]), 'loss': np.array([0.1, 1 / 3]),
               'validation_loss': np.array([np.nan, np.inf])}
    for model in (_PLAIN, nnx.from_linen(_PLAIN, networks.random(_PLAIN))):
      fitted = fitting.Fitted(model, networks.random(_PLAIN), history, 'steps')
      kan_jax.save(self.path, fitted, overwrite=True)
      loaded = model_file.load_fitted(self.path)
      self.assertEqual(
          (loaded.model, loaded.reason), (_PLAIN, 'steps'))
      chex.assert_trees_all_equal(
          loaded[1:3], (fitted.variables, history), strict=True)
      self.assertEqual(kan_jax.load(self.path)[0], _PLAIN)
    kan_jax.save(self.path, _PLAIN, networks.random(_PLAIN), overwrite=True)
    with self.assertRaisesRegex(
        model_file.ModelFileError, 'a model alone.*use `load`'):
      model_file.load_fitted(self.path)

  def test_further_values(self):
    for value in (
        None, True, 3, -1.5, 'text', [[1, (2.0, None)], {'a': [()]}],
        np.array([1, 2], np.int8), np.float32(1 / 3), np.array([True]),
        np.array([['a', 'bc']]), np.array(['a', 'bc'], object),
        np.array([0.1, np.nan], np.float32), np.zeros((0, 2))):
      same = _plain.parse(_plain.dump({'value': value}))['value']
      np.testing.assert_equal(same, value)
      if isinstance(value, np.ndarray):
        self.assertEqual((same.dtype, same.shape), (value.dtype, value.shape))
      elif not isinstance(value, np.generic):
        self.assertIs(type(same), type(value))

  def test_values_that_no_file_holds(self):
    for value in (
        jnp.ones(2), len, np.array([1j]), np.array([None]), {1: 2}, b'1'):
      with self.assertRaisesRegex(ValueError, '^a file holds numbers'):
        _plain.dump({'value': [value]})

  def test_further_values_that_are_damaged(self):
    for text in (
        '', '[' * 10**5, '{"code": 1}', '{"array": [1], "dtype": "V9"}',
        '{"array": [{}], "dtype": "O"}', '[1]', '{}', '{"dict": 3}',
        '{"array": [[1], [1, 2]], "dtype": "f4"}',
        '{"array": [1], "dtype": "f4", "shape": [2]}',
        '{"array": ["x"], "dtype": "f8"}', '{"array": [1], "dtype": "M8[s]"}'):
      with self.assertRaisesRegex(ValueError, 'further values are damaged'):
        _plain.parse(text)

  def test_initializers_that_have_no_name(self):
    model = linen.KAN(
        [2, 3, 1], scale_base_init=nn.initializers.normal(0.1),
        scale_spline_init=nn.initializers.constant(2.0))
    kan_jax.save(self.path, model, networks.random(model))
    self.assertEqual(kan_jax.load(self.path)[0], linen.KAN([2, 3, 1]))

  def test_v03_own_functions(self):
    """pykan PR#395: a dump of a module, or a key error when it is loaded."""
    model = linen.KAN([2, 3, 1], base_fn=three_sines, symbolic=(
        ((_CUBE, ((0, 0),)), ('sin', ((1, 1),))), ((_SIN, ((2, 0),)),)))
    variables = networks.random(model)
    kan_jax.save(self.path, model, variables)
    loaded, arrays = kan_jax.load(self.path, [_CUBE, three_sines, _SIN])
    self.assertEqual(loaded, model)
    np.testing.assert_array_equal(
        jax.jit(loaded.apply)(arrays, _X), jax.jit(model.apply)(variables, _X))
    for given, message in (
        ((), "the symbolic function 'cube', .* has none of that kind"),
        ([_SIN, three_sines], "the symbolic function 'cube', .* has sin"),
        ([_CUBE, three_sines], "the symbolic function 'sin'"),
        ([_CUBE, _SIN], "the base function 'three_sines', .*`functions`"),
        ([_CUBE, _SIN, jnp.sin], "the base function 'three_sines'.* has sin")):
      with self.assertRaisesRegex(model_file.ModelFileError, message):
        kan_jax.load(self.path, given)

  @parameterized.parameters(
      (['cube'], "got 'cube'"), ([3], 'got 3'),
      ([_CUBE, _CUBE], "two of the name 'cube'"),
      ([three_sines, three_sines], "two of the name 'three_sines'"))
  def test_functions_that_are_none(self, given, message):
    kan_jax.save(self.path, _PLAIN, networks.random(_PLAIN))
    with self.assertRaisesRegex(ValueError, f'`functions`.*{message}'):
      kan_jax.load(self.path, given)

  @parameterized.parameters(
      (linen.KAN([2, 1], base_fn=lambda x: x), 'without a name.*def'),
      (linen.KAN([2, 1], base_fn=nn.Dense(1)), 'without a name'),
      (linen.KAN([2, 1], dtype=jnp.float8_e4m3fn), 'types .* float8_e4m3fn'),
      (nn.Sequential([linen.KAN([2, 1])]), 'or a KANConv; got a Seq'),
      (linen.KAN([2, 1], symbolic=(((_CUBE, ((0, 0),)), (
          dataclasses.replace(_CUBE, fn=jnp.sin), ((1, 0),))),)),
       "two functions with the name 'cube'"))
  def test_models_that_no_file_can_hold(self, model, message):
    with self.assertRaisesRegex(ValueError, f'`model` .*{message}'):
      kan_jax.save(self.path, model, {})
    self.assertEmpty(self._files())

  def test_variables_of_another_model(self):
    good = networks.random(_PLAIN)
    layer = good['params']['layers_0']
    for variables, message in (
        (networks.random(linen.KAN([2, 4, 1])),
         r'layers_0/mask is \[2, 4\], expected is \[2, 3\]'),
        ({'params': good['params']}, 'grid/layers_0/knots is missing'),
        (good | {'edges': good['grid']}, 'edges/.* expected is no such array'),
        (good | {'params': good['params'] | {'layers_0': layer | {
            'affine': jnp.ones((1, 4))}}}, 'affine is .* no such array'),
        (good | {'params': good['params'] | {'layers_0': layer | {
            'coef': jnp.ones(3, jnp.int32)}}}, 'layers_0/coef is int32'),
        (good | {'params': None}, 'params is object'), (None, 'NoneType')):
      with self.assertRaisesRegex(ValueError, f'`variables` .*{message}'):
        kan_jax.save(self.path, _PLAIN, variables)
    self.assertEmpty(self._files())

  def test_nothing_is_overwritten_unless_asked(self):
    first, second = networks.random(_PLAIN), networks.random(_PLAIN, seed=1)
    kan_jax.save(self.path, _PLAIN, first)
    with self.assertRaisesRegex(
        model_file.ModelFileError, 'is there already; `overwrite=True`'):
      kan_jax.save(self.path, _PLAIN, second)
    chex.assert_trees_all_equal(kan_jax.load(self.path)[1], first)
    link = self.folder / 'link'
    link.symlink_to(self.path)
    kan_jax.save(link, _PLAIN, second, overwrite=True)
    chex.assert_trees_all_equal(kan_jax.load(self.path)[1], second)
    self.assertTrue(link.is_symlink())
    self.assertCountEqual(self._files(), ['model.safetensors', 'link'])

  def test_a_file_has_the_usual_permissions(self):
    kan_jax.save(self.path, _PLAIN, networks.random(_PLAIN))
    (self.folder / 'usual').write_text('')
    self.assertEqual(
        self.path.stat().st_mode, (self.folder / 'usual').stat().st_mode)

  def test_places_where_no_file_can_be(self):
    (self.folder / 'file').write_text('mine')
    (self.folder / 'folder').mkdir()
    for path, overwrite, message in (
        ('none/model', False, 'No such file'), ('file/model', False, 'Not a d'),
        ('folder', False, 'is there already'), ('folder', True, 'directory'),
        ('x' * 300, False, 'name too long')):
      with self.assertRaisesRegex(model_file.ModelFileError, message):
        kan_jax.save(
            self.folder / path, _PLAIN, networks.random(_PLAIN),
            overwrite=overwrite)
    self.assertCountEqual(self._files(), ['file', 'folder'])

  def test_a_full_disk_leaves_the_old_file(self):
    kan_jax.save(self.path, _PLAIN, networks.random(_PLAIN))
    before = self.path.read_bytes()
    program = (
        'import resource, signal, sys\n'
        'import kan_jax\n'
        'model, variables = kan_jax.load(sys.argv[1])\n'
        'signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n'
        'resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n'
        'try: kan_jax.save(sys.argv[1], model, variables, overwrite=True)\n'
        'except kan_jax.model_file.ModelFileError as error: print(error)\n')
    ran = subprocess.run(
        [sys.executable, '-c', program, self.path], capture_output=True,
        text=True, check=False, env=os.environ | {'JAX_PLATFORMS': 'cpu'})
    self.assertRegex(ran.stdout, r'^\S* cannot be written: File too large\n$')
    self.assertEqual(ran.stderr, '')
    self.assertEqual(self.path.read_bytes(), before)
    self.assertEqual(self._files(), ['model.safetensors'])
