"""Simple graphs of ComfyUI as settings: one sampler from empty latents, with one prompt either way, and LoRAs on a checkpoint.

What a graph has beyond that is named. Of several samplers in a row, the one nearest to the empty latents is taken.
"""

import re
from collections.abc import Iterator
from pathlib import PureWindowsPath

from sfumato.errors import MetadataError
from sfumato.metadata.comfy_graph import Graph, Node, is_link
from sfumato.metadata.draft import NOT_KNOWN, Draft, number, parsed_table, whole
from sfumato.metadata.names import COMFY_SAMPLERS, COMFY_SCHEDULES, STOCHASTIC
from sfumato.metadata.settings import NamedLora, Settings

SAMPLERS = ("KSampler", "KSamplerAdvanced")
OUTPUTS = ("SaveImage", "PreviewImage", "SaveAnimatedWEBP")
CHECKPOINTS = ("CheckpointLoaderSimple", "CheckpointLoader", "ImageOnlyCheckpointLoader", "unCLIPCheckpointLoader")
LORAS = ("LoraLoader", "LoraLoaderModelOnly")
EMPTY = ("EmptyLatentImage", "EmptySD3LatentImage")
ENCODERS = ("CLIPTextEncode",)

MOST_TRIED = 100
LATER = "a later pass: only the first is drawn"
LATER_NOISE = "ComfyUI draws the noise of later steps on its device, from another generator"


def read_comfyui(prompt: str) -> Settings:
    """The settings of the graph in a `prompt` text. Raises MetadataError for a text that is none, or a graph without a sampler."""
    graph = Graph(parsed_table(prompt, "the picture's graph"))
    draft = Draft("ComfyUI", emphasis="comfy")
    read: set[str] = set()
    sampler = _first_sampler(graph, draft, read)
    _sampling(graph, sampler, draft)
    _latents(graph, sampler, draft, read)
    for field, name in (("prompt", "positive"), ("negative_prompt", "negative")):
        _text(graph, sampler, draft, read, field, name)
    _model(graph, sampler, draft, read)
    for node in graph.nodes.values():
        if node.id not in read and node.kind not in (*OUTPUTS, "VAEDecode", "VAELoader", "Note", "MarkdownNote"):
            draft.omit(f"node {node.id}", node.kind, NOT_KNOWN)
    return draft.settings()


def _first_sampler(graph: Graph, draft: Draft, read: set[str]) -> Node:
    """The sampler whose latents are not another's, on the way back from the first picture that is saved."""
    nodes = list(graph.nodes.values())
    ends = [node for node in nodes if node.kind in OUTPUTS]
    if len(ends) > 1:
        draft.omit("pictures", ", ".join(f"node {node.id}" for node in ends[:20]), "the first that is saved is taken")
    # A picture that is saved, or where none is, a sampler.
    for start in [*ends[:MOST_TRIED], *[node for node in nodes if node.kind in SAMPLERS][:1]]:
        way = graph.chain(start, "images", "image", "samples", "latent_image", "pixels")
        if samplers := [node for node in way if node.kind in SAMPLERS]:
            break
    else:
        raise MetadataError(
            f"the picture's graph has no {' or '.join(SAMPLERS)}; other samplers of ComfyUI are not read"
        )
    for later in samplers[:-1]:
        draft.omit(f"node {later.id}", later.kind, LATER)
    read.update(node.id for node in samplers)
    return samplers[-1]


def _sampling(graph: Graph, sampler: Node, draft: Draft) -> None:
    """Seed, steps, guidance, sampler and schedule."""
    advanced = sampler.kind == "KSamplerAdvanced"
    draft.whole("seed", "seed", graph.value(sampler, "noise_seed" if advanced else "seed"))
    steps = draft.whole("steps", "steps", graph.value(sampler, "steps"))
    draft.number("guidance_scale", "cfg", graph.value(sampler, "cfg"))
    named, schedule = graph.value(sampler, "sampler_name"), graph.value(sampler, "scheduler")
    known = COMFY_SAMPLERS.get(named) if isinstance(named, str) else None
    if known is None:
        draft.omit("sampler_name", named, "Sfumato does not know this sampler")
    else:
        draft.values["sampler"] = known
        if known in STOCHASTIC:
            draft.omit("noise of later steps", named, LATER_NOISE)
    levels = COMFY_SCHEDULES.get(schedule) if isinstance(schedule, str) else None
    if levels is None:
        draft.omit("scheduler", schedule, "Sfumato does not know this schedule")
    else:
        draft.values["schedule"] = levels
    if not advanced:
        if number(denoise := graph.value(sampler, "denoise")) != 1.0 and denoise is not None:
            draft.omit("denoise", denoise, "the picture is drawn from noise alone")
        return
    start, end = whole(graph.value(sampler, "start_at_step")), whole(graph.value(sampler, "end_at_step"))
    if start:
        draft.omit("start_at_step", start, "all steps are taken")
    if steps is not None and end is not None and end < steps:
        draft.omit("end_at_step", end, "all steps are taken")
    if graph.value(sampler, "add_noise") == "disable":
        draft.omit("add_noise", "disable", "the picture is drawn from noise")


