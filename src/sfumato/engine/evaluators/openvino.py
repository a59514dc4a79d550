"""The engine `openvino`: networks converted for Intel's library, which fuses and schedules them for the processor. `sfumato[openvino]`.

A network is converted once for all shapes and lies in the engines' folder under the hash of its weights; for each shape it is fixed and
compiled anew, which takes seconds.
"""

import logging
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.engine.evaluators.evaluation import Ready
from sfumato.engine.evaluators.storage import engines_folder, weights_hash, whole_folder
from sfumato.engine.evaluators.task import Form, Task
from sfumato.errors import EngineError
from sfumato.models.latent_upscaler import LatentUpscaler
from sfumato.recipe import EngineName
from sfumato.version import __version__

logger = logging.getLogger("sfumato")

FORMAT = 1
"""Counted up when a network is converted in another way."""


class OpenVINO:
    """OpenVINO on the processor, in float32 throughout."""

    name: EngineName = "openvino"

    def __init__(self) -> None:
        """Raises EngineError where OpenVINO is not installed."""
        try:
            self._library: Any = import_module("openvino")
        except ImportError as error:
            raise EngineError(
                "the engine 'openvino' is not installed; run pip install 'sfumato[openvino]', or use the engine 'eager'"
            ) from error
        self._core = self._library.Core()

    @property
    def version(self) -> str:
        """The library's version."""
        return str(self._library.__version__)

    def prepare(self, task: Task) -> Ready:
        """The network for the task's shapes. Raises EngineError on another device, in another precision, and for a latent upscaler."""
        if any(each.device.type != "cpu" or each.dtype != torch.float32 for each in task.inputs):
            raise EngineError("it computes in float32 on a CPU alone")
        if isinstance(task.network, LatentUpscaler):  # 2026.4 ends the whole process while it compiles one
            raise EngineError("it can't compile a latent upscaler")
        model = self._model(task)
        model.reshape(dict(enumerate(list(each.shape) for each in task.inputs)))
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = self._core.compile_model(model, "CPU", options).create_infer_request()

        def answer(inputs: Sequence[Tensor]) -> Tensor:
            values = {place: each.detach().contiguous().numpy() for place, each in enumerate(inputs)}
            request.infer(values, share_inputs=True)
            return torch.tensor(request.get_output_tensor(0).data)

        return answer

    def _model(self, task: Task) -> Any:
        """The converted network, of any shape: read where it was converted before, else converted, and kept."""
        slicing = getattr(task.network, "attention_slicing", None)
        beside = (task.function.__name__, task.form, slicing, FORMAT, __version__, torch.__version__, self.version)
        folder = engines_folder() / "openvino" / weights_hash(task.network, *beside)
        if not (folder / "model.xml").is_file():
            model = self._converted(task)
            try:
                with whole_folder(folder) as hidden:
                    self._library.save_model(model, hidden / "model.xml", compress_to_fp16=False)
            except (OSError, RuntimeError) as error:
                logger.info("the converted network is not kept for the next process: %s", error)
                return model
        return self._core.read_model(folder / "model.xml")

    def _converted(self, task: Task) -> Any:
        # One row: whatever the trace takes for a constant is then a 1, which spreads over any number of rows.
        rows = tuple(each[:1].contiguous() for each in task.inputs)
        kind = self._library.Type.f32
        shapes = [(self._library.PartialShape([-1] * each.ndim), kind) for each in rows]
        traced = _Traced(task).eval()
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, that what it saw may be a constant: answers are checked
            return self._library.convert_model(traced, example_input=rows, input=shapes)


class _Traced(nn.Module):
    """A task's function as a module of tensors alone."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.network = task.network
        self._function = task.function
        self._form: Form = task.form

    def forward(self, *inputs: Tensor) -> Tensor:
        return self._function(self.network, self._form, *inputs)
