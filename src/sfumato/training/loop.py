"""The loop of every training run: a rate, a loss, a step; and now and then a line, a checkpoint, a look."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sfumato.engine import reusing_memory
from sfumato.errors import TrainingError
from sfumato.training.run import RunFolder


@reusing_memory()
def run_steps(
    folder: RunFolder,
    optimizer: Optimizer,
    *,
    first: int,
    loss_at: Callable[[int], Tensor],
    state: Callable[[], Mapping[str, Any]],
    show: Callable[[int], Mapping[str, float]],
    progress: Callable[[str], None],
    after_step: Callable[[int], None] | None = None,
    saved: Callable[[int], None] | None = None,
) -> None:
    """Take the steps from `first` to the run's end: till its images are drawn or its time is spent. The folder is this process's (`begun`).

    `loss_at` gives a step's loss, `after_step` is called when its update is done, `state` is what a checkpoint holds besides the step
    and the optimizer, `saved` is called when one is written, or is the last already, and `show` looks at the model after so many steps and
    returns what it measured.
    Raises TrainingError when a loss or a gradient is not finite. On a CPU that is before the step is taken; a GPU is not kept waiting for
    an answer at each step, so there it is before the next line, checkpoint or look: the last checkpoint stays good either way.
    """
    config = folder.config
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    waits = _waits(trained)
    unseen: list[tuple[int, Tensor, Tensor]] = []
    losses: list[float] = []
    folder.start(first)
    if folder.share(first) >= 1:  # it was at its end when it was started
        if saved is not None:
            saved(first)
        return
    for step in range(first, config.steps):
        # Where the time ends between two steps, during a look or a checkpoint, one more is taken, at no rate, and the run ends as others do.
        share = folder.share(step)
        rate = config.learning_rate.at(step * config.batch, share)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_at(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # One NaN makes the norm NaN, and clipping by it spreads it to every gradient. A recorded graph answers in one place each time: the
        # loss is copied out.
        unseen.append((step, loss.detach().clone(), nn.utils.clip_grad_norm_(trained, config.gradient_clip)))
        if waits:
            losses += _finite(unseen, taken=False)
        optimizer.step()
        if after_step is not None:
            after_step(step)

        done = step + 1
        last = folder.share(done) >= 1
        logs, saves, shows = (last or done % n == 0 for n in (config.log_every, config.save_every, config.show_every))
        if logs or saves or shows:
            losses += _finite(unseen, taken=True)
        if logs:
            progress(folder.log(done, loss=sum(losses) / len(losses), learning_rate=rate))
            losses.clear()
        if saves:
            folder.save(done, optimizer=optimizer.state_dict(), **state())
            if saved is not None:
                saved(done)
        if shows and (scores := show(done)):
            progress(folder.log(done, **scores))
        if last:
            break


def _waits(trained: Sequence[Tensor]) -> bool:
    """Whether each step's outcome is looked at before it is taken: a GPU would stand still meanwhile."""
    return all(parameter.device.type == "cpu" for parameter in trained)


def _finite(unseen: list[tuple[int, Tensor, Tensor]], *, taken: bool) -> list[float]:
    """The losses of steps not looked at yet, which are thereby. Raises TrainingError for one that is not finite, or whose gradient is not."""
    if not unseen:
        return []
    values = torch.stack([torch.stack((loss, norm)) for _, loss, norm in unseen]).tolist()
    for (step, _, _), numbers in zip(unseen, values, strict=True):
        for what, value in zip(("loss", "norm of the gradient"), numbers, strict=True):
            if not math.isfinite(value):
                outcome = "which came after the last checkpoint" if taken else "which was not taken"
                raise TrainingError(
                    f"the {what} is {value} at step {step}, {outcome}; lower learning_rate.peak and begin again in another folder."
                )
    unseen.clear()
    return [loss for loss, _ in values]
