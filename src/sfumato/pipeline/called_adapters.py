"""The adapters that prompts call: `<lora:name:0.8>`."""

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from sfumato.adapters.loaded import LoadedAdapters
from sfumato.errors import PromptError
from sfumato.pipeline.request import Text
from sfumato.recipe import Emphasis
from sfumato.text.prompts import NetworkCall, parse_prompt


def called_adapters(
    texts: Sequence[Text], emphasis: Emphasis, loaded: LoadedAdapters
) -> dict[str, Mapping[str, float]]:
    """The weights by network of each loaded adapter that the prompts of one call name, second ones too, by its own name or its file's.

    Raises PromptError for one that is not loaded, or where the prompts don't all call the same.
    """
    calls = [
        tuple(
            call
            for words in (text.prompt, text.prompt_2)
            if words is not None
            for call in parse_prompt(words, emphasis).networks
        )
        for text in texts
    ]
    if any(each != calls[0] for each in calls):
        raise PromptError(
            "the prompts of one call name different networks, or other weights; draw them in calls of their own"
        )
    return {_name(call, loaded): _weights(call) for call in (calls[0] if calls else ())}


def _name(call: NetworkCall, loaded: LoadedAdapters) -> str:
    if call.name in loaded.by_name:
        return call.name
    files = {PurePath(adapter.file).stem: name for name, adapter in loaded.by_name.items()}
    if call.name not in files:
        known = ", ".join(dict.fromkeys([*loaded.by_name, *files])) or "none"
        raise PromptError(
            f"the prompt calls {call.name!r}, and no adapter of that name is loaded (loaded: {known}); "
            "load it first: load_lora_weights(…)"
        )
    return files[call.name]


def _weights(call: NetworkCall) -> dict[str, float]:
    return {"unet": call.unet_weight, "text_encoder": call.text_weight, "text_encoder_2": call.text_weight}
