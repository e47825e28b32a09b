"""B-splines and their grids: pure functions of arrays, without Flax."""
