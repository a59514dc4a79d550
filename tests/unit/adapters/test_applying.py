"""Adapters beside the layers and merged into them: the same change, and nothing of it left afterwards."""

import copy
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.adapters.adapter import Adapter
from sfumato.adapters.beside import NO_ADAPTERS, ActiveAdapters, Weighted, add_sides
from sfumato.adapters.merging import Merger
from sfumato.adapters.opening import adapter_of
from sfumato.errors import AdapterError, UnsupportedError


def lora(tiny: Any, seed: int) -> Adapter:
    torch.manual_seed(seed)
    return adapter_of(tiny.kohya(), tiny.networks, f"lora {seed}")


def active(*parts: tuple[Adapter, float, float]) -> ActiveAdapters:
    return ActiveAdapters(tuple(Weighted(one, {"unet": u, "text_encoder": t}) for one, u, t in parts))


def answers_with(tiny: Any, adapters: ActiveAdapters) -> tuple[Tensor, Tensor]:
    with adapters.beside("unet", tiny.unet), adapters.beside("text_encoder", tiny.text):
        return tiny.answers()


def test_beside_is_as_merged(tiny: Any) -> None:
    one, two = lora(tiny, 1), lora(tiny, 2)
    plain = tiny.answers()
    beside = answers_with(tiny, active((one, 0.7, 0.3), (two, -0.4, 1.2)))
    mergers = {"unet": Merger(), "text_encoder": Merger()}
    mergers["unet"].merge(tiny.unet, "unet", [(one, 0.7), (two, -0.4)])
    mergers["text_encoder"].merge(tiny.text, "text_encoder", [(one, 0.3), (two, 1.2)])
    for before, side, merged in zip(plain, beside, tiny.answers(), strict=True):
        assert (side - before).abs().max() > 0.05
        torch.testing.assert_close(side, merged, atol=1e-5, rtol=1e-5)


def test_nothing_is_left_after_an_evaluation(tiny: Any) -> None:
    plain, state = tiny.answers(), {k: v.clone() for k, v in tiny.unet.state_dict().items()}
    answers_with(tiny, active((lora(tiny, 1), 1.0, 1.0)))
    assert all(map(torch.equal, tiny.answers(), plain))
    assert tiny.unet.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in tiny.unet.state_dict().items())


def test_weights_of_zero_and_no_adapters_change_no_bit(tiny: Any) -> None:
    one = lora(tiny, 1)
    plain = tiny.answers()
    answers_with(tiny, active((one, 1.0, 1.0)))  # the hooks are there now
    for nothing in (NO_ADAPTERS, active((one, 0.0, 0.0))):
        assert all(map(torch.equal, answers_with(tiny, nothing), plain))


def test_each_network_has_its_own_weight(tiny: Any) -> None:
    one = lora(tiny, 1)
    plain = tiny.answers()
    unet_only = answers_with(tiny, active((one, 1.0, 0.0)))
    text_only = answers_with(tiny, active((one, 0.0, 1.0)))
    assert not torch.equal(unet_only[0], plain[0])
    assert torch.equal(unet_only[1], plain[1])
    assert torch.equal(text_only[0], plain[0])
    assert not torch.equal(text_only[1], plain[1])


def test_the_order_of_adapters_does_not_matter(tiny: Any) -> None:
    one, two = lora(tiny, 1), lora(tiny, 2)
    there = answers_with(tiny, active((one, 0.5, 0.5), (two, 0.5, 0.5)))
    back = answers_with(tiny, active((two, 0.5, 0.5), (one, 0.5, 0.5)))
    for a, b in zip(there, back, strict=True):
        torch.testing.assert_close(a, b)


def test_equal_choices_are_equal(tiny: Any) -> None:
    one = lora(tiny, 1)
    assert active((one, 0.5, 1.0)) == active((one, 0.5, 1.0))
    assert hash(active((one, 0.5, 1.0))) == hash(active((one, 0.5, 1.0)))
    assert active((one, 0.5, 1.0)) != active((one, 0.6, 1.0))
    assert active((lora(tiny, 1), 0.5, 1.0)) != active((one, 0.5, 1.0))


def test_threads_share_a_network_and_not_its_adapters(tiny: Any) -> None:
    choices = [NO_ADAPTERS, *(active((lora(tiny, seed), 1.0, 1.0)) for seed in (1, 2))]
    alone = [answers_with(tiny, choice)[0] for choice in choices]
    got: list[Tensor] = [torch.empty(0)] * len(choices)
    meet = threading.Barrier(len(choices))

    def draw(i: int) -> None:
        with choices[i].beside("unet", tiny.unet):
            meet.wait()  # all are inside their blocks now
            got[i] = tiny.answers()[0]
            meet.wait()

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(len(choices))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(map(torch.equal, got, alone))


