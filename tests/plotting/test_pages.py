"""Pages: what they say, that texts are escaped, that they need nothing else."""

import re

from absl.testing import parameterized
from helpers import networks
import numpy as np

from kan_jax.layers import edits
from kan_jax.layers import linen
from kan_jax.plotting import _figures
from kan_jax.plotting import _interactive
from kan_jax.plotting import _pages
from kan_jax.plotting import _svg

_RNG = np.random.default_rng(0)
_X = _RNG.uniform(-1, 1, (40, 2)).astype(np.float32)
_NASTY = '<i>&"$x$'


def _draw(model, variables, **names):
  return _interactive.draw(
      model, variables, _X, _interactive.Names(**{
          'inputs': ['a', _NASTY], 'outputs': ['f']} | names), most=10)


class PagesTest(parameterized.TestCase):

  def test_texts_are_escaped_and_html_is_not(self):
    page = _pages.render(
        _NASTY, _NASTY, {_NASTY: _NASTY},
        [_pages.section('one', _NASTY, '<b>bold</b>', _NASTY)],
        {_NASTY: _NASTY})
    self.assertNotIn('<i>', page)
    self.assertIn('<b>bold</b>', page)
    self.assertEqual(page.count('&lt;i&gt;&amp;'), 9)
    self.assertNotRegex(page, r'https?:|@import|\bon\w+=')

  def test_confusion(self):
    table = _pages.confusion_table(
        np.array([[8, 2], [0, 7]]), ['no', _NASTY])
    self.assertEqual(re.findall(r'>(\d+)<', table), ['8', '2', '7'])
    # A fifth of a class is beyond full color; what never happens is empty.
    self.assertIn('--shade:1.00">2', table)
    self.assertIn('<td></td><td class="right">7', table)
    self.assertNotIn('<i>', table)

  def test_charts_follow_the_page(self):
    """Colors are those of the style sheet, sizes are in its units."""
    y = _X[:, 0]
    pictures = _pages.agreement_charts(
        y, {'network': y + 0.1, 'formula': y}, _NASTY)
    pictures += [
        _pages.bars_chart({_NASTY: 0.7, 'b': 0.3}, 'bars', 'Bars'),
        _pages.effect_chart(
            np.linspace(0, 1, 5), {'f': np.ones(5), 'g': np.zeros(5)}, y,
            _NASTY)]
    for picture in pictures:
      self.assertIn('var(--first)', picture)
      self.assertIn('--inches: ', picture)
      self.assertNotRegex(picture, '#000000|#1f77b4|<i>')

  def test_a_plain_text_is_no_mathematics(self):
    self.assertEqual(_figures.plain('$a$'), r'\$a\$')

  def test_svg_is_a_part_of_a_page(self):
    root = _svg.inline(_figures.Figure(figsize=(1, 1)), 'empty', 'Nothing')
    self.assertEqual((root.tag, root.get('role')), ('svg', 'img'))
    self.assertIsNone(root.get('width'))


class NetworkTest(parameterized.TestCase):

  def test_an_edge_says_where_it_leads_and_what_it_is(self):
    model, variables = edits.assign(
        linen.KAN([2, 1]), networks.kan([2, 1]), ('layers_0',),
        {(0, 0): ('log', (1, 0, 1, 0))})  # NaN on half of the rows.
    picture = _draw(model, variables)
    self.assertEqual((picture.shown, picture.total), (2, 2))
    titles = re.findall('<strong>(.*?)</strong> (.*?);', picture.curves)
    self.assertIn(('a → f', 'log'), titles)
    self.assertNotIn('nan', picture.curves)
    self.assertNotIn('<i>', picture.write())
    page = _pages.network_section({'before': picture})
    self.assertIn('<h3>before</h3>', page)

  def test_edges_of_a_product_are_its_factors(self):
    model = linen.KAN([2, [0, 1]])
    curves = _draw(model, networks.kan([2, 2])).curves
    for factor in (1, 2):
      self.assertIn(f'a → factor {factor} of f', curves)
