"""The choice of the attention kernel as a table, and that all kernels compute the same."""

import logging
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from models.transformers import kernels
from models.transformers.kernels import (
    Installed,
    Task,
    choose,
    explicit,
    first_of,
    in_launches,
    run_kernel,
    run_ragged,
    sdpa,
)
from models.transformers.windows import UNSEEN

BF16, FP32 = torch.bfloat16, torch.float32
NOTHING, FLASH2, ALL_OF_THEM = Installed(), Installed(flash2=True), Installed(True, True, True)


def cuda(scores: Any = "plain", *, dtype: torch.dtype = BF16, head_width: int = 72) -> Task:
    return Task("cuda", dtype, tokens=4096, head_width=head_width, scores=scores)


def cpu(tokens: int, dtype: torch.dtype = FP32, *, learning: bool = False, scores: Any = "plain") -> Task:
    return Task("cpu", dtype, tokens, head_width=32, scores=scores, learning=learning)


@pytest.mark.parametrize(
    ("task", "installed", "kernel"),
    [
        (cuda(), ALL_OF_THEM, "flash3"),
        (cuda(), FLASH2, "flash2"),
        (cuda(), NOTHING, "sdpa"),
        (cuda(dtype=FP32), ALL_OF_THEM, "sdpa"),
        (cuda(head_width=256), ALL_OF_THEM, "flash3"),
        (cuda(head_width=264), ALL_OF_THEM, "sdpa"),
        (cuda(head_width=36), ALL_OF_THEM, "sdpa"),
        (cuda("biased"), ALL_OF_THEM, "sdpa"),
        (cuda("pattern"), ALL_OF_THEM, "flex"),
        (cuda("pattern", dtype=FP32), ALL_OF_THEM, "flex"),
        (cuda("pattern", head_width=8), ALL_OF_THEM, "flash3"),
        (cuda("pattern"), FLASH2, "flash2"),
        (cuda("pattern"), NOTHING, "sdpa"),
        (cpu(8), NOTHING, "explicit"),
        (cpu(9), NOTHING, "sdpa"),
        (cpu(512, learning=True), NOTHING, "sdpa"),
        (cpu(512, BF16), NOTHING, "sdpa"),
        (cpu(512, BF16, learning=True), NOTHING, "explicit"),
        (cpu(513, BF16, learning=True), NOTHING, "sdpa"),
        (cpu(4096, scores="pattern"), NOTHING, "sdpa"),
        (cpu(4, scores="biased"), NOTHING, "explicit"),
    ],
    ids=str,
)
def test_the_kernel_follows_from_the_task_and_what_is_installed(
    task: Task, installed: Installed, kernel: str
):
    assert choose(task, installed) == kernel


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_kernel_chosen_on_a_gpu_equals_the_explicit_form():
    generator = torch.Generator("cuda").manual_seed(0)
    for groups, tokens, width in ((3, 500, 64), (70_000, 20, 72), (2, 300, 128)):
        shape = (groups, tokens, 2, width)
        query, key, value = torch.randn(3, *shape, generator=generator, device="cuda", dtype=BF16)
        exact = explicit(query[:50], key[:50], value[:50], None)
        torch.testing.assert_close(run_kernel(query, key, value)[:50], exact, atol=2e-2, rtol=2e-2)
        ragged = run_ragged([(query, key, value), (query[:, :7], key[:, :7], value[:, :7])])
        torch.testing.assert_close(ragged[0][:50], exact, atol=2e-2, rtol=2e-2)


def test_a_choice_is_logged_once(caplog: pytest.LogCaptureFixture):
    kernels.announce.cache_clear()
    query, key, value = torch.randn(3, 2, 20, 2, 8)
    with caplog.at_level(logging.INFO, kernels.__name__):
        for _ in range(3):
            run_kernel(query, key, value)
    assert [record.getMessage() for record in caplog.records] == [
        "attention on cpu in torch.float32, scores plain: sdpa"
    ]


def test_explicit_and_sdpa_give_the_same_attention():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(6, 5, 2, 8, generator=generator)
    key, value = torch.randn(2, 6, 7, 2, 8, generator=generator)
    bias = torch.where(torch.rand(6, 1, 1, 7, generator=generator) < 0.5, 0.0, UNSEEN)
    for given in (None, bias, bias[:1]):
        torch.testing.assert_close(explicit(query, key, value, given), sdpa(query, key, value, given))


def test_more_groups_than_one_launch_takes_are_split(monkeypatch: pytest.MonkeyPatch):
    query, key, value = torch.randn(3, 10, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    for bias in (None, torch.randn(1, 1, 4, 4), torch.randn(10, 1, 4, 4)):
        whole = sdpa(query, key, value, bias)
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "MAX_GROUPS", 3)
            torch.testing.assert_close(in_launches("sdpa", query, key, value, bias), whole)


def test_a_row_that_sees_nothing_has_no_nan():
    query, key, value = torch.randn(3, 2, 4, 2, 8, generator=torch.Generator().manual_seed(0))
    assert run_kernel(query, key, value, torch.full((2, 1, 1, 4), UNSEEN)).isfinite().all()


def test_flash_attention_may_return_the_values_alone_or_with_statistics():
    values = torch.ones(2)
    assert first_of(values) is values
    assert first_of((values, torch.zeros(2))) is values


def flash_by_definition(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, None]:
    return sdpa(query, key, value, None), None


def ragged_by_definition(
    query: Tensor, key: Tensor, value: Tensor, ends: Tensor, key_ends: Tensor, longest: int, _: int
) -> Tensor:
    """The documented meaning of flash_attn_varlen_func: sequence i is rows ends[i] to ends[i + 1]."""
    assert ends.dtype == torch.int32
    assert torch.equal(ends, key_ends)
    cuts = [slice(start, end) for start, end in pairwise(ends.tolist())]
    assert longest == max(cut.stop - cut.start for cut in cuts)
    return torch.cat([sdpa(query[None, cut], key[None, cut], value[None, cut], None)[0] for cut in cuts])


def test_groups_of_several_lengths_run_in_one_launch_where_flash_attention_is_chosen(
    monkeypatch: pytest.MonkeyPatch,
):
    generator = torch.Generator().manual_seed(0)
    groups = [
        torch.randn(3, count, length, 2, 8, generator=generator).unbind(0)
        for count, length in ((4, 6), (2, 3))
    ]
    expected = run_ragged(groups)
    package = SimpleNamespace(
        flash_attn_func=flash_by_definition, flash_attn_varlen_func=ragged_by_definition
    )
    monkeypatch.setattr(kernels, "flash_module", lambda _: package)
    monkeypatch.setattr(kernels, "choose_for", lambda *_: "flash2")
    for mine, wanted in zip(run_ragged(groups), expected, strict=True):
        torch.testing.assert_close(mine, wanted)
    torch.testing.assert_close(run_kernel(*groups[0]), expected[0])
