"""Exported models, loaded without this library."""

import functools
import os
import pathlib
import re
import subprocess
import sys
from unittest import mock

from absl.testing import parameterized
import chex
from helpers import command
from helpers import networks
import jax
from jax import export as jax_export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments import cli
from experiments import mnist
from experiments.mnist import configs
from experiments.mnist import export as program
from experiments.mnist import models
from experiments.mnist import run_folder
import kan_jax
from kan_jax import export
from kan_jax.estimators import estimators
from kan_jax.layers import linen
from kan_jax.training import train_steps

_ROOT = pathlib.Path(__file__).parents[1]
_ENV = os.environ | {'JAX_PLATFORMS': 'cpu'}

# Importing a module raises an ImportError where sys.modules has None for it.
_LOAD = '''
import sys
sys.modules['kan_jax'] = sys.modules['flax'] = sys.modules['optax'] = None
from jax import export
import numpy as np
model = export.deserialize(open(sys.argv[1], 'rb').read())
images = np.load(sys.argv[2])
for rows in (1, 2, 7):
  np.save(f'{sys.argv[2]}.{rows}.npy', model.call(images[:rows]))
'''


def _symbolic():
  variables = networks.kan([2, 3, 1])
  variables['params']['layers_0']['affine'] = jnp.array([[1.0, 0.5, 2.0, 0.1]])
  return linen.KAN([2, 3, 1], symbolic=((('sin', ((0, 0),)),), ())), variables


# What takes a path of its own: products, symbolic edges, the tangents beyond a
# grid, many intervals, and inputs that are taken in parts.
_MODELS = {
    'products': lambda: (
        linen.KAN([2, [1, 1], 1]),
        networks.stack(networks.layer(2, 3), networks.layer(2, 1))),
    'symbolic': _symbolic,
    'linear': lambda: (
        linen.KAN([2, 1], outside='linear'), networks.kan([2, 1])),
    'many_intervals': lambda: (
        linen.KAN([2, 1], grid=150), networks.kan([2, 1], grid=150)),
    'many_inputs': lambda: (
        linen.KAN([1100, 2], grid=1, order=0),
        networks.kan([1100, 2], grid=1, order=0)),
}


class SerializeTest(parameterized.TestCase):

  @parameterized.parameters(*_MODELS)
  def test_any_number_of_rows(self, name):
    model, variables = _MODELS[name]()
    inputs = len(variables['grid']['layers_0']['mask'])
    loaded = jax_export.deserialize(export.serialize(
        functools.partial(model.apply, variables), (inputs,)))
    self.assertEqual(loaded.platforms, ('cpu', 'cuda', 'tpu'))
    x = np.random.default_rng(0).normal(size=(5, inputs)).astype(np.float32)
    self.assertEqual(str(loaded.in_avals[0].shape), f'(batch, {inputs})')
    # The same sums, in parts that the compiler may order otherwise.
    np.testing.assert_allclose(
        loaded.call(x), jax.jit(model.apply)(variables, x), rtol=1e-5,
        atol=1e-5)

  def test_convolution(self):
    """As it is, and frozen."""
    model = kan_jax.KANConv(2, (2, 3), padding='CIRCULAR', grid=2, order=1)
    x = np.random.default_rng(0).normal(size=(5, 4, 3, 1)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), x)
    expected = jax.jit(model.apply)(variables, x)
    for fn in (functools.partial(model.apply, variables),
               kan_jax.freeze(model, variables)):
      loaded = jax_export.deserialize(export.serialize(fn, x.shape[1:]))
      np.testing.assert_allclose(loaded.call(x), expected, atol=1e-5)

  def test_a_row_may_be_a_number(self):
    loaded = jax_export.deserialize(export.serialize(jnp.tanh, ()))
    np.testing.assert_array_equal(
        loaded.call(jnp.arange(3.0)), jnp.tanh(jnp.arange(3.0)))

  @parameterized.parameters(
      ({'platforms': ('cpu', 'abacus')}, r'`platforms`.*got abacus'),
      ({'platforms': ()}, r'`platforms`.*got none'),
      ({'shape': (2, 0)}, r'`shape`.*got \(2, 0\)'),
      ({'shape': (None, 2)}, r'`shape`.*got \(None, 2\)'),
      ({'fn': lambda x: x.reshape(3, -1)}, r'`fn`.*any number of rows'),
      ({'fn': lambda x: jnp.ones(len(x))}, r'`fn`.*any number of rows'))
  def test_errors(self, given, message):
    given = {'fn': jnp.tanh, 'shape': (2,)} | given
    with self.assertRaisesRegex(ValueError, message):
      export.serialize(given.pop('fn'), given.pop('shape'), **given)


def _keep_run(folder, config, variables):
  """Leaves a folder as a run does, without the training."""
  state = networks.state(variables, optax.adam(0.1))
  with run_folder.open_recorder(str(folder), config) as recorder:
    recorder.checkpoint(run_folder.Progress(
        state, train_steps.zero_totals(),
        jax.random.key_data(jax.random.key(0))))


