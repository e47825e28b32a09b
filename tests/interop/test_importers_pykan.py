"""Models of pykan, against pykan itself: pip install -e '.[pykan]'."""

import importlib.util
import unittest

from absl.testing import parameterized
import jax
import numpy as np

from kan_jax.interop import importers

if importlib.util.find_spec('kan'):  # What is missing beside it is an error.
  import kan
  import torch

  torch.set_num_threads(1)  # For arrays as small as these.
else:
  raise unittest.SkipTest("needs pykan: pip install -e '.[pykan]'")

_X = np.random.default_rng(0).uniform(-1.5, 1.5, (200, 2))


def _network(width, **options):
  """A network whose splines are no longer small."""
  model = kan.KAN(width=width, seed=0, auto_save=False, **options)
  for layer in model.act_fun:
    layer.coef.data = torch.randn(layer.coef.shape, dtype=layer.coef.dtype) / 2
  return model


def _rescale(model):
  """Gives nodes and subnodes scales and biases, products no bias."""
  for name, value in model.named_parameters():
    if 'node' in name:
      value.data += 0.3 * torch.randn(value.shape, dtype=value.dtype)
  for bias, (sums, _) in zip(model.node_bias, model.width[1:], strict=True):
    bias.data[sums:] = 0


def _multiply(x):
  model = _network(
      [2, [2, 2], [1, 1], 1], grid=[4, 6, 3],
      mult_arity=[[], [2, 3], [2], []])
  _rescale(model)
  model.update_grid_from_samples(x)
  model.remove_edge(0, 1, 2)
  return model


def _train(x):
  model = _network([2, 3, 1], grid=3)
  data = {'train_input': x, 'train_label': torch.sin(3 * x[:, :1]) * x[:, 1:]}
  data |= {'test_input': x, 'test_label': data['train_label']}
  model.fit(data, steps=2, grid_update_num=1, stop_grid_update_step=2)
  return model


def _carry(x):
  model = _network([2, [1, 1], 1], k=2)
  _rescale(model)
  model(x)
  model.fix_symbolic(0, 0, 1, 'sin', verbose=False)
  model.fix_symbolic(1, 1, 0, 'gaussian', fit_params_bool=False)
  model.set_mode(1, 1, 0, 'ns', mask_n=0.5)
  return model


def _prune(x):
  model = _network([2, 4, 1], k=1)
  model(x)
  with torch.no_grad():
    model = model.prune_node(active_neurons_id=[[0, 2, 3]], log_history=False)
  return model.prune_input(active_inputs=[1], log_history=False)


class PykanTest(parameterized.TestCase):

  @parameterized.product(
      make=(_multiply, _train, _carry, _prune), bits=(32, 64))
  def test_same_outputs(self, make, bits):
    x = _X.astype(f'float{bits}')
    torch.set_default_dtype(getattr(torch, f'float{bits}'))
    self.addCleanup(torch.set_default_dtype, torch.float32)
    theirs = make(torch.tensor(x))
    expected = theirs(torch.tensor(x)).detach().numpy()
    with jax.enable_x64(bits == 64):
      ours, variables = importers.from_pykan(
          theirs.state_dict(), arity=theirs.mult_arity,
          symbolic=[layer.funs_name for layer in theirs.symbolic_fun])
      left = x[:, theirs.input_id.numpy()]
      got = np.asarray(jax.jit(ours.apply)(variables, left))
    self.assertEqual(got.dtype, x.dtype)
    # Rounding is all that may differ; in float64 it is far below 1e-6.
    self.assertLess(
        np.abs(got - expected).max() / np.ptp(expected),
        1e-6 if bits == 32 else 1e-12)
