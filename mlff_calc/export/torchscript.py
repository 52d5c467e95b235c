"""A recorded graph of tensor operations as TorchScript.

The graph recorded by export/trace.py holds energy and gradient as one flat list of operators. Its TorchScript therefore
needs neither the sources of the model nor autograd, and looks the same for every backbone and for the fixed-point step.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from mlff_calc.export.check import ExportError

_PYTHON: dict[Any, str] = {
    operator.add: "{} + {}",
    operator.sub: "{} - {}",
    operator.mul: "{} * {}",
    operator.floordiv: "{} // {}",
    operator.neg: "-{}",
    operator.getitem: "{}[{}]",
    torch.ops.aten.sym_size.int: "{}.size({})",
    torch.ops.aten.sym_numel.default: "{}.numel()",
}
"""Source of arithmetic on sizes and of indexing a list."""


def script_of(traced: fx.GraphModule) -> torch.jit.ScriptModule:
    """Build TorchScript with the inputs and outputs of a recorded graph.

    Raises:
        ExportError: an operation has no form in TorchScript; the message names it.
    """
    from torch._functorch.compile_utils import fx_graph_cse  # seconds to import

    holder = type("Recorded", (nn.Module,), {})()  # a class of its own, since modules of one class share their first forward
    lines: list[str] = []
    names: dict[fx.Node, str] = {}
    arguments: list[str] = []
    graph = fx_graph_cse(traced.graph)
    for number, node in enumerate(graph.nodes):
        name = f"v{number}"
        names[node] = name
        if node.op == "placeholder":
            arguments.append(name)
        elif node.op == "get_attr":
            constant = _constant(traced, str(node.target))
            attribute = str(node.target).replace(".", "_")
            holder.register_buffer(attribute, constant.detach())
            lines.append(f"{name} = self.{attribute}")
        elif node.op == "call_function":
            lines.append(f"{name} = {_call(node, names)}")
        elif node.op == "output":
            lines.append("return " + ", ".join(names[value] for value in _flat(node.args[0])))
    script = torch.jit.script(holder)
    signature = ", ".join(["self", *(f"{argument}: Tensor" for argument in arguments)])
    source = "\n".join([f"def forward({signature}):", *(f"    {line}" for line in lines), ""])
    try:
        script.define(source)
    except RuntimeError as error:
        raise ExportError(f"this potential has an operation that TorchScript does not accept: {error}") from error
    return script


def _flat(values: Any) -> list[fx.Node]:
    return [value for value in (values if isinstance(values, (tuple, list)) else [values]) if value is not None]


def _constant(traced: fx.GraphModule, path: str) -> torch.Tensor:
    owner: Any = traced
    for part in path.split("."):
        owner = getattr(owner, part)
    return owner


def _call(node: fx.Node, names: dict[fx.Node, str]) -> str:
    """Write the source of one operation."""
    arguments = [_text(value, names) for value in node.args]
    form = _PYTHON.get(node.target)
    if form is not None:
        return form.format(*arguments)
    if not isinstance(node.target, torch._ops.OpOverload):  # noqa: SLF001 - the public name of this type
        raise ExportError(f"operation {node.target} of this potential has no form in TorchScript")
    keywords = [f"{key}={_text(value, names)}" for key, value in node.kwargs.items()]
    space, name = node.target._schema.name.split("::")  # noqa: SLF001
    return f"torch.ops.{space}.{name}({', '.join(arguments + keywords)})"


def _text(value: Any, names: dict[fx.Node, str]) -> str:
    """Write the source of an argument.

    Raises:
        ExportError: the argument has a type without source.
    """
    if isinstance(value, fx.Node):
        return names[value]
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_text(one, names) for one in value) + "]"
    if isinstance(value, float):
        return f'float("{value}")' if value != value or value in (float("inf"), float("-inf")) else repr(value)
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, torch.device):
        return f'torch.device("{value}")'
    if isinstance(value, (torch.dtype, torch.memory_format, torch.layout)):
        return str(value)
    raise ExportError(f"an operation of this potential has the argument {value!r}, which TorchScript does not accept")
