from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from sfumato.checkpoints import fetch
from sfumato.checkpoints.hub import is_hub_id, patterns
from sfumato.errors import DownloadError, OptionError


def answers(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> list[dict[str, Any]]:
    """Let the hub's client answer with a folder or an error; returns what it is asked."""
    asked: list[dict[str, Any]] = []

    def snapshot_download(model_id: str, **options: Any) -> Any:
        asked.append({"model_id": model_id, **options})
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return asked


def test_options_are_passed_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = answers(monkeypatch, str(tmp_path))
    folder = fetch(
        "owner/name", revision="v2", variant="fp16", token="secret", local_files_only=True, cache_dir=tmp_path
    )
    assert folder == tmp_path
    assert asked == [
        {
            "model_id": "owner/name",
            "revision": "v2",
            "token": "secret",
            "local_files_only": True,
            "cache_dir": tmp_path,
            "allow_patterns": patterns("fp16"),
        }
    ]


REPOSITORY = [
    "README.md",
    "v1-5-pruned.ckpt",
    "v1-5-pruned.safetensors",
    "model_index.json",
    "sfumato.json",
    "vocabulary.txt",
    "words.txt",
    "requirements.txt",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.bin",
    "unet/diffusion_pytorch_model.safetensors",
    "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
    "unet/diffusion_pytorch_model.non_ema.safetensors",
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    "text_encoder/model.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder/model.onnx",
]
SMALL = [
    "model_index.json",
    "sfumato.json",
    "vocabulary.txt",
    "words.txt",
    "tokenizer/merges.txt",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
]


@pytest.mark.parametrize(
    ("variant", "weights"),
    [
        (
            None,
            [
                "unet/diffusion_pytorch_model.safetensors",
                "unet/diffusion_pytorch_model-00001-of-00002.safetensors",
                "text_encoder/model.safetensors",
            ],
        ),
        (
            "fp16",
            [
                "unet/diffusion_pytorch_model.fp16.safetensors",
                "unet/diffusion_pytorch_model.fp16-00001-of-00002.safetensors",
                "text_encoder/model.fp16.safetensors",
            ],
        ),
    ],
)
def test_only_one_variant_and_no_other_format_is_downloaded(variant: str | None, weights: list[str]) -> None:
    wanted = [name for name in REPOSITORY if any(fnmatch(name, pattern) for pattern in patterns(variant))]
    assert sorted(wanted) == sorted(SMALL + weights)


def without_weights(tmp_path: Path, *networks: str) -> Path:
    """A model of which only the small files are here, as after the first answer."""
    for name in (*networks, "tokenizer"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ("merges.txt" if name == "tokenizer" else "config.json")).touch()
    return tmp_path


def test_components_without_the_variant_come_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first answer holds the configs; which weights are wanting is seen in it, and only they are asked for."""
    folder = without_weights(tmp_path, "unet", "vae", "safety_checker")
    asked = answers(monkeypatch, str(folder))
    fetch("owner/name", variant="fp16")
    assert len(asked) == 2, "no such variant: nothing else is downloaded in its place, but pickles of it"
    assert "unet/diffusion_pytorch_model.fp16.bin" in asked[1]["allow_patterns"]
    (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").touch()
    fetch("owner/name", variant="fp16", revision="v2", only=["x"])
    assert len(asked) == 3
    fetch("owner/name", variant="fp16", revision="v2")
    assert {request["revision"] for request in asked[3:]} == {"v2"}
    assert [request["allow_patterns"] for request in asked[4:]] == [
        [
            f"{name}/{stem}{end}.{kind}"
            for name in ("vae", "safety_checker")
            for stem in ("diffusion_pytorch_model", "pytorch_model" if kind == "bin" else "model")
            for end in ends
        ]
        for kind, ends in (
            ("bin", (".fp16", ".fp16-*-of-*", "-*-of-*.fp16")),
            ("safetensors", ("", "-*-of-*")),
            ("bin", ("", "-*-of-*")),
        )
    ]


def test_pickles_come_only_of_components_that_have_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = without_weights(tmp_path, "unet", "text_encoder")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").touch()
    asked = answers(monkeypatch, str(folder))
    fetch("owner/name")
    wanted = [name for name in asked[1]["allow_patterns"] if fnmatch("text_encoder/pytorch_model.bin", name)]
    assert len(asked) == 2
    assert wanted
    assert not any(name.startswith("unet/") for name in asked[1]["allow_patterns"])
    (folder / "text_encoder" / "pytorch_model.bin").touch()
    fetch("owner/name")
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CompVis/stable-diffusion-v1-4", True),
        ("gpt2", True),
        ("a_b/c.d-e", True),
        ("", False),
        (None, False),
        (Path("owner/name"), False),
        ("./model", False),
        ("../model", False),
        ("~/model", False),
        ("/models/sd", False),
        ("models/sd/v1", False),
        ("models/", False),
        ("C:\\models", False),
        ("my model", False),
        ("owner/name\n", False),
    ],
)
def test_what_can_be_a_name_on_the_hub(name: object, expected: bool) -> None:
    assert is_hub_id(name) is expected


# Of what the hub answered, its errors keep only this. Its client has changed the library it asks by, twice.
ANSWER: Any = SimpleNamespace(headers={}, request=None)


class Timeout(Exception):
    """An error of such a library, that is no OSError."""


@pytest.mark.parametrize(
    ("outcome", "message"),
    [
        (errors.GatedRepoError("no", response=ANSWER), "owner/name is gated; accept its terms"),
        (
            errors.RepositoryNotFoundError("no", response=ANSWER),
            "the hub has no model owner/name, or it is private",
        ),
        (errors.RevisionNotFoundError("no", response=ANSWER), "owner/name has no revision 'v2'"),
        (errors.LocalEntryNotFoundError("no"), r"not in the cache, and the hub can't be reached \(no\); connect once"),
        (errors.OfflineModeIsEnabled("no"), "not in the cache, and HF_HUB_OFFLINE forbids asking the hub"),
        (Timeout("it took\ntoo long"), r"could not be downloaded \(it took\)"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
)
def test_what_goes_wrong_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, outcome: Exception, message: str) -> None:
    answers(monkeypatch, outcome)
    with pytest.raises(DownloadError, match=message) as caught:
        fetch("owner/name", revision="v2")
    assert "\n" not in str(caught.value)


def test_without_the_network_and_an_empty_cache(tmp_path: Path) -> None:
    with pytest.raises(
        DownloadError, match="owner/name is not in the cache, and local_files_only forbids asking the hub"
    ):
        fetch("owner/name", local_files_only=True, cache_dir=tmp_path)


def test_a_name_that_no_model_has() -> None:
    with pytest.raises(OptionError, match="neither a folder that exists nor a model's name"):
        fetch("./no/such/folder")
