"""`sfumato samplers`: which there are, and which schedules."""

from typing import Annotated

import typer

from sfumato.cli.terminal import table


def samplers(
    schedules: Annotated[
        bool, typer.Option("--schedules", help="List the schedules in place of the samplers.")
    ] = False,
) -> None:
    """List the samplers with order, cost, noise, other names and paper; or the schedules."""
    from sfumato.diffusion.samplers import SAMPLERS, SCHEDULES, SPACINGS

    if schedules:
        table([("name", "title", "source"), *((info.name, info.title, info.paper) for info in SCHEDULES.values())])
        print("\nautomatic: the schedule that AUTOMATIC1111's web UI has for the sampler, shown by `sfumato samplers`")
        return
    noise = {"start": "start only", "steps": "each step", "path": "a path"}
    rows = [("name", "title", "order", "evaluations a step", "noise", "automatic", "also", "source")]
    for info in SAMPLERS.values():
        order = "–" if info.order is None else str(info.order)
        cost = str(info.evaluations_per_step)
        also = ", ".join(info.aliases)
        rows.append((info.name, info.title, order, cost, noise[info.noise], info.schedule, also, info.paper))
    table(rows)
    print(f"\nschedules: {', '.join(SPACINGS)} (sfumato samplers --schedules)")
