"""Files that hold no model: one clear error, whatever is in them."""

import json
import os
import pathlib
import struct

from absl.testing import parameterized
import chex
from helpers import networks
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

import kan_jax
from kan_jax import model_file
from kan_jax.layers import convolution
from kan_jax.layers import linen


class BadFileTest(parameterized.TestCase):
  """Whatever a file holds, `load` raises a ModelFileError of one line."""

  @pytest.fixture(autouse=True)
  def _file(self, tmp_path):
    self.path = tmp_path / 'model.safetensors'
    self.model = linen.KAN([2, 1], grid=2, order=1, symbolic=(
        (('sin', ((0, 0),)),),))
    self.variables = networks.random(self.model)
    kan_jax.save(self.path, self.model, self.variables)
    self._read_good()

  def _read_good(self):
    self.good = self.path.read_bytes()
    header, = struct.unpack('<Q', self.good[:8])
    self.header = json.loads(self.good[8:8 + header])
    self.arrays = safetensors_numpy.load(self.good)

  def _assert_bad(self, content, message=''):
    self.path.write_bytes(content)
    with self.assertRaisesRegex(
        model_file.ModelFileError,
        rf'^[^\n]*/model.safetensors [^\n]*{message}[^\n]*$'):
      kan_jax.load(self.path)

  def _rewrite(self, arrays=None, metadata=(), **options):
    """The file with other content and a checksum that is right for it."""
    arrays = self.arrays if arrays is None else arrays
    kept = self.header['__metadata__']
    structure = json.loads(kept['model']) | options
    text = json.dumps({k: v for k, v in structure.items() if v != 'GONE'})
    kept = kept | {
        'model': text, 'sha256': model_file._checksum({'model': text}, arrays)}
    return safetensors_numpy.save(arrays, kept | dict(metadata))

  def test_what_is_rewritten_without_a_change_is_good(self):
    self.path.write_bytes(self._rewrite())
    model, variables = kan_jax.load(self.path)
    self.assertEqual(model, self.model)
    chex.assert_trees_all_equal(variables, self.variables)

  def test_truncated(self):
    for length in range(0, len(self.good), 41):
      self._assert_bad(self.good[:length])
    self._assert_bad(self.good[:-1])
    self._assert_bad(self.good + b'x')

  def test_every_flipped_byte(self):
    for place in range(len(self.good)):
      flipped = bytearray(self.good)
      flipped[place] ^= (1, 0x20, 0x80, 0xff)[place % 4]
      self._assert_bad(bytes(flipped))

  @parameterized.parameters(
      b'', b'\0' * 8, b'PK\3\4' + b'\0' * 99, b'\x80\x04K\x01.',
      struct.pack('<Q', 2**63), struct.pack('<Q', 10**9) + b'{}',
      struct.pack('<Q', 2) + b'{}', struct.pack('<Q', 2) + b'[]',
      struct.pack('<Q', 10**5) + b'[' * 10**5)
  def test_other_formats(self, content):
    self._assert_bad(content)

  def test_no_files(self):
    for path in (self.path.parent, self.path / 'x', '/dev/zero', 'x' * 300,
                 self.path.parent / 'none'):
      with self.assertRaisesRegex(model_file.ModelFileError, 'is not a file'):
        kan_jax.load(path)
    os.mkfifo(self.path.parent / 'fifo')
    with self.assertRaisesRegex(model_file.ModelFileError, 'is not a file'):
      kan_jax.load(self.path.parent / 'fifo')

  def test_arrays_of_another_library(self):
    self._assert_bad(
        safetensors_numpy.save(self.arrays), 'not of `kan_jax.save`')
    self._assert_bad(
        safetensors_numpy.save(self.arrays, {'format': 'pt'}), 'no model file')

  def test_other_versions(self):
    self._assert_bad(self._rewrite(metadata={'version': '2'}),
                     "version '2' of the format; this kan_jax reads version")
    self._assert_bad(self._rewrite(metadata={'version': ''}), 'version')

  def test_other_arrays(self):
    coef, mask = 'params/layers_0/coef', 'grid/layers_0/mask'
    array = self.arrays[coef]
    without = {k: v for k, v in self.arrays.items() if k != coef}
    for arrays, message in (
        (without, f'{coef} is missing'), ({}, 'do not fit its arrays'),
        (self.arrays | {'params/../x': array}, r'params/../x is .* no such'),
        (self.arrays | {'/etc/passwd': array}, 'no such array'),
        (self.arrays | {'': array}, 'no such array'),
        (self.arrays | {coef + '/x': array}, 'no such array'),
        (without | {coef + '\n': array}, 'missing|no such'),
        (self.arrays | {'params/layers_1/coef': array}, 'no such array'),
        (self.arrays | {coef: array[None]}, r'coef is \[1, 2, 3, 1\]'),
        (self.arrays | {coef: array[:, :2].copy()}, r'expected is \[2, 3, 1\]'),
        (self.arrays | {coef: array.astype(int)}, 'is int64, not of float16'),
        (self.arrays | {coef: array.astype(bool)}, 'is bool'),
        (self.arrays | {coef: array.astype(float)}, 'float64.*enable_x64'),
        (self.arrays | {mask: np.ones((3, 1), np.float32)}, r'mask is \[3, 1')):
      self._assert_bad(self._rewrite(arrays), message)

  def test_structures_that_do_not_fit(self):
    big = 10**12
    for options in (
        {'class': 'os.system'}, {'class': None}, {'class': 'KANLayer'},
        {'features': [2, 2]}, {'features': [3, 1]}, {'features': 2},
        {'features': [2, big]}, {'features': [big, big]}, {'features': []},
        {'features': [2, [1, big]]}, {'features': [2, [[1], 1]]},
        {'features': [2, -1]}, {'features': 'two'}, {'features': {'2': 1}},
        {'features': [2.0, 1]}, {'features': None}, {'features': 'GONE'},
        {'features': [2, [0, 1]], 'arity': big}, {'arity': [[], [big]]},
        {'arity': 'x'}, {'arity': {}}, {'arity': [[1], [2]]},
        {'grid': 3}, {'grid': big}, {'grid': 0}, {'grid': 2.0}, {'grid': None},
        {'order': 2}, {'order': big}, {'order': -1}, {'grid': 'GONE'},
        {'grid_range': [1, 0]}, {'grid_range': ['a', 'b']}, {'grid_range': 3},
        {'grid_range': [0, float('nan')]}, {'grid_range': [0, float('inf')]},
        {'grid_range': [0]}, {'outside': 'x'}, {'outside': None},
        {'base_fn': 'os.system'}, {'base_fn': 3}, {'base_fn': ['silu']},
        {'base_fn': {'own': 'eval'}}, {'base_fn': {}}, {'base_fn': {'own': 3}},
        {'noise': 'much'}, {'bias': 1}, {'bias': False}, {'dtype': 'object'},
        {'dtype': 3}, {'param_dtype': None}, {'param_dtype': 'int8'},
        {'precision': 'f32'}, {'precision': ['high']},
        {'initial': 'glorot'}, {'initial': {}}, {'initial': {'class': 'KAN'}},
        {'initial': {'class': 'PowerLaw', 'base': 0.5}},
        {'initial': {'class': 'PowerLaw', 'base': 0.5, 'spline': 'x'}},
        {'initial': {'class': 'PowerLaw', 'base': 0.5, 'spline': -1.0}},
        {'scale_base_init': 'eval'}, {'scale_spline_init': []},
        {'symbolic': None}, {'symbolic': []}, {'symbolic': [[], []]},
        {'symbolic': [[['sin', [[0, 5]]]]]}, {'symbolic': [[['sin', [[-1]]]]]},
        {'symbolic': [[['sin', [[-1, 0]]]]]},
        {'symbolic': [[['eval', [[0, 0]]]]]}, {'symbolic': [[['sin']]]},
        {'symbolic': [[['sin', [[0, 0], [0, 0]]]]]}, {'symbolic': {'a': 1}},
        {'symbolic': [[['sin', [[0, 0], [1, 0]]]]]}, {'symbolic': [[3]]},
        {'symbolic': [[[['sin'], [[0, 0]]]]]},
        {'symbolic': [[[{'own': 'sin'}, [[0, 0]]]]]},
        {'parent': 3}, {'name': 'x'}, {'more': 1}, {'__class__': 'x'}):
      with self.subTest(str(options)):
        self._assert_bad(self._rewrite(**options), 'cannot be used: ')

  def test_convolutions_that_do_not_fit(self):
    self.model = convolution.KANConv(
        2, (2, 1), grid=2, order=1, feature_group_count=2)
    self.variables = networks.random(self.model)
    kan_jax.save(self.path, self.model, self.variables, overwrite=True)
    self._read_good()
    self.test_what_is_rewritten_without_a_change_is_good()
    big = 10**12
    for options in (
        {'kernel_size': [2, 2]}, {'kernel_size': [3]}, {'kernel_size': [big]},
        {'kernel_size': [big, big]}, {'kernel_size': []}, {'kernel_size': None},
        {'kernel_size': 'GONE'}, {'kernel_size': 'two'}, {'kernel_size': [2.0]},
        {'strides': [1]}, {'strides': [0, 1]}, {'strides': {'1': 1}},
        {'kernel_dilation': [1, 1, 1]}, {'kernel_dilation': -1},
        {'padding': 'all'}, {'padding': [[1, 1]]}, {'padding': [[1, -1], 0]},
        {'padding': None}, {'feature_group_count': 1}, {'features': 4},
        {'feature_group_count': big, 'features': big},
        {'feature_group_count': 3}, {'feature_group_count': 2.0},
        {'symbolic': []}, {'class': 'KANLayer'}):
      with self.subTest(str(options)):
        self._assert_bad(self._rewrite(**options), 'cannot be used: ')

  @parameterized.parameters(
      '', '[]', 'null', '3', '{', '[' * 10**5, '{"class":' * 10**5,
      '{"grid": ' + '9' * 5000 + '}', '\ud7ff')
  def test_options_that_are_no_json(self, text):
    self._assert_bad(safetensors_numpy.save(self.arrays, {
        **self.header['__metadata__'], 'model': text,
        'sha256': model_file._checksum({'model': text}, self.arrays)}),
                     'cannot be used')

  def test_further_values(self):
    texts = {'model': self.header['__metadata__']['model']}
    for text in ('', '{', '[1]', '{"code": 1}', '[' * 10**5):
      self._assert_bad(safetensors_numpy.save(self.arrays, {
          **self.header['__metadata__'], 'more': text,
          'sha256': model_file._checksum({**texts, 'more': text}, self.arrays)
      }), 'cannot be used: its further values are damaged')

  def test_loading_changes_nothing(self):
    before = sorted(pathlib.Path(self.path.parent).iterdir())
    kan_jax.load(self.path)
    self.assertEqual(sorted(self.path.parent.iterdir()), before)
    self.assertEqual(self.path.read_bytes(), self.good)
