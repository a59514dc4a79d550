"""Which engine evaluates a pipeline's networks."""

from typing import TYPE_CHECKING, Self

from sfumato.errors import EngineError

if TYPE_CHECKING:
    from sfumato.engine.evaluators import Choice, Evaluation, Prepared
    from sfumato.recipe import EngineName, Recipe


class Evaluating:
    """`set_engine`. Mixed into the pipeline, which owns the parts."""

    _engine: "Prepared | Choice | None" = None
    _evaluation: "Evaluation | None" = None
    """Of calls that are drawn together; None: each has its own."""

    def set_engine(self, name: str) -> Self:
        """Let the U-Net and the decoder be evaluated by another engine from now on: the same numbers, to rounding, sooner.

        "eager" is PyTorch layer by layer. "compile" is torch.compile, which takes minutes at the first picture of a size and needs a C++
        compiler. "openvino" is OpenVINO, on a CPU. "graphs" records CUDA graphs. "auto" is whichever this machine has that is clearly faster
        than eager, as measured at a call's first question. What an engine can't do, such as adapters beside the layers, is evaluated eagerly,
        and said. Recipes say the engine. Raises UnknownNameError, or EngineError, with what to install, for one that is not here.
        """
        from sfumato.engine.evaluators import engine_for

        if self._named() != name:
            self._engine = engine_for(name)
        return self

    @property
    def engine(self) -> str:
        """The engine that was set."""
        return self._named()

    def _named(self) -> str:
        from sfumato.engine.evaluators import Prepared

        if self._engine is None:
            return "eager"
        return self._engine.name if isinstance(self._engine, Prepared) else "auto"

    def _new_evaluation(self) -> "Evaluation":
        from sfumato.engine.evaluators import Evaluation

        return self._evaluation or Evaluation(self._engine)

    def _evaluated_as(self, recipe: "Recipe") -> None:
        """Take the engine of a recipe; where it is not here, eager PyTorch, and replay says that the two differ."""
        self._evaluation = None
        try:
            self.set_engine(recipe.engine)
        except EngineError:
            self._engine = None


def engine_versions(engine: "EngineName") -> dict[str, str]:
    """What is known to change an engine's bits, beside the versions that every recipe has."""
    if engine != "openvino":
        return {}
    from importlib.metadata import PackageNotFoundError, version

    try:
        return {"openvino": version("openvino")}
    except PackageNotFoundError:  # a library that was put on the path by hand
        return {}
