"""What a user might write, for type checkers; see tests/test_typing.py."""

from flax import nnx as flax_nnx
import jax
import numpy as np
import optax

import kan_jax


def data(rows: int) -> tuple[np.ndarray, np.ndarray]:
  x = np.random.default_rng(0).uniform(-1, 1, (rows, 2))
  return x, np.exp(np.sin(np.pi * x[:, :1]) + x[:, 1:]**2)


def train() -> kan_jax.Fitted[kan_jax.KAN]:
  x, y = data(1000)
  model = kan_jax.KAN([2, [3, 1], 1], grid=5, order=3)
  variables = model.init(jax.random.key(0), x)
  variables = kan_jax.update_grids(
      model, variables, x, grid_update=kan_jax.GridUpdate(eps=0.5))
  fitted = kan_jax.fit(
      model, variables, x, y, optimizer=optax.adam(1e-2), batch_size=100,
      key=jax.random.key(1), lamb=0.01, penalty=kan_jax.Penalty(l1=0.5),
      validation=(x, y), patience=3)
  return kan_jax.fit(
      fitted.model, fitted.variables, x, y, refine=(5, 10), update_steps=(),
      optimizer=kan_jax.LevenbergMarquardt(smooth=1e-14))


def prune(
    fitted: kan_jax.Fitted[kan_jax.KAN], x: jax.Array) -> kan_jax.KAN:
  scores = kan_jax.attribution(fitted.model, fitted.variables, x)
  model, variables, report = kan_jax.prune_edges(
      fitted.model, fitted.variables, x, threshold=0.03, scores=scores)
  model, variables, report = kan_jax.prune_nodes(
      model, variables, x, fraction=0.5)
  print(report.edges + 1, str(report), list(report.removed_nodes))
  model, variables = kan_jax.refine(model, variables, 20)
  print(len(model.features), model.grid)
  return model


def explain(kan: kan_jax.Network) -> str:
  best = kan.suggest(0, 0, 0)[0]
  name: str = best.name
  r2: float = best.r2
  kan = kan.fix(0, 0, 0, name).auto_symbolic(min_r2=0.9).fit(steps=20)
  kan.plot().savefig('network.png')
  predictions: np.ndarray = kan.predict(np.zeros((3, 2)))
  return f'{r2:.3f} {predictions.mean()} {kan.formula(names=["a", "b"])}'


def table() -> float:
  x, y = data(200)
  regressor = kan_jax.KANRegressor(grid=4).fit(x, y[:, 0])
  found = kan_jax.discover(x, y[:, 0], key=jax.random.key(0))
  print(found.expression, found.error)
  return float(regressor.predict(x).mean())


def keep(fitted: kan_jax.Fitted[kan_jax.KAN]) -> kan_jax.KAN:
  kan_jax.save('model.kan', fitted.model, fitted.variables)
  model, variables = kan_jax.load('model.kan')
  assert isinstance(model, kan_jax.KAN)
  print(sorted(variables), model.grid)
  return model


def nnx(x: jax.Array, fitted: kan_jax.Fitted[kan_jax.KAN]) -> jax.Array:
  model = kan_jax.nnx.KAN([2, 3, 1], grid=4, rngs=flax_nnx.Rngs(0))
  kan_jax.nnx.update_grids(model, x)
  outputs, cost = kan_jax.nnx.with_penalty(model, x)
  model = kan_jax.refine(model, 8)
  model, report = kan_jax.prune_edges(model, x, threshold=0.1)
  print(report)
  linen, variables = kan_jax.nnx.to_linen(model)
  kan_jax.save('network.kan', fitted)
  kan_jax.save('nnx.kan', linen, variables)
  again = kan_jax.nnx.from_linen(fitted.model, fitted.variables)
  loss: jax.Array = outputs.mean() + cost + again(x).mean()
  return loss
