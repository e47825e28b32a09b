"""Programs that threads compile: once, in order, and only what is asked for."""

from absl.testing import absltest
import chex
import jax
import jax.numpy as jnp
import numpy as np

from kan_jax import compiling


def _shape(*shape):
  return jax.ShapeDtypeStruct(shape, jnp.float32)


class AheadTest(chex.TestCase):

  def setUp(self):
    super().setUp()
    self.compiled = []

    def listen(event, seconds, **kwargs):
      del seconds
      if event.endswith('backend_compile_duration'):
        self.compiled.append(kwargs['fun_name'])

    jax.monitoring.register_event_duration_secs_listener(listen)
    self.addCleanup(
        jax.monitoring.unregister_event_duration_listener, listen)

  def test_what_was_prepared_compiles_once(self):
    """By shapes; with a donated argument and a number, as a train step has."""
    def step(state, n):
      return jax.tree.map(lambda leaf: n * leaf, state)

    ahead = compiling.Ahead(jax.jit(step, donate_argnums=0))
    ahead.prepare({'a': _shape(3)}, 0)
    state = ahead({'a': np.ones(3, np.float32)}, 2)
    state = ahead(state, 3)
    np.testing.assert_array_equal(state['a'], 6 * np.ones(3))
    self.assertEqual(self.compiled, ['jit(step)'])

  def test_each_shape_waits_for_its_own(self):
    def double(x):
      return 2 * x

    ahead = compiling.Ahead(jax.jit(double))
    ahead.prepare(_shape(3))
    ahead.prepare(_shape(4))
    for size in (4, 3, 5):  # Nothing is prepared for the last one.
      np.testing.assert_array_equal(
          ahead(np.ones(size, np.float32)), np.full(size, 2))
    self.assertLen(self.compiled, 3)

  def test_an_error_is_that_of_the_call(self):
    def refuse(x):
      raise ValueError(f'no x of {x.shape}')

    ahead = compiling.Ahead(jax.jit(refuse))
    ahead.prepare(_shape(3))
    with self.assertRaisesRegex(ValueError, r'no x of \(3,\)'):
      ahead(np.ones(3, np.float32))

  def test_after_cancel_a_call_compiles(self):
    ahead = compiling.Ahead(jax.jit(lambda x: x + 1))
    ahead.prepare(_shape(3))
    ahead.cancel()
    np.testing.assert_array_equal(ahead(np.ones(3, np.float32)), np.full(3, 2))

  def test_options_hold_with_values(self):
    """Whole numbers are the same, whatever the options."""
    x = jnp.arange(10)
    for options in (compiling.OLDER_CPU, compiling.LIGHT, compiling.QUICK):
      np.testing.assert_array_equal(
          jax.jit(jnp.cumsum, compiler_options=options)(x), np.cumsum(x))


if __name__ == '__main__':
  absltest.main()
