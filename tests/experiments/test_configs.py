"""Configs and flags: each overrides its field; what cannot be is refused."""

import dataclasses

from absl import flags
from absl.testing import parameterized

from experiments import cli
from experiments.mnist import configs

_FIELDS = {field.name: field for field in dataclasses.fields(configs.Config)}

# For each flag a value that differs from every config's.
_OTHER = {
    'model': 'kan', 'hidden': 7, 'layers': 2, 'grid': 9, 'order': 2,
    'outside': 'linear', 'update_grid': False, 'grid_update_freq': 3,
    'grid_eps': 0.25, 'grid_rate': 0.5, 'scale_spline': 'fan_in',
    'scale_base': 0.5, 'lamb': 0.125, 'lamb_l1': 0.5, 'on_nonfinite': 'skip',
    'lamb_entropy': 0.75, 'lamb_coef': 1.5, 'lamb_coefdiff': 2.5,
    'reg_metric': 'std', 'prune_threshold': 0.375, 'epochs': 2,
    'precision': 'high', 'batch_size': 11, 'learning_rate': 0.25, 'seed': 42,
    'schedule': 'cosine', 'weight_decay': 0.5, 'label_smoothing': 0.25,
    'dataset': 'fashion_mnist', 'holdout': 100, 'grid_update_epochs': 2,
    'base_fn': 'relu', 'shift': 3, 'dropout': 0.5}


class FlagsTest(parameterized.TestCase):
  """Takes its flags away again: absl has one set for the whole process."""

  def setUp(self):
    super().setUp()
    before = set(flags.FLAGS)
    if not flags.FLAGS.is_parsed():
      self.addCleanup(flags.FLAGS.unparse_flags)
    configs.define_flags()
    for name in set(flags.FLAGS) - before:
      self.addCleanup(delattr, flags.FLAGS, name)

  def _config(self, *args):
    flags.FLAGS(['program', *args])
    return configs.config_from_flags()

  def test_no_flags_give_the_default_config(self):
    self.assertEqual(self._config(), configs.CONFIGS['kan'])

  @parameterized.parameters(*configs.CONFIGS)
  def test_named_config(self, name):
    self.assertEqual(self._config(f'--config={name}'), configs.CONFIGS[name])

  @parameterized.parameters(*_FIELDS)
  def test_every_flag_overrides_its_field_alone(self, name):
    value = _OTHER[name]
    config = self._config('--config=kan_reg', f'--{name}={value}')
    self.assertEqual(getattr(config, name), value)
    self.assertIs(type(getattr(config, name)), type(value))
    self.assertNotEqual(getattr(configs.CONFIGS['kan_reg'], name), value)
    self.assertEqual(
        config, dataclasses.replace(
            configs.CONFIGS['kan_reg'], **{name: value}))

  def test_several_flags(self):
    config = self._config(
        '--config=mlp', '--seed=3', '--epochs=1', '--noupdate_grid')
    self.assertEqual(config, dataclasses.replace(
        configs.CONFIGS['mlp'], seed=3, epochs=1, update_grid=False))

  def test_flag_that_repeats_a_default_overrides_the_config(self):
    """0 is what `kan` has, but not `kan_reg`."""
    self.assertEqual(self._config('--config=kan_reg', '--lamb=0').lamb, 0)

  def test_unknown_config(self):
    with self.assertRaisesRegex(
        cli.UsageError, '--config=nope is not known; allowed are mlp, kan, '):
      self._config('--config=nope')

  def test_flag_that_cannot_be(self):
    with self.assertRaisesRegex(cli.UsageError, '--lamb=-1.0 is not possible'):
      self._config('--lamb=-1')

  def test_every_flag_has_help(self):
    """Which names the default, and the choices where there are some."""
    for name, field in _FIELDS.items():
      text = flags.FLAGS[name].help
      self.assertIn(field.metadata['help'], text)
      self.assertIn(f'(default: {field.default})', text)
      for choice in field.metadata['allowed']['choices']:
        self.assertIn(choice, text)


