"""Counting what devices exchange, and a rehearsal on more than there are."""

import re

from absl.testing import parameterized
from helpers import command

from experiments.devices import collectives

# As XLA writes it, shortened: a sum in a loop of three rounds, a gather of two
# arrays at once, and a loop of unknown length.
_TEXT = '''
HloModule jit_f, entry_computation_layout={(f32[4]{0})->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%a, %b)
}

%body (state: (s32[], f32[4,2])) -> (s32[], f32[4,2]) {
  %x = f32[4,2]{1,0} all-reduce(%y), channel_id=1, to_apply=%add
}

%open_body (state: s32[]) -> s32[] {
  %p = bf16[8]{0} collective-permute(%q), channel_id=5
}

ENTRY %main.1 (z: f32[4]) -> f32[] {
  %w = (s32[], f32[4,2]{1,0}) while(%t), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"3"}}
  %v = s32[] while(%t), condition=%c, body=%open_body
  %g = (pred[16]{0}, /*index=1*/f32[16,2]{1,0}) all-gather(%i, %j), \
channel_id=2, dimensions={0}
  ROOT %r = f32[] all-reduce-start(%k), to_apply=%add
}
'''


class CollectivesTest(parameterized.TestCase):

  def test_find(self):
    self.assertCountEqual(collectives.find(_TEXT), [
        collectives.Collective('all-reduce', ((4, 2),), 32, 3),
        collectives.Collective('collective-permute', ((8,),), 16, 1),
        collectives.Collective('all-gather', ((16,), (16, 2)), 16 + 128, 1),
        collectives.Collective('all-reduce', ((),), 4, 1)])
    self.assertTrue(collectives.has_loops(_TEXT))
    self.assertEqual(collectives.find('ENTRY %m () -> f32[] {\n}\n'), [])


class RehearseTest(parameterized.TestCase):

  def _call(self, *args):
    return command.call('devices.rehearse', *args, JAX_NUM_CPU_DEVICES='1')

  def test_sixty_four_devices(self):
    """A small network; its parts and sums have to be where they should be."""
    done = self._call('--features=64,64,64', '--batch_size=64', '--order=1',
                      '--grid=2', '--mesh=data:32,model:2')
    self.assertEqual((done.returncode, done.stderr), (0, ''))
    step, update = (
        [cell.strip() for cell in line.split('|')[1:-1]]
        for line in done.stdout.splitlines()[2:4])
    self.assertEqual(step[:2], ['data:32,model:2', 'step'])
    self.assertEqual(update[:2], ['data:32,model:2', 'grid update'])
    for row in (step, update):
      self.assertGreater(int(row[6]), 0)
      gathered, shard = (
          float(re.fullmatch(r'([\d.]+) MiB', cell)[1]) for cell in row[8:])
      # Half of the coefficients: 64 * 3 * 32 numbers of 4 bytes.
      self.assertEqual(shard, 0.02)
      self.assertLessEqual(gathered, shard)
    self.assertEndsWith(done.stdout, 'Nothing larger than the largest shard is '
                        'gathered.\n')

  @parameterized.parameters(
      ('--batch_size=12', '--mesh=data:8,model:8: `batch_size` 12 cannot be'),
      ('--mesh=data:99999999999', '--mesh: 99999999999 devices are too many; '))
  def test_one_line_for_a_mistake(self, arg, message):
    done = self._call(arg)
    self.assertEqual((done.returncode, done.stdout), (2, ''))
    self.assertStartsWith(done.stderr, f'error: {message}')
    self.assertLen(done.stderr.splitlines(), 1)
