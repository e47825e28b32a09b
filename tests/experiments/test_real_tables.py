"""The comparison on real tables: that it runs, and what it writes."""

import numpy as np

from experiments.accuracy import real_tables


def test_fast_models():
  scores = list(real_tables.compare('iris', ('linear',)))
  assert [score.fold for score in scores] == [0, 1, 2, 3, 4]
  # 150 rows; published accuracies are 0.95 to 0.98.
  assert np.mean([score.score for score in scores]) > 0.93


def test_report():
  rows = {'kan': [0.9, 0.92, 0.94, 0.9, 0.9], 'boosting': [0.91] * 5,
          'mlp': [0.5] * 5, 'linear': [0.4] * 5}
  scores = [real_tables.Score('t', model, fold, value, 2.0)
            for model, values in rows.items()
            for fold, value in enumerate(values)]
  text = real_tables.report(scores).splitlines()[-1]
  assert '| +0.0020 ± 0.0080 (boosting) | yes | 2.0 / 2.0' in text, text
  assert '| 0.912 ± 0.018 | 0.910 ± 0.000 |' in text, text
