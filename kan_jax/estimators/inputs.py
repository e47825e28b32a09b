"""Which columns of a table a formula may have."""

import numpy as np

MOST = 6  # Columns; with more, the search for a formula takes minutes.
_LEAST_SHARE = 0.02


def strongest(importances: np.ndarray) -> np.ndarray:
  """Returns the columns that matter, at most `MOST` of them, in their order.

  Args:
    importances: Share of each column in what the outputs vary with, [in], such
      as `KANRegressor.feature_importances_`.

  Returns:
    Numbers of columns, ascending; none if no column has a share. Columns with
    less than 2 % are left out, but never one with half of the largest share.
  """
  order = np.argsort(-importances, kind='stable')
  chosen = np.sort(order[:MOST])
  least = min(_LEAST_SHARE, importances.max() / 2)
  return chosen[importances[chosen] > least]