def _latents(graph: Graph, sampler: Node, draft: Draft, read: set[str]) -> None:
    """The size, and which of a batch the picture may be."""
    way = list(graph.chain(graph.linked(sampler, "latent_image"), "samples", "latent_image", "pixels"))
    empty = next((node for node in way if node.kind in EMPTY), None)
    for node in way:
        read.add(node.id)
        if node is not empty:
            draft.omit(f"node {node.id}", node.kind, "the picture is drawn from noise alone")
    if empty is None:
        draft.omit("latent_image", sampler.inputs.get("latent_image"), "its size is not told")
        return
    for side in ("width", "height"):
        draft.whole(side, side, graph.value(empty, side))
    batch = graph.value(empty, "batch_size")
    if batch is not None and (count := draft.whole("noise_count", "batch_size", batch)) is not None and count > 1:
        draft.omit("batch_size", count, "which of the batch this is, it does not say; the noise of the first is taken")


def _text(graph: Graph, sampler: Node, draft: Draft, read: set[str], field: str, name: str) -> None:
    """A prompt: that of the first text encoder on the way."""
    # A node that changes both prompts has one input for each, by the names that the sampler has for them.
    inputs = ("conditioning", "conditioning_1", "conditioning_to", name)
    way = list(graph.chain(graph.linked(sampler, name), *inputs))
    encoder = next((node for node in way if node.kind in ENCODERS), None)
    for node in way:
        read.add(node.id)
        if node is not encoder:
            draft.omit(f"node {node.id}", node.kind, f"the {name} prompt is the first text on its way")
    if encoder is None:
        draft.omit(name, sampler.inputs.get(name), "no CLIPTextEncode is on its way")
        return
    draft.text(field, name, graph.value(encoder, "text"))
    if is_link(encoder.inputs.get("text")) and (source := graph.linked(encoder, "text")) is not None:
        read.add(source.id)
    _clip(graph, encoder, draft, read)


def _clip(graph: Graph, encoder: Node, draft: Draft, read: set[str]) -> None:
    """The layers of the text encoder that are left out."""
    for node in graph.chain(graph.linked(encoder, "clip"), "clip", "model"):
        if node.kind == "CLIPSetLastLayer" and node.id not in read:
            read.add(node.id)
            layer = whole(graph.value(node, "stop_at_clip_layer"))
            if layer is None or not -1000 < layer < 0:
                draft.omit("stop_at_clip_layer", graph.value(node, "stop_at_clip_layer"), "it is no layer from the end")
            else:
                draft.values["clip_skip"] = -layer - 1


def _model(graph: Graph, sampler: Node, draft: Draft, read: set[str]) -> None:
    """The checkpoint, and the LoRAs on it."""
    loras: list[NamedLora] = []
    for node in graph.chain(graph.linked(sampler, "model"), "model"):
        read.add(node.id)
        if node.kind in LORAS:
            loras += _lora(graph, node, draft)
        elif node.kind in CHECKPOINTS:
            model = draft.text("model", "ckpt_name", graph.value(node, "ckpt_name"))
            if model is not None:
                draft.values["model"] = _stem(model)
        else:
            draft.omit(f"node {node.id}", node.kind, "Sfumato does not know how it changes the model")
    draft.loras += reversed(loras)  # the graph was followed backwards
    if "model" not in draft.values:
        draft.omit("model", sampler.inputs.get("model"), f"no {CHECKPOINTS[0]} is on its way")


def _lora(graph: Graph, node: Node, draft: Draft) -> Iterator[NamedLora]:
    name = graph.value(node, "lora_name")
    weight = number(graph.value(node, "strength_model"))
    text = number(graph.value(node, "strength_clip")) if node.kind == "LoraLoader" else 0.0
    if not isinstance(name, str) or weight is None or text is None:
        draft.omit(f"node {node.id}", node.kind, "its file or its strengths can't be read")
        return
    if weight or text:
        yield NamedLora(name=_stem(name), weight=weight, text_weight=text)


def _stem(file: str) -> str:
    """A file's name without its folders and the suffix of a model."""
    return re.sub(r"\.(safetensors|sft|ckpt|pt|pth|bin)$", "", PureWindowsPath(file).name, flags=re.IGNORECASE)
