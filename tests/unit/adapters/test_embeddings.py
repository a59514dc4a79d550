"""Textual inversion: from every kind of file to a token that stands for its vectors, and back to what was."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.adapters.embeddings import open_embeddings
from sfumato.adapters.inversions import Inversions
from sfumato.errors import AdapterError, CorruptFileError, MissingFileError, OptionError
from sfumato.models import CLIPTextConfig, CLIPTextEncoder
from sfumato.text import Tokenizer

CLIP = Tokenizer.bundled_clip()


def encoder(width: int = 16, vocab_size: int = CLIP.vocab_size, **options: Any) -> CLIPTextEncoder:
    torch.manual_seed(0)
    config = CLIPTextConfig(vocab_size=vocab_size, width=width, layers=1, heads=2, mlp_width=16, **options)
    return CLIPTextEncoder(config).eval()


@pytest.fixture
def text() -> dict[str, CLIPTextEncoder]:
    return {"text_encoder": encoder()}


VECTORS = torch.arange(48.0).reshape(3, 16)

FILES: dict[str, tuple[Any, str, str]] = {
    "A1111's .pt": (
        {"string_to_token": {"*": 265}, "string_to_param": {"*": VECTORS}, "name": "zorp-7", "step": 500, "sd_checkpoint": None},
        "zorp.pt",
        "zorp-7",
    ),
    "A1111's .pt without a name": ({"string_to_param": {"*": VECTORS}}, "zorp.pt", "zorp"),
    "diffusers' .bin": ({"<zorp>": VECTORS}, "learned_embeds.bin", "<zorp>"),
    "a bare tensor": (VECTORS, "zorp.pt", "zorp"),
    ".safetensors with emb_params": ({"emb_params": VECTORS}, "zorp.safetensors", "zorp"),
    "diffusers' .safetensors": ({"<zorp>": VECTORS}, "learned_embeds.safetensors", "<zorp>"),
}  # fmt: skip


def write(tiny: Any, content: Any, name: str) -> Any:
    if name.endswith(".safetensors"):
        return tiny.save(content, name)
    torch.save(content, tiny.folder / name)
    return tiny.folder / name


@pytest.mark.parametrize(("content", "name", "token"), FILES.values(), ids=FILES.keys())
def test_every_kind_of_file_gives_its_vectors_and_token(
    tiny: Any, text: dict[str, CLIPTextEncoder], content: Any, name: str, token: str
) -> None:
    path = write(tiny, content, name)
    (embedding,) = open_embeddings(path, text)
    assert embedding.token == token
    assert torch.equal(embedding.vectors["text_encoder"], VECTORS)
    assert embedding.sha256 is not None
    (named,) = open_embeddings(path, text, "other")
    assert named.token == "other"


def test_one_vector_may_be_flat_and_a_file_hold_several_tokens(tiny: Any, text: dict[str, CLIPTextEncoder]) -> None:
    path = write(tiny, {"<a-zorp>": VECTORS[0], "<b-zorp>": VECTORS}, "x.bin")
    first, second = open_embeddings(path, text)
    assert (first.token, tuple(first.vectors["text_encoder"].shape)) == ("<a-zorp>", (1, 16))
    assert second.token == "<b-zorp>"
    with pytest.raises(AdapterError, match="holds 2 tokens"):
        open_embeddings(path, text, "zorp")


@pytest.mark.parametrize("keys", [("clip_l", "clip_g"), ("text_encoders_0", "text_encoders_1")])
def test_a_pair_is_for_two_text_encoders(tiny: Any, keys: tuple[str, str]) -> None:
    both = {"text_encoder": encoder(16), "text_encoder_2": encoder(20)}
    path = tiny.save({keys[0]: torch.ones(2, 16), keys[1]: torch.ones(2, 20)})
    (embedding,) = open_embeddings(path, both)
    assert {name: tuple(rows.shape) for name, rows in embedding.vectors.items()} == {
        "text_encoder": (2, 16),
        "text_encoder_2": (2, 20),
    }


def test_embeddings_beside_a_lora_are_told_by_their_mark(tiny: Any, text: dict[str, CLIPTextEncoder]) -> None:
    path = tiny.save({"unet:0:up": torch.ones(4, 2), "<s1>": torch.ones(16)}, metadata={"<s1>": "<embed>"})
    (embedding,) = open_embeddings(path, text)
    assert embedding.token == "<s1>"


WRONG: dict[str, tuple[Mapping[str, Tensor], str]] = {
    "SD 1 on another": (
        {"emb_params": torch.ones(1, 768)},
        r"768 wide \(Stable Diffusion 1\), and this model's text encoder 16",
    ),
    "SD 2 on another": ({"emb_params": torch.ones(1, 1024)}, r"1024 wide \(Stable Diffusion 2\)"),
    "a pair on one encoder": (
        {"clip_l": torch.ones(1, 768), "clip_g": torch.ones(1, 1280)},
        r"768 and 1280 wide \(Stable Diffusion XL\)",
    ),
    "half a pair": ({"clip_g": torch.ones(1, 1280)}, "but no clip_l"),
    "NaN": ({"emb_params": torch.full((1, 16), torch.nan)}, "holds NaN or infinity"),
    "three dimensions": ({"emb_params": torch.ones(1, 1, 16)}, "expected vectors"),
    "no vectors": ({"emb_params": torch.ones(0, 16)}, "expected vectors"),
    "no floats": ({"emb_params": torch.ones(1, 16, dtype=torch.int64)}, "holds no embedding"),
}


@pytest.mark.parametrize(("tensors", "said"), WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_or_is_damaged_is_said(
    tiny: Any, text: dict[str, CLIPTextEncoder], tensors: Mapping[str, Tensor], said: str
) -> None:
    with pytest.raises(AdapterError, match=said):
        open_embeddings(tiny.save(tensors), text)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x" * 201: VECTORS}, "of 201 letters; expected at most 200"),
        ({"string_to_param": {"*": VECTORS}, "name": "\x1b[2Jzorp"}, r"an embedding for '\\x1b\[2Jzorp', of 8 letters"),
        ({"a\nb": VECTORS}, r"an embedding for 'a\\nb'"),
        ({"<zorp>": torch.ones(1001, 16)}, "is 1,001 vectors; expected at most 1,000"),
        ({f"<zorp{i}>": VECTORS[0].clone() for i in range(101)}, "holds 101 tokens; expected at most 100"),
    ],
    ids=["a long token", "a token that moves the cursor", "a token of two lines", "many vectors", "many tokens"],
)
def test_tokens_that_nobody_writes_are_refused(
    tiny: Any, text: dict[str, CLIPTextEncoder], content: Any, said: str
) -> None:
    path = write(tiny, content, "x.pt")
    with pytest.raises(AdapterError, match=said) as caught:
        open_embeddings(path, text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_missing_or_cut_file_is_said(tiny: Any, text: dict[str, CLIPTextEncoder]) -> None:
    with pytest.raises(MissingFileError):
        open_embeddings(tiny.folder / "absent.pt", text)
    path = write(tiny, {"<zorp>": VECTORS}, "x.bin")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CorruptFileError):
        open_embeddings(path, text)


# -- in a model --------------------------------------------------------------------------------------------------------


def loaded(tiny: Any, text: dict[str, CLIPTextEncoder], inversions: Inversions, **files: Tensor) -> Tokenizer:
    embeddings = [
        e
        for name, rows in files.items()
        for e in open_embeddings(tiny.save({"emb_params": rows}, f"{name}.safetensors"), text)
    ]
    tokenizer = inversions.plain["text_encoder"].current if inversions.plain else CLIP
    return inversions.load(embeddings, {"text_encoder": tokenizer}, text)["text_encoder"]


def test_a_token_stands_for_its_vectors_and_unloading_gives_the_table_back(
    tiny: Any, text: dict[str, CLIPTextEncoder]
) -> None:
    network, inversions = text["text_encoder"], Inversions()
    table, bits = network.token_embedding.weight, network.token_embedding.weight.clone()
    loaded(tiny, text, inversions, zorp=VECTORS)
    tokenizer = loaded(tiny, text, inversions, blub=-VECTORS[:1])
    ids = tokenizer.token_ids("a zorp, blub")
    assert torch.equal(network.token_embedding(torch.tensor(ids))[1:4], VECTORS)
    assert torch.equal(network.token_embedding(torch.tensor(ids))[-1], -VECTORS[0])
    assert network.config.vocab_size == CLIP.vocab_size + 4
    assert torch.equal(network.token_embedding.weight[: CLIP.vocab_size], bits)

    tokenizer = inversions.unload(["ZORP"], {"text_encoder": tokenizer}, text)["text_encoder"]
    assert torch.equal(network.token_embedding(torch.tensor(tokenizer.token_ids("blub")))[0], -VECTORS[0])
    tokenizer = inversions.unload(None, {"text_encoder": tokenizer}, text)["text_encoder"]
    assert tokenizer is CLIP
    assert network.token_embedding.weight is table
    assert torch.equal(table, bits)
    assert (network.config.vocab_size, network.token_embedding.num_embeddings) == (CLIP.vocab_size, CLIP.vocab_size)
    with pytest.raises(OptionError, match="no embedding 'zorp' is loaded; loaded are none"):
        inversions.unload(["zorp"], {"text_encoder": tokenizer}, text)


def test_a_word_or_a_token_that_is_there_is_refused_and_nothing_changes(
    tiny: Any, text: dict[str, CLIPTextEncoder]
) -> None:
    network, inversions = text["text_encoder"], Inversions()
    loaded(tiny, text, inversions, zorp=VECTORS)
    table = network.token_embedding.weight
    for name, said in (
        ("cat", "is a word of this model's vocabulary"),
        ("zorp", "is there already"),
        ("zorp_1", "is there already"),
    ):
        with pytest.raises(AdapterError, match=said):
            loaded(tiny, text, inversions, **{name: VECTORS})
    assert network.token_embedding.weight is table
    assert [embedding.token for embedding in inversions.embeddings] == ["zorp"]


def test_rows_that_no_token_had_are_used_first(tiny: Any) -> None:
    text = {"text_encoder": encoder(vocab_size=CLIP.vocab_size + 2)}
    tokenizer = loaded(tiny, text, Inversions(), zorp=VECTORS)
    network = text["text_encoder"]
    assert torch.equal(network.token_embedding(torch.tensor(tokenizer.token_ids("zorp"))), VECTORS)
    assert network.config.vocab_size == CLIP.vocab_size + 3


def test_the_end_token_stays_where_the_pooled_vector_is_read(tiny: Any) -> None:
    text = {"text_encoder": encoder(eos_token_id=2)}
    network = text["text_encoder"]
    ids = torch.tensor([CLIP.encode("a cat").ids])
    before = network(ids).pooled
    tokenizer = loaded(tiny, text, Inversions(), zorp=VECTORS)
    assert torch.equal(network(ids).pooled, before)
    # The token's ids are above the end token's.
    ids = torch.tensor([tokenizer.encode("a zorp").ids])
    network.config = replace(network.config, eos_token_id=tokenizer.end_id)
    right = network(ids).pooled
    assert torch.equal(network(ids).pooled, right)
    assert not torch.equal(right, before)


def test_a_tokenizer_with_more_tokens_than_the_table_has_vectors_is_refused(tiny: Any) -> None:
    text = {"text_encoder": encoder(vocab_size=99)}
    with pytest.raises(AdapterError, match="take both from one model"):
        loaded(tiny, text, Inversions(), zorp=VECTORS)


def test_the_table_goes_where_its_encoder_goes(tiny: Any, text: dict[str, CLIPTextEncoder]) -> None:
    network, inversions = text["text_encoder"], Inversions()
    tokenizer = loaded(tiny, text, inversions, zorp=VECTORS)
    network.to(torch.float16)
    inversions.unload(None, {"text_encoder": tokenizer}, text)
    assert network.token_embedding.weight.dtype == torch.float16
