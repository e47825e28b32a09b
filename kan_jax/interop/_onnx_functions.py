"""Functions of one number, written as operators of ONNX.

JAX traces the function; each of its primitives becomes an operator, or a few.
So base functions and the functions on edges need no table of their own, and a
user's function is exported as it is.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import jax
from jax.extend import core
import numpy as np
from onnx import helper

# Opset 18 of 2022; the IR version of that release.
OPSET, _IR_VERSION = 18, 8

_SAME = {
    'abs': 'Abs', 'acos': 'Acos', 'acosh': 'Acosh', 'add': 'Add',
    'add_any': 'Add', 'and': 'And', 'asin': 'Asin', 'asinh': 'Asinh',
    'atan': 'Atan', 'atanh': 'Atanh', 'ceil': 'Ceil', 'cos': 'Cos',
    'cosh': 'Cosh', 'div': 'Div', 'eq': 'Equal', 'erf': 'Erf', 'exp': 'Exp',
    'floor': 'Floor', 'ge': 'GreaterOrEqual', 'gt': 'Greater',
    'le': 'LessOrEqual', 'log': 'Log', 'logistic': 'Sigmoid', 'lt': 'Less',
    'max': 'Max', 'min': 'Min', 'mul': 'Mul', 'neg': 'Neg', 'not': 'Not',
    'or': 'Or', 'pow': 'Pow', 'sign': 'Sign', 'sin': 'Sin', 'sinh': 'Sinh',
    'sqrt': 'Sqrt', 'sub': 'Sub', 'tan': 'Tan', 'tanh': 'Tanh', 'xor': 'Xor'}
_NOTHING = ('broadcast_in_dim', 'copy', 'copy_p', 'reshape', 'stop_gradient')
# Primitives that call a function, and the names of it in their parameters.
_CALLS = (
    'checkpoint', 'closed_call', 'core_call', 'custom_jvp_call',
    'custom_vjp_call', 'custom_vjp_call_jaxpr', 'jit', 'pjit', 'remat')
_INNER = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')

Value = str | np.ndarray  # The name of a value of the graph, or a constant.


class Graph:
  """A graph in the making: operators and constants.

  Attributes:
    dtype: Type of its numbers, float32 or float64.
  """

  def __init__(self, dtype: jax.typing.DTypeLike):
    self.dtype = np.dtype(dtype)
    self._nodes: list[Any] = []
    self._constants: list[Any] = []

  def add(self, operator: str, *inputs: Value, **attributes: Any) -> str:
    """Adds an operator; returns the name of its output."""
    output = f'{operator}_{len(self._nodes)}'
    self._nodes.append(helper.make_node(
        operator, [self._name(value) for value in inputs], [output],
        **attributes))
    return output

  def _name(self, value: Value) -> str:
    """Returns the name of a value, which may be a new constant."""
    if isinstance(value, str):
      return value
    array = np.asarray(value)
    if np.issubdtype(array.dtype, np.floating):
      array = array.astype(self.dtype)
    name = f'constant_{len(self._constants)}'
    self._constants.append(helper.make_tensor(
        name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape,
        array.tobytes(), raw=True))
    return name

  def model(
      self, y: str, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    """Returns an `onnx.ModelProto` from 'x', [batch, *inputs], to `y`."""
    kind = helper.np_dtype_to_tensor_dtype(self.dtype)
    self._nodes.append(helper.make_node('Identity', [y], ['y']))
    graph = helper.make_graph(
        self._nodes, 'kan',
        [helper.make_tensor_value_info('x', kind, ['batch', *inputs])],
        [helper.make_tensor_value_info('y', kind, ['batch', *outputs])],
        self._constants)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', OPSET)],
        ir_version=_IR_VERSION, producer_name='kan_jax')


def apply(
    graph: Graph, fn: Callable[[jax.Array], jax.Array], x: str,
    name: str) -> str:
  """Adds a function of every number in `x`; returns the name of its values.

  Args:
    graph: The graph.
    fn: The function, elementwise.
    x: Name of its argument.
    name: What the function is called, for the error.

  Raises:
    ValueError: If ONNX has no operator for something that it does.
  """
  with jax.enable_x64(graph.dtype == np.float64):
    traced = jax.make_jaxpr(fn)(jax.ShapeDtypeStruct((), graph.dtype))
  y, = _run(graph, traced.jaxpr, traced.consts, [x], name)
  # A function without its argument, such as zero, has one value alone.
  return graph.add('Expand', y, graph.add('Shape', x)) if (
      not isinstance(y, str)) else y


def _run(
    graph: Graph, jaxpr: Any, consts: Sequence[Any], inputs: Sequence[Value],
    name: str) -> list[Value]:
  """Adds the equations of a traced function; returns its results."""
  values: dict[Any, Value] = dict(zip(
      [*jaxpr.constvars, *jaxpr.invars],
      [*map(np.asarray, consts), *inputs], strict=True))

  def read(variable: Any) -> Value:
    if isinstance(variable, core.Literal):
      aval: Any = variable.aval
      return np.asarray(variable.val, aval.dtype)
    return values[variable]

  for equation in jaxpr.eqns:
    given = [read(variable) for variable in equation.invars]
    if equation.primitive.name in _CALLS:
      inner = next(equation.params[key] for key in _INNER
                   if key in equation.params)
      results = _run(
          graph, getattr(inner, 'jaxpr', inner), getattr(inner, 'consts', ()),
          given, name)
    else:
      results = [_add(
          graph, equation.primitive.name, equation.params, given, name)]
    values.update(zip(equation.outvars, results, strict=True))
  return [read(variable) for variable in jaxpr.outvars]


def _add(
    graph: Graph, primitive: str, params: Mapping[str, Any],
    given: Sequence[Value], name: str) -> Value:
  """Adds one primitive of JAX; returns its value."""
  add, one = graph.add, np.ones((), graph.dtype)
  if primitive in _SAME:
    return add(_SAME[primitive], *given)
  if primitive in _NOTHING:
    return given[0]
  if primitive == 'convert_element_type':
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(params['new_dtype']))
    return add('Cast', *given, to=kind)
  if primitive == 'integer_pow':
    return add('Pow', *given, np.asarray(params['y'], graph.dtype))
  if primitive == 'select_n' and len(given) == 3:
    return add('Where', given[0], given[2], given[1])
  if primitive == 'clamp':
    return add('Min', add('Max', given[1], given[0]), given[2])
  if primitive == 'ne':
    return add('Not', add('Equal', *given))
  if primitive == 'square':
    return add('Mul', given[0], given[0])
  if primitive == 'rsqrt':
    return add('Reciprocal', add('Sqrt', *given))
  if primitive == 'cbrt':
    root = add('Pow', add('Abs', *given), one / 3)
    return add('Mul', add('Sign', *given), root)
  if primitive == 'expm1':
    return add('Sub', add('Exp', *given), one)
  if primitive == 'log1p':
    return add('Log', add('Add', *given, one))
  if primitive == 'exp2':
    return add('Pow', 2 * one, *given)
  raise ValueError(
      f'`model` cannot be exported to ONNX: {name} uses the primitive '
      f'{primitive!r} of JAX, for which no operator is known.')