class ProgramTest(parameterized.TestCase):

  @pytest.fixture(autouse=True)
  def _folder(self, tmp_path):
    self.path = tmp_path

  def test_loaded_without_this_library(self):
    config = configs.Config(model='kan', hidden=2, grid=2, order=1)
    variables = {kind: {'kan': arrays} for kind, arrays in networks.kan(
        [784, 2, 3], grid=2, order=1).items()}
    _keep_run(self.path / 'run', config, variables)
    done = self._call('--workdir', self.path / 'run', '--output',
                      self.path / 'model')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    self.assertRegex(done.stdout, r'model: [\d,]+ bytes, for cpu, cuda, tpu$')
    images = np.random.default_rng(0).random((7, 28, 28)).astype(np.float32)
    np.save(self.path / 'x', images)
    subprocess.run(
        [sys.executable, '-c', _LOAD, self.path / 'model',
         self.path / 'x.npy'], env=_ENV, check=True)
    expected = jax.jit(models.build(config, 3).apply)(variables, images)
    for rows in (1, 2, 7):
      # Sums of 784 splines, in parts that the compiler may order otherwise.
      np.testing.assert_allclose(
          np.load(self.path / f'x.npy.{rows}.npy'), expected[:rows],
          rtol=1e-5, atol=1e-4)

  def _call(self, *args):
    return command.call('mnist.export', *args)

  def test_convolutions_and_mlp(self):
    config = configs.Config(model='conv_mlp', hidden=2)
    model = models.build(config, 3)
    variables = jax.tree.map(
        lambda leaf: jnp.linspace(-0.1, 0.1, leaf.size).reshape(leaf.shape),
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 28, 28))))
    _keep_run(self.path / 'run', config, variables | {'grid': {}})
    size = program.export_run(self.path / 'run', self.path / 'model')
    content = (self.path / 'model').read_bytes()
    self.assertLen(content, size)
    images = np.random.default_rng(0).random((3, 28, 28)).astype(np.float32)
    np.testing.assert_allclose(
        jax_export.deserialize(content).call(images),
        jax.jit(model.apply)(variables, images), rtol=1e-5, atol=1e-6)
    with self.assertRaisesRegex(cli.UsageError, r'^--output=.*File exists$'):
      program.export_run(self.path / 'run', self.path / 'model')
    self.assertEqual((self.path / 'model').read_bytes(), content)
    with self.assertRaisesRegex(cli.UsageError, r'got abacus'):
      program.export_run(self.path / 'run', self.path / 'other', ['abacus'])
    self.assertFalse((self.path / 'other').exists())

  def test_a_table(self):
    config = configs.Config(model='kan', hidden=2, grid=2, order=1)
    variables = {kind: {'kan': arrays} for kind, arrays in networks.kan(
        [5, 2, 4], grid=2, order=1).items()}
    _keep_run(self.path / 'run', config, variables)
    program.export_run(self.path / 'run', self.path / 'model')
    loaded = jax_export.deserialize((self.path / 'model').read_bytes())
    self.assertEqual(str(loaded.in_avals[0].shape), '(batch, 5)')
    self.assertEqual(str(loaded.out_avals[0].shape), '(batch, 4)')

  def test_onnx(self):
    pytest.importorskip('onnx')
    runtime = pytest.importorskip('onnxruntime')
    config = configs.Config(model='kan', hidden=2, grid=2, order=1)
    variables = {kind: {'kan': arrays} for kind, arrays in networks.kan(
        [5, 2, 4], grid=2, order=1).items()}
    _keep_run(self.path / 'run', config, variables)
    program.export_run(self.path / 'run', self.path / 'model.onnx')
    session = runtime.InferenceSession(
        (self.path / 'model.onnx').read_bytes(),
        providers=['CPUExecutionProvider'])
    x = np.random.default_rng(0).random((3, 5)).astype(np.float32)
    np.testing.assert_allclose(
        session.run(None, {'images': x})[0],
        jax.jit(models.build(config, 4, (5,)).apply)(variables, x),
        rtol=1e-5, atol=1e-5)

  def test_without_onnx(self):
    config = configs.Config(model='kan', hidden=2, grid=2, order=1)
    variables = {kind: {'kan': arrays} for kind, arrays in networks.kan(
        [5, 2, 4], grid=2, order=1).items()}
    _keep_run(self.path / 'run', config, variables)
    with (mock.patch.dict(sys.modules, {
        'experiments.mnist.onnx_graph': None}), mock.patch.dict(vars(mnist))):
      vars(mnist).pop('onnx_graph', None)
      with self.assertRaisesRegex(cli.UsageError, r'needs onnx: pip install'):
        program.export_run(self.path / 'run', self.path / 'model.onnx')
    self.assertFalse((self.path / 'model.onnx').exists())

  def test_no_run(self):
    with self.assertRaisesRegex(cli.UsageError, r'^--workdir=.*holds no run'):
      program.export_run(self.path, self.path / 'model')
    (self.path / 'config.json').write_text('{}')
    with self.assertRaisesRegex(cli.UsageError, r'no complete checkpoint'):
      program.export_run(self.path, self.path / 'model')
    self.assertEqual([p.name for p in self.path.iterdir()], ['config.json'])


class DocumentTest(chex.TestCase):

  def test_an_estimator_is_served(self):
    """By the scripts of docs/serving.md, with a model that is trained less."""
    text = (_ROOT / 'docs' / 'serving.md').read_text()
    *_, prepare, serve = re.findall(
        r'^```python\n(.*?)^```$', text, re.DOTALL | re.M)
    table = np.random.default_rng(0).normal(3, 2, (40, 2))
    regressor = estimators.KANRegressor((), grid=2, steps=2, alpha=1.0)
    names = {'kan_jax': kan_jax, 'table': table,
             'regressor': regressor.fit(table, table[:, 0])}
    for script in (prepare, serve):
      exec(compile(script, 'serving.md', 'exec'), names)
    # float32 inputs against float64.
    np.testing.assert_allclose(
        names['served'], regressor.predict(table), rtol=1e-4, atol=1e-4)
