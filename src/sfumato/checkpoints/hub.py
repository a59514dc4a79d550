"""Models by name from the Hugging Face hub, into its own cache."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypeGuard

from sfumato.checkpoints.card import FILES
from sfumato.checkpoints.folder import COMPONENTS, NETWORKS
from sfumato.checkpoints.index import INDEX
from sfumato.checkpoints.weights import has_weights
from sfumato.errors import DownloadError, OptionError

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def is_hub_id(name: object) -> TypeGuard[str]:
    """Whether this can be a model's name on the hub ("owner/name", or the few that are one word) rather than a path only.

    Says nothing of whether there is such a model; a folder of that name goes first wherever either is taken.
    """
    return isinstance(name, str) and HUB_ID.fullmatch(name) is not None


def fetch(
    model_id: str,
    *,
    revision: str | None = None,
    variant: str | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    cache_dir: Path | str | None = None,
    only: Sequence[str] | None = None,
) -> Path:
    """The folder of a model such as "owner/name", downloaded unless the hub's cache already has it.

    Only what `open_folder` reads: configs, tokenizer, and the weights of one variant, or those without a variant of a component that
    hasn't it; as safetensors, or as pickles (`.bin`) of a component that has nothing else. `only` names the files wanted (patterns) instead. `token` is an access token, or True for the one that is logged
    in. With `local_files_only` the network is not touched.
    Raises DownloadError if there is no such model or revision, it may not be had, or the hub can't be reached; OptionError for a
    name that can't be a model's.
    """
    # Imported here: it is slow to import, and most runs need no network.
    from huggingface_hub import errors, snapshot_download  # pyright: ignore[reportUnknownVariableType] (its progress bar is untyped)
    from huggingface_hub.errors import (
        GatedRepoError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    download = partial(
        snapshot_download,
        model_id,
        revision=revision,
        token=token,
        local_files_only=local_files_only,
        cache_dir=cache_dir,
    )
    of_revision = f" at revision {revision!r}" if revision else ""
    try:
        folder = download(allow_patterns=patterns(variant) if only is None else list(only))
        # What the hub has is known once its small files are here: which components come as pickles only, or without the variant.
        if only is None:
            if lacking := without_weights(Path(folder), variant):
                download(allow_patterns=weights(lacking, variant, pickled=True))
            if variant and (lacking := without_variant(Path(folder), variant)):
                download(allow_patterns=weights(lacking, None))
                if lacking := [name for name in without_weights(Path(folder), None) if name in lacking]:
                    download(allow_patterns=weights(lacking, None, pickled=True))
    except HFValidationError:
        raise OptionError(
            f"{model_id!r} is neither a folder that exists nor a model's name on the hub, such as 'owner/name'"
        ) from None
    except GatedRepoError as error:
        raise DownloadError(
            f"{model_id} is gated; accept its terms on its page and pass a token of that account"
        ) from error
    except RepositoryNotFoundError as error:
        raise DownloadError(
            f"the hub has no model {model_id}, or it is private; check the name, or pass a token that may read it"
        ) from error
    except RevisionNotFoundError as error:
        raise DownloadError(
            f"{model_id} has no revision {revision!r}; give one of its branches, tags or commits"
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        cause = error.__cause__ or error
        if local_files_only:
            why = "local_files_only forbids asking the hub"
        elif isinstance(cause, OfflineModeIsEnabled):
            why = "HF_HUB_OFFLINE forbids asking the hub"
        else:
            why = f"the hub can't be reached ({first_line(cause)})"
        # Only newer releases of the client tell whether all of a model is there.
        in_part = isinstance(error, getattr(errors, "IncompleteSnapshotError", ()))
        raise DownloadError(
            f"{model_id}{of_revision} is {'only in part' if in_part else 'not'} in the cache, and {why}; "
            "connect once, or give the path of a model on this machine"
        ) from error
    except Exception as error:  # of whichever library of several the hub's client asks the network by
        raise DownloadError(
            f"{model_id}{of_revision} could not be downloaded ({first_line(error)}); try again"
        ) from error
    return Path(folder)


def first_line(error: BaseException) -> str:
    """What an error says in its first line, or what it is."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def patterns(variant: str | None) -> list[str]:
    """Which files of a model repository are wanted: those of one variant, whole or in shards, and none of its other formats."""
    return [INDEX, *FILES, "*/*.json", "*/*.txt", *weights(NETWORKS, variant)]


def weights(networks: Sequence[str], variant: str | None, *, pickled: bool = False) -> list[str]:
    """The weights of some networks in one variant, as patterns."""
    infix = f".{variant}" if variant else ""
    kind = "bin" if pickled else "safetensors"
    return [
        f"{network}/{stem}{part}"
        for network in networks
        for stem in ("diffusion_pytorch_model", "pytorch_model" if pickled else "model")
        for part in dict.fromkeys((f"{infix}.{kind}", f"{infix}-*-of-*.{kind}", f"-*-of-*{infix}.{kind}"))
    ]


def without_weights(folder: Path, variant: str | None) -> list[str]:
    """The networks of a downloaded model that have no weights of the variant, in any format."""
    there = [part for part in COMPONENTS if (folder / part.name / "config.json").is_file()]
    return [part.name for part in there if not has_weights(folder / part.name, part.stem, variant)]


def without_variant(folder: Path, variant: str) -> list[str]:
    """The networks of a downloaded model that haven't the variant, where others have it."""
    there = [part.name for part in COMPONENTS if (folder / part.name / "config.json").is_file()]
    lacking = without_weights(folder, variant)
    # With no such variant at all, nothing is downloaded in its place: open_folder says so.
    return lacking if len(lacking) < len(there) else []
