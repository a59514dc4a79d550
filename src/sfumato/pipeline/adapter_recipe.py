"""Adapters in recipes: what is written of those that shaped an image, and finding them again."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sfumato.adapters import NO_ADAPTERS, ActiveAdapters, Adapter, Weighted
from sfumato.adapters.embeddings import Embedding
from sfumato.errors import CheckpointError, RecipeError
from sfumato.recipe import Recipe, UsedAdapter

logger = logging.getLogger("sfumato")

Uses = Sequence[tuple[UsedAdapter, Adapter | Embedding]]
"""Adapters as a recipe records them, without their hash, each with what gives the hash."""


def uses_of(beside: ActiveAdapters, merged: Iterable[Weighted], embeddings: Iterable[Embedding]) -> Uses:
    """What shaped an image, in a settled order: merged, beside, embeddings."""
    uses: list[tuple[UsedAdapter, Adapter | Embedding]] = []
    for weighted, is_merged in ((merged, True), (beside.weighted, False)):
        for one in weighted:
            weights = {name: weight for name, weight in one.weights.items() if name in one.adapter.changes}
            uses.append((UsedAdapter(file=one.adapter.file, weights=weights, merged=is_merged), one.adapter))
    uses += [(UsedAdapter(file=one.file, token=one.token), one) for one in embeddings]
    return uses


def hashed(uses: Uses) -> tuple[UsedAdapter, ...]:
    """The same with their hashes, where the files are still those that were opened."""
    return tuple(replace(used, sha256=hash_of(thing)) for used, thing in uses)


def hash_of(thing: Adapter | Embedding) -> str | None:
    """The hash of an adapter's file; None without one, or if it has changed, which the log says."""
    try:
        return thing.sha256
    except CheckpointError as error:
        logger.warning("the recipe goes without the hash of %s: %s", thing.file, error)
        return None


def found_for(
    recipe: Recipe, loaded: Iterable[Adapter], embeddings: Iterable[Embedding]
) -> tuple[ActiveAdapters, list[Weighted]]:
    """The loaded adapters that a recipe names, by their hashes: those beside the model, and those merged into it.

    Raises RecipeError for one that is not loaded, or an embedding that is not.
    """
    by_hash = {hash_of(adapter): adapter for adapter in loaded} if recipe.adapters else {}
    words = {(one.token.lower(), hash_of(one)) for one in embeddings} if recipe.adapters else set()
    beside: list[Weighted] = []
    merged: list[Weighted] = []
    for used in recipe.adapters:
        if used.token is not None:
            if (used.token.lower(), used.sha256) not in words:
                raise missing(
                    used, [one.file for one in embeddings], f"load_textual_inversion(…, token={used.token!r})"
                )
            continue
        adapter = by_hash.get(used.sha256) if used.sha256 is not None else None
        if adapter is None:
            raise missing(used, [one.file for one in by_hash.values()], "load_lora_weights(…)")
        (merged if used.merged else beside).append(Weighted(adapter, dict(used.weights)))
    return ActiveAdapters(tuple(beside)) if beside else NO_ADAPTERS, merged


def missing(used: UsedAdapter, loaded: Sequence[str], how: str) -> RecipeError:
    """The error for an adapter that a recipe names and the pipeline does not have; `loaded` are the files that it has."""
    digest = (used.sha256 or "unknown")[:10]
    other = "another file of that name is loaded" if used.file in loaded else "it is not loaded"
    return RecipeError(
        f"the picture was made with {used.file!r} (sha256 {digest}), and {other}; load that one first: {how}"
    )
