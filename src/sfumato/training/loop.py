"""The loop of every training run: a rate, a loss, a step; and now and then a line, a checkpoint, a look."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sfumato.errors import TrainingError
from sfumato.training.run import RunFolder


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
) -> None:
    """Take the steps from `first` to the end of the folder's config.

    `loss_at` gives a step's loss, `after_step` is called when its update is done, `state` is what a checkpoint holds besides the step
    and the optimizer, and `show` looks at the model after so many steps and returns what it measured. Raises TrainingError when a loss
    or a gradient is not finite, before the step is taken: the weights, and the last checkpoint, stay good.
    """
    config = folder.config
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    losses: list[float] = []
    for step in range(first, config.steps):
        rate = config.learning_rate.at(step * config.batch, config.images)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = loss_at(step)
        losses.append(_finite("loss", loss.item(), step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        # One NaN makes the norm NaN, and clipping by it spreads it to every gradient.
        _finite("norm of the gradient", nn.utils.clip_grad_norm_(trained, config.gradient_clip).item(), step)
        optimizer.step()
        if after_step is not None:
            after_step(step)

        done = step + 1
        last = done == config.steps
        if last or done % config.log_every == 0:
            progress(folder.log(done, loss=sum(losses) / len(losses), learning_rate=rate))
            losses.clear()
        if last or done % config.save_every == 0:
            folder.save(done, optimizer=optimizer.state_dict(), **state())
        if (last or done % config.show_every == 0) and (scores := show(done)):
            progress(folder.log(done, **scores))


def _finite(what: str, value: float, step: int) -> float:
    if not math.isfinite(value):
        raise TrainingError(
            f"the {what} is {value} at step {step}, which was not taken; lower learning_rate.peak and begin again in another folder."
        )
    return value
