"""What a figure is held against, and how that is shown."""

from dataclasses import asdict, dataclass


@dataclass
class Aim:
    """One figure and the aim that it must reach."""

    what: str
    measured: str
    aim: str
    met: bool


def result(tables: list[tuple[list[str], list[list[str]]]], aims: list[Aim], notes: str = "") -> dict:
    """What a scenario gives back: tables of figures, aims, and what has to be known to read them."""
    return {"tables": tables, "aims": [asdict(aim) for aim in aims], "notes": notes}


def at_most(what: str, value: float, most: float, shape: str = "{:,.2f}") -> Aim:
    return Aim(what, shape.format(value), "at most " + shape.format(most), value <= most)


def at_least(what: str, value: float, least: float, shape: str = "{:,.2f}") -> Aim:
    return Aim(what, shape.format(value), "at least " + shape.format(least), value >= least)


def none_of(what: str, count: int) -> Aim:
    return Aim(what, f"{count:,}", "none", count == 0)