def test_a_copied_network_is_hooked_once(tiny: Any) -> None:
    one = active((lora(tiny, 1), 1.0, 1.0))
    expected = answers_with(tiny, one)
    tiny.networks["unet"] = copy.deepcopy(tiny.unet)
    assert all(map(torch.equal, answers_with(tiny, one), expected))
    for module in tiny.unet.modules():
        assert list(module._forward_hooks.values()).count(add_sides) <= 1


def test_adapters_follow_a_network_into_another_precision(tiny: Any) -> None:
    one = active((lora(tiny, 1), 1.0, 1.0))
    expected = answers_with(tiny, one)[0]
    tiny.unet.double()
    with one.beside("unet", tiny.unet), torch.no_grad():
        g = torch.Generator().manual_seed(1)
        x, context = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 5, 16, generator=g)
        got = tiny.unet(x.double(), 500, context.double())
    assert got.dtype == torch.float64
    torch.testing.assert_close(got.float(), expected, atol=1e-4, rtol=1e-4)


def test_a_compiled_network_says_that_it_can_t(tiny: Any) -> None:
    compiled = torch.compile(tiny.unet, backend="eager")
    one = active((lora(tiny, 1), 1.0, 1.0))
    with pytest.raises(UnsupportedError, match="merge them with fuse_lora"), one.beside("unet", compiled):
        pass
    with NO_ADAPTERS.beside("unet", compiled):
        pass


# -- merging -----------------------------------------------------------------------------------------------------------


def bits(network: nn.Module) -> dict[str, Tensor]:
    return {key: tensor.clone().view(torch.uint8) for key, tensor in network.state_dict().items()}


def same_bits(network: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[key]) for key, tensor in bits(network).items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_unmerging_gives_the_original_bits_and_objects_back(tiny: Any, dtype: torch.dtype) -> None:
    tiny.unet.to(dtype)
    before, objects = bits(tiny.unet), dict(tiny.unet.named_parameters())
    merger = Merger()
    merger.merge(tiny.unet, "unet", [(lora(tiny, 1), 1.0)])
    assert not same_bits(tiny.unet, before)
    merger.merge(tiny.unet, "unet", [(lora(tiny, 1), 0.3), (lora(tiny, 2), 2.0)])
    merger.restore(tiny.unet)
    assert same_bits(tiny.unet, before)
    assert all(parameter is objects[name] for name, parameter in tiny.unet.named_parameters())


def test_merging_again_starts_from_the_original(tiny: Any) -> None:
    one, two = lora(tiny, 1), lora(tiny, 2)
    again, once = Merger(), Merger()
    again.merge(tiny.unet, "unet", [(one, 1.0)])
    again.merge(tiny.unet, "unet", [(one, 1.0), (two, 0.5)])
    got = bits(tiny.unet)
    again.restore(tiny.unet)
    once.merge(tiny.unet, "unet", [(one, 1.0), (two, 0.5)])
    assert same_bits(tiny.unet, got)


def test_a_cast_between_rounds_as_it_would_have_unmerged(tiny: Any) -> None:
    merger = Merger()
    merger.merge(tiny.unet, "unet", [(lora(tiny, 1), 1.0)])
    tiny.unet.to(torch.float16)
    merger.cast(torch.float16)
    tiny.unet.to(torch.float32)
    merger.cast(torch.float32)
    merger.restore(tiny.unet)
    got = bits(tiny.unet)
    plain = type(tiny)(tiny.folder).unet.to(torch.float16).to(torch.float32)
    assert same_bits(plain, got)


def test_a_bias_that_was_not_there_is_gone_again(tiny: Any) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {f"{name}.diff": torch.randn(8, 8), f"{name}.diff_b": torch.randn(8)}
    adapter = adapter_of(tensors, tiny.networks, "full")
    beside = answers_with(tiny, active((adapter, 1.0, 1.0)))[0]
    keys, merger = tiny.unet.state_dict().keys(), Merger()
    merger.merge(tiny.unet, "unet", [(adapter, 1.0)])
    torch.testing.assert_close(tiny.answers()[0], beside, atol=1e-5, rtol=1e-5)
    merger.restore(tiny.unet)
    assert tiny.unet.state_dict().keys() == keys


def test_a_merge_that_would_overflow_is_refused_whole(tiny: Any) -> None:
    tiny.unet.half()
    one = lora(tiny, 1)
    merger = Merger()
    merger.merge(tiny.unet, "unet", [(one, 1.0)])
    merged = bits(tiny.unet)
    with pytest.raises(AdapterError, match="would not be finite in float16"):
        merger.merge(tiny.unet, "unet", [(one, 1.0), (lora(tiny, 2), 1e9)])
    assert same_bits(tiny.unet, merged)
    assert merger.merged == [(one, 1.0)]
