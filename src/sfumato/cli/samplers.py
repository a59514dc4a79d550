"""`sfumato samplers`: which there are."""

from sfumato.cli.terminal import table


def samplers() -> None:
    """List the samplers and spacings."""
    from sfumato.diffusion.samplers import SAMPLERS, SPACINGS

    rows = [("name", "title", "order", "evaluations a step", "noise", "source")]
    for info in SAMPLERS.values():
        noise = "each step" if info.stochastic else "start only"
        rows.append((info.name, info.title, str(info.order), str(info.evaluations_per_step), noise, info.paper))
    table(rows)
    print(f"\nspacings: {', '.join(SPACINGS)}")