class ConfigTest(parameterized.TestCase):

  @parameterized.parameters(
      ('model', 'rnn', 'allowed are conv_kan, conv_mlp, kan, mlp, kan_conv, '
       'cnn'),
      ('base_fn', 'tanh', 'allowed are silu, relu'),
      ('shift', 28, 'allowed are values from 0 to 27'),
      ('outside', 'nan', 'allowed are zero, clamp, linear'),
      ('scale_spline', '', 'allowed are one, fan_in'),
      ('reg_metric', 'max', 'allowed are mean_abs, std'),
      ('hidden', 0, 'it must be 1 or more'),
      ('grid', 0, 'it must be 1 or more'),
      ('order', -1, 'allowed are values from 0 to 5'),
      ('order', 6, 'allowed are values from 0 to 5'),
      ('grid_update_freq', 0, 'it must be 1 or more'),
      ('grid_eps', -0.1, 'allowed are values from 0 to 1'),
      ('grid_eps', 1.1, 'allowed are values from 0 to 1'),
      ('grid_rate', 0.0, 'allowed are values above 0 and up to 1'),
      ('grid_rate', 1.5, 'allowed are values above 0 and up to 1'),
      ('lamb', -1.0, 'it must be 0 or more'),
      ('lamb', float('nan'), 'it must be 0 or more'),
      ('lamb', float('inf'), 'it must be 0 or more'),
      ('lamb_l1', -1.0, 'it must be 0 or more'),
      ('lamb_entropy', -1.0, 'it must be 0 or more'),
      ('lamb_coef', -1.0, 'it must be 0 or more'),
      ('lamb_coefdiff', -1.0, 'it must be 0 or more'),
      ('prune_threshold', -0.5, 'it must be 0 or more'),
      ('epochs', 0, 'it must be 1 or more'),
      ('batch_size', 0, 'it must be 1 or more'),
      ('learning_rate', 0.0, 'it must be greater than 0'),
      ('learning_rate', -0.1, 'it must be greater than 0'),
      ('seed', -1, 'allowed are values from 0 to 4.29497e+09'),
      ('seed', 2**32, 'allowed are values from 0 to'))
  def test_impossible_values(self, name, value, allowed):
    with self.assertRaises(cli.UsageError) as caught:
      configs.Config(**{name: value})
    text = str(caught.exception)
    self.assertIn(f'--{name}={value}', text)
    self.assertIn(allowed, text)

  @parameterized.parameters(
      ('hidden', 'x', 'a whole number: it must be 1 or more'),
      ('hidden', 2.0, 'a whole number: it must be 1 or more'),
      ('hidden', True, 'a whole number: it must be 1 or more'),
      ('hidden', None, 'a whole number: it must be 1 or more'),
      ('order', [3], 'a whole number: allowed are values from 0 to 5'),
      ('lamb', '0.1', 'a number: it must be 0 or more'),
      ('lamb', False, 'a number: it must be 0 or more'),
      ('update_grid', 'no', 'true or false'),
      ('update_grid', 1, 'true or false'),
      ('dataset', 5, 'text'))
  def test_values_of_another_type(self, name, value, allowed):
    """As a config.json may have them that somebody wrote by hand."""
    with self.assertRaises(cli.UsageError) as caught:
      configs.Config(**{name: value})
    self.assertEqual(
        str(caught.exception),
        f'--{name}={value!r} is not possible; it must be {allowed}')

  def test_text_of_another_type(self):
    with self.assertRaisesRegex(
        cli.UsageError, '--model=3 is not known; allowed are conv_kan, '):
      configs.Config(model=3)

  def test_whole_numbers_are_numbers(self):
    self.assertEqual(configs.Config(lamb=1, grid_eps=0).lamb, 1)

  @parameterized.parameters(
      ('order', 0), ('order', 5), ('grid_eps', 0.0), ('grid_eps', 1.0),
      ('grid_rate', 1.0), ('lamb', 0.0), ('seed', 0), ('seed', 2**32 - 1),
      ('hidden', 1), ('batch_size', 1))
  def test_limits_are_allowed(self, name, value):
    self.assertEqual(getattr(configs.Config(**{name: value}), name), value)

  def test_configs_cannot_be_changed(self):
    with self.assertRaises(dataclasses.FrozenInstanceError):
      configs.CONFIGS['kan'].lamb = 1.0
