"""How numbers, amounts and times are written."""

from __future__ import annotations

import calendar
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

MONTHS = 12
"""Number of months that the pages offer."""


def amount(value: object) -> Decimal | None:
    """A number of the API as a decimal. None: it is not one."""
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def usd(value: object) -> str:
    """An amount in USD, with cents, or with six places if it is less than a cent."""
    found = amount(value)
    if found is None:
        return "–"
    places = Decimal("0.01") if not found or abs(found) >= Decimal("0.01") else Decimal("0.000001")
    return f"${found.quantize(places, ROUND_HALF_EVEN):,}"


def count(value: object) -> str:
    """A number with separators, and at most two places."""
    found = amount(value)
    if found is None:
        return "–"
    if found == found.to_integral_value():
        return f"{int(found):,}"
    return f"{found.quantize(Decimal('0.01'), ROUND_HALF_EVEN):,}"


def percent(value: object) -> str:
    """A share as a percentage."""
    found = amount(value)
    return "–" if found is None else f"{100 * found:.1f} %"


def moment(value: object) -> str:
    """A time of the API, in UTC and to the minute."""
    return _time(value, "%Y-%m-%d %H:%M UTC")


def instant(value: object) -> str:
    """A time of the API, in UTC and to the second."""
    return _time(value, "%Y-%m-%d %H:%M:%S UTC")


def _time(value: object, form: str) -> str:
    if not isinstance(value, str) or not value:
        return "–"
    try:
        return datetime.fromisoformat(value).astimezone(UTC).strftime(form)
    except (ValueError, OverflowError):
        return value


def periods(today: date) -> list[str]:
    """The last months, the present one first, such as 2026-11."""
    months = [today.year * 12 + today.month - 1 - back for back in range(MONTHS)]
    return [f"{month // 12}-{month % 12 + 1:02}" for month in months]


def bounds(period: str) -> tuple[str, str]:
    """Begin of a month and of the next one, in RFC 3339."""
    year, month = int(period[:4]), int(period[5:])
    following = f"{year + month // 12}-{month % 12 + 1:02}"
    return f"{period}-01T00:00:00Z", f"{following}-01T00:00:00Z"


def days(period: str) -> list[str]:
    """All days of a month."""
    year, month = int(period[:4]), int(period[5:])
    return [f"{period}-{day:02}" for day in range(1, calendar.monthrange(year, month)[1] + 1)]


def forecast(spent: Decimal, now: datetime) -> Decimal:
    """What will have been spent at the end of the month, if the rest of it costs as much a second as so far.

    The first hour counts as a whole one, so that a single early request does not become a fortune.
    """
    begin = datetime(now.year, now.month, 1, tzinfo=UTC)
    whole = calendar.monthrange(now.year, now.month)[1] * 86400
    gone = max((now - begin).total_seconds(), 3600)
    return spent * whole / Decimal(gone)


def future(value: object) -> bool:
    """Whether a time of the API has not come yet."""
    try:
        return datetime.fromisoformat(str(value)) > datetime.now(UTC)
    except (ValueError, TypeError):
        return False


_BYTES = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_THOUSANDS = ("", " k", " M", " G", " T")
_UNITS = {"reqps": "/s", "ops": "/s", "celsius": " °C", "percent": " %", "rotmhz": " MHz", "watt": " W"}


def measure(value: float, unit: str) -> str:
    """A measured value with its unit. `unit`: one of Grafana's names, such as "bytes" or "reqps"; unknown: no unit."""
    if unit in ("bytes", "Bps"):
        return f"{_scaled(value, 1024, _BYTES)}{'/s' if unit == 'Bps' else ''}"
    if unit == "currencyUSD":
        return usd(value)
    if unit == "percentunit":
        return f"{_digits(100 * value)} %"
    if unit in ("s", "ms"):
        return _duration(value if unit == "s" else value / 1000)
    return f"{_scaled(value, 1000, _THOUSANDS)}{_UNITS.get(unit, '')}"


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    """A value below the base, with the unit of its power."""
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return f"{_digits(value)}{' ' if base == 1024 else ''}{units[power]}"


def _digits(value: float) -> str:
    """At most three significant digits, without an exponent where people can do without."""
    size = abs(value)
    if size < 0.1 or size >= 1e6:
        return f"{value:.2g}"
    shown = f"{value:.{2 if size < 10 else 1 if size < 100 else 0}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def _duration(seconds: float) -> str:
    for least, length, unit in ((86400, 86400, "d"), (3600, 3600, "h"), (60, 60, "min"), (1, 1, "s")):
        if abs(seconds) >= least:
            return f"{_digits(seconds / length)} {unit}"
    return f"{_digits(1000 * seconds)} ms"
