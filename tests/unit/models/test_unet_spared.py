"""A U-Net of which only the outside is evaluated, or some of whose positions are merged."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from sfumato.models import UNet, UNetConfig
from sfumato.models.deep_features import DeepFeatures
from sfumato.models.freeu import FreeU
from sfumato.models.merging import Merging, partition

SMALL = UNetConfig(
    channels=(16, 32, 32),
    blocks_per_level=2,
    attention=(True, True, False),
    heads=(2, 4, 4),
    depth=(1, 2, 1),
    context_dim=12,
    norm_groups=8,
    sample_size=8,
)
DEPTHS = range(len(SMALL.channels) * (SMALL.blocks_per_level + 1) - 1)
FREEU = FreeU(s1=0.9, s2=0.2, b1=1.2, b2=1.4)


@pytest.fixture(scope="module")
def unet() -> UNet:
    torch.manual_seed(0)
    network = UNet(SMALL).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))
    return network


def inputs(rows: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, 4, 12, 8, generator=generator)
    return x, torch.linspace(0, 999, rows), torch.randn(rows, 5, 12, generator=generator)


def called(unet: UNet, *given: object, **said: object) -> list[str]:
    names: list[str] = []
    parts = [*unet.down.named_children(), *unet.middle.named_children(), *unet.up.named_children()]
    wheres = ["down"] * len(unet.down) + ["middle"] * len(unet.middle) + ["up"] * len(unet.up)
    hooks = [
        part.register_forward_hook(lambda *_, name=f"{where} {name}": names.append(name))
        for where, (name, part) in zip(wheres, parts, strict=True)
    ]
    unet(*given, **said)
    for hook in hooks:
        hook.remove()
    return names


@pytest.mark.parametrize("freeu", [None, FREEU], ids=["plain", "freeu"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_what_was_kept_of_a_question_answers_it_again(unet: UNet, depth: int, freeu: FreeU | None) -> None:
    plain = unet(*inputs(), freeu=freeu)
    deep = DeepFeatures(depth)
    assert torch.equal(unet(*inputs(), freeu=freeu, deep=deep), plain), "keeping changes no bit"
    assert deep.features is not None
    assert torch.equal(unet(*inputs(), freeu=freeu, deep=deep), plain), "the same outside, the same inside"
    x, timesteps, context = inputs()
    whole = unet(0.9 * x, timesteps, context, freeu=freeu)
    spared = unet(0.9 * x, timesteps, context, freeu=freeu, deep=deep)
    assert not torch.equal(spared, plain), "what lies outside is evaluated anew"
    assert not torch.equal(spared, whole), "what lies inside is not"


def test_only_the_outside_is_evaluated(unet: UNet) -> None:
    deep = DeepFeatures(1)
    assert len(called(unet, *inputs(), deep=deep)) == len(unet.down) + len(unet.middle) + len(unet.up)
    assert called(unet, *inputs(), deep=deep) == ["down 0", f"up {len(unet.up) - 2}", f"up {len(unet.up) - 1}"]
    counts: list[int] = []
    for depth in DEPTHS:
        unet(*inputs(), deep=(deep := DeepFeatures(depth)))
        counts.append(len(called(unet, *inputs(), deep=deep)))
    assert all(fewer < more for fewer, more in pairwise(counts))


def test_a_position_that_stays_is_one_of_four() -> None:
    stays, others = partition(6, 4)
    assert sorted([*stays.tolist(), *others.tolist()]) == list(range(24))
    assert sorted((place // 4 // 2, place % 4 // 2) for place in stays.tolist()) == [
        (i, j) for i in range(3) for j in range(2)
    ]
    stays, others = partition(5, 3)
    assert (len(stays), len(others)) == (2, 13)
    assert all(torch.equal(one, again) for one, again in zip(partition(5, 3), (stays, others), strict=True))


def test_merged_positions_are_the_mean_of_those_that_are_alike() -> None:
    size = torch.Size((6, 8))
    stays, others = partition(*size)
    x = torch.randn(2, 48, 5, generator=torch.Generator().manual_seed(0))
    # Twelve of the others are nearly one that stays, at some length, and therefore the first to go.
    x[:, others[:12]] = x[:, stays[3:4]] * 2
    merged, back = Merging(frozenset[nn.Module](), 0.25)(x, size)
    assert merged.shape == (2, 36, 5)
    torch.testing.assert_close(merged[:, 36 - len(stays) + 3], x[:, stays[3]] * 25 / 13)
    returned = back(merged)
    alone = torch.ones(48, dtype=torch.bool)
    alone[others[:12]] = alone[stays[3]] = False
    assert torch.equal(returned[:, alone], x[:, alone]), "positions that are not merged come back where they were"
    for place in others[:12]:
        assert torch.equal(returned[:, place], returned[:, stays[3]])
    torch.testing.assert_close(merged.sum(1) + 12 * merged[:, 36 - len(stays) + 3], x.sum(1))


def test_nothing_to_merge_changes_no_bit(unet: UNet) -> None:
    assert torch.equal(unet(*inputs(), merging=unet.merging_positions(0.0)), unet(*inputs()))
    x = torch.randn(1, 1, 3)
    assert Merging(frozenset[nn.Module](), 0.75)(x, torch.Size((1, 1)))[0] is x


def test_rows_are_merged_each_for_itself(unet: UNet) -> None:
    x, timesteps, context = inputs(3)
    merging = unet.merging_positions(0.5)
    together = unet(x, timesteps, context, merging=merging)
    assert not torch.allclose(together, unet(x, timesteps, context), atol=1e-3)
    for row in range(3):
        alone = unet(x[row : row + 1], timesteps[row : row + 1], context[row : row + 1], merging=merging)
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-4, rtol=1e-4)


def test_only_the_largest_maps_are_merged(unet: UNet) -> None:
    places: list[tuple[str, int]] = []
    names = unet.self_attentions()
    hooks = [
        unet.get_submodule(name).register_forward_hook(
            lambda _, given, __, name=name: places.append((name, given[0].shape[1]))
        )
        for name in names
    ]
    unet(*inputs(), merging=unet.merging_positions(0.5))
    for hook in hooks:
        hook.remove()
    assert [name for name, _ in places] == names
    assert {count for _, count in places} == {48, 24, 6}, "96 positions became 48; 24 and 6 stayed"
    assert sum(count == 48 for _, count in places) == SMALL.blocks_per_level + SMALL.blocks_per_level + 1
