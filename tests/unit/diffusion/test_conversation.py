import pytest
import torch

from sfumato.diffusion.conversation import Query, Sampling, Step, run


def two_questions(x: torch.Tensor) -> Sampling:
    first = yield Query(x, 2.0)
    x = yield Step(x + first, 1.0, first)
    second = yield Query(x, 1.0)
    return (yield Step(x + second, 0.0, second))


def test_run_answers_queries_and_takes_steps_as_offered():
    end = run(two_questions(torch.zeros(2)), lambda x, sigma: x + sigma)
    assert end.tolist() == [5.0, 5.0]  # 0 + 2, then 2 + (2 + 1)


def test_run_lets_a_denoiser_s_error_through_and_closes_nothing_twice():
    sampling = two_questions(torch.zeros(2))
    with pytest.raises(RuntimeError, match="out of memory"):
        run(sampling, lambda *_: (_ for _ in ()).throw(RuntimeError("out of memory")))
    sampling.close()


def test_a_stop_raised_by_the_denoiser_is_not_taken_for_the_end():
    def denoise(x, sigma):
        raise StopIteration(x)

    with pytest.raises(StopIteration):
        run(two_questions(torch.zeros(2)), denoise)


def test_what_is_said_can_t_be_changed():
    with pytest.raises(AttributeError):
        Query(torch.zeros(1), 1.0).sigma = 2.0
