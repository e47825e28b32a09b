"""Which columns of a table a formula may have."""

import numpy as np

MOST = 6  # Columns; with more, networks take minutes to find a formula.
MOST_BY_STRUCTURE = 10
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
  chosen = _largest(importances, MOST)
  least = min(_LEAST_SHARE, importances.max() / 2)
  return chosen[importances[chosen] > least]


def candidates(importances: np.ndarray) -> np.ndarray:
  """Returns the columns that the search by structure looks at, in their order.

  It finds out by itself which of them matter. So small shares are no reason to
  leave one out.

  Args:
    importances: As for `strongest`.

  Returns:
    Numbers of columns, ascending; at most `MOST_BY_STRUCTURE`, and none without
    any share.
  """
  chosen = _largest(importances, MOST_BY_STRUCTURE)
  return chosen[importances[chosen] > 0]


def _largest(importances: np.ndarray, most: int) -> np.ndarray:
  order = np.argsort(-importances, kind='stable')
  return np.sort(order[:most])
