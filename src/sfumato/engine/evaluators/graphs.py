"""The engine `graphs`: a network's kernels recorded once as a CUDA graph and started all at once, which spares the processor's part."""

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.engine.evaluators.evaluation import Ready
from sfumato.engine.evaluators.task import Task
from sfumato.errors import EngineError
from sfumato.recipe import EngineName

WARM_UPS = 3
"""Evaluations before the recording, in which libraries choose their kernels and take their memory."""


class CUDAGraphs:
    """CUDA graphs, one a shape. They compute by the same kernels as eager PyTorch."""

    name: EngineName = "graphs"

    def __init__(self) -> None:
        """Raises EngineError where there is no CUDA device."""
        if not torch.cuda.is_available():
            raise EngineError(
                "the engine 'graphs' records CUDA graphs, and this machine has no CUDA device that PyTorch can use; use the engine 'eager'"
            )

    def prepare(self, task: Task) -> Ready:
        """Record the task's evaluation. Raises EngineError for a network that is not on a CUDA device."""
        if any(each.device.type != "cuda" for each in task.inputs):
            raise EngineError("CUDA graphs are of networks on a CUDA device")
        inputs = tuple(each.clone(memory_format=torch.preserve_format) for each in task.inputs)
        reference = weakref.ref(task.network)
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(WARM_UPS):
                task.function(task.network, task.form, *inputs)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            output = task.function(task.network, task.form, *inputs)

        def answer(given: Sequence[Tensor]) -> Tensor:
            assert reference() is not None, "a graph reads its network's weights where they lay"
            for place, tensor in zip(inputs, given, strict=True):
                place.copy_(tensor)
            graph.replay()
            return output.clone()

        return answer
