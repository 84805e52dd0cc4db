"""The date and time at which a run begins: for half of the seeds, shortly before something happens in the calendar.

The moments are the same in each time zone, so that a seed has the same random numbers, and repeats a failure, on each
machine. So midnight is that of UTC, and clocks are changed as they are in Europe and America.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from railtracks.testing._virtual_time._choices import Choices, seeded_choices
from railtracks.testing._virtual_time._clock import WALL
from railtracks.testing._virtual_time._scheduler import SIMPLE_SEEDS

_FIRST_YEAR = 2024
_YEARS = 16
_BEFORE = (0.5, 5.0, 30.0, 600.0, 7200.0)
"""How many seconds before the moment the run begins."""
_LONG_MONTHS = (1, 1, 3, 5, 8, 10, 12)
_SUNDAY = 6


def drawn_wall(seed: int) -> float:
    """Return what ``time.time()`` is when the run of a seed begins."""
    if 0 <= seed < SIMPLE_SEEDS:
        return WALL
    choices = seeded_choices(seed, "date")
    if choices.choose(2):
        return WALL
    moment = _MOMENTS[choices.choose(len(_MOMENTS))](choices, _FIRST_YEAR + choices.choose(_YEARS))
    return moment.timestamp() - _BEFORE[choices.choose(len(_BEFORE))]


def _midnight(choices: Choices, year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=choices.choose(365))


def _end_of_month(choices: Choices, year: int) -> datetime:
    return datetime(year, 1 + choices.choose(12), 1, tzinfo=UTC)


def _end_of_year(_: Choices, year: int) -> datetime:
    return datetime(year, 1, 1, tzinfo=UTC)


def _leap_day(choices: Choices, year: int) -> datetime:
    begin = datetime(year - year % 4, 2, 29, tzinfo=UTC)
    return begin + timedelta(hours=12 * choices.choose(3))


def _last_day_of_long_month(choices: Choices, year: int) -> datetime:
    """Return a time at a day that most months have not."""
    return datetime(year, _LONG_MONTHS[choices.choose(len(_LONG_MONTHS))], 31, 8 + choices.choose(12), tzinfo=UTC)


def _change_of_clocks(choices: Choices, year: int) -> datetime:
    """Return when clocks are put forward or back, in the European Union or at the east coast of North America."""
    in_spring, in_europe = choices.choose(2), choices.choose(2)
    if in_europe:
        return _sunday_from(datetime(year, 3 if in_spring else 10, 25, 1, tzinfo=UTC))
    begin = datetime(year, 3, 8, 7, tzinfo=UTC) if in_spring else datetime(year, 11, 1, 6, tzinfo=UTC)
    return _sunday_from(begin)


def _sunday_from(day: datetime) -> datetime:
    return day + timedelta(days=_SUNDAY - day.weekday())


def _end_of_32_bits(_: Choices, __: int) -> datetime:
    return datetime(2038, 1, 19, 3, 14, 8, tzinfo=UTC)


_MOMENTS: tuple[Callable[[Choices, int], datetime], ...] = (
    _midnight, _end_of_month, _end_of_year, _leap_day, _last_day_of_long_month, _last_day_of_long_month,
    _change_of_clocks, _end_of_32_bits,
)  # fmt: skip
