"""FRED's API: series and series/observations with real-time windows and vintages.

Parameters, output types and error bodies follow fred.stlouisfed.org/docs/api/fred. A call without
a real-time window means today, so it stamps all history with today's date; `output_type` 4
without a window means the first releases of all time.
"""

from collections.abc import Sequence
from datetime import date

from sandbox.limits import CallWindow
from sandbox.macro import FOREVER, MacroSeries, Vintage, market_today
from sandbox.path import MINUTE_MS
from sandbox.replies import Call, Params, Reply, json_reply
from sandbox.world import World

CALL_LIMIT = 120
MOST_ROWS = 100_000
MOST_VINTAGES = 2000
BEGINNING = date(1776, 7, 4)
KEY_HELP = "Read https://fred.stlouisfed.org/docs/api/api_key.html for more information."


class _BadRequest(Exception):
    """A call that FRED answers with 400 and this message."""


class Fred:
    """Answers calls below `/fred/fred`."""

    name = "fred"

    def __init__(self, world: World) -> None:
        self._world = world
        self._window = CallWindow(CALL_LIMIT, MINUTE_MS)

    def endpoint(self, path: str) -> str:
        """The name a path is counted under."""
        return path

    def over_limit(self, call: Call) -> Reply | None:
        """Count the call; the 429 when it is one too many in this minute."""
        if self._window.spend(call.now_ms, 1):
            return None
        return self.rate_limited(self._window.retry_after(call.now_ms, self._world.clock.speed))

    def rate_limited(self, retry_after: int) -> Reply:
        """The answer to a call above the limit."""
        body = {"error_code": 429, "error_message": "Too Many Requests.  Exceeded Rate Limit"}
        return json_reply(body, 429, {"Retry-After": str(retry_after)})

    def answer(self, call: Call) -> Reply:
        """The answer to one call."""
        try:
            if call.path in ("series", "series/observations"):
                _check_key(call.params)
                series = self._series(call)
                if call.params.get("file_type", "xml") != "json":
                    raise _BadRequest("Variable file_type must be json here.")
                if call.path == "series":
                    return self._metadata(call, series)
                return self._observations(call, series)
        except _BadRequest as refused:
            return json_reply({"error_code": 400, "error_message": f"Bad Request.  {refused}"}, 400)
        return json_reply({"error_code": 404, "error_message": "Not Found"}, 404)

    def _series(self, call: Call) -> MacroSeries:
        name = call.params.get("series_id", "")
        if not name:
            raise _BadRequest("Variable series_id has not been set.")
        if len(name) > 25 or not name.isalnum() or not name.isascii():
            raise _BadRequest(
                "Invalid value for variable series_id.  "
                "Series IDs should be 25 or less alphanumeric characters."
            )
        series = self._world.series(name.upper(), call.now_ms)
        if series is None:
            raise _BadRequest("The series does not exist.")
        return series

    def _metadata(self, call: Call, series: MacroSeries) -> Reply:
        today = market_today(call.now_ms).isoformat()
        public = list(series.vintages(call.now_ms))
        facts = series.facts
        row = {
            "id": series.name,
            "realtime_start": today,
            "realtime_end": today,
            "title": facts.title,
            "observation_start": public[0].day.isoformat() if public else today,
            "observation_end": public[-1].day.isoformat() if public else today,
            "frequency": "Daily",
            "frequency_short": "D",
            "units": facts.units,
            "units_short": facts.units,
            "seasonal_adjustment": "Not Seasonally Adjusted",
            "seasonal_adjustment_short": "NSA",
            "last_updated": f"{max((v.start for v in public), default=today)} 16:30:00-06",
            "popularity": 80,
        }
        return json_reply({"realtime_start": today, "realtime_end": today, "seriess": [row]})

    def _observations(self, call: Call, series: MacroSeries) -> Reply:
        params, today = call.params, market_today(call.now_ms)
        output = params.get("output_type", "1")
        if output not in ("1", "2", "4"):
            raise _BadRequest("Variable output_type is not one of 1, 2 or 4.")
        always = output == "4" and not {"realtime_start", "realtime_end"} & params.keys()
        start = _day(params, "realtime_start", BEGINNING if always else today)
        end = _day(params, "realtime_end", FOREVER if always else today)
        if end < start:
            raise _BadRequest("Variable realtime_start can not be after realtime_end.")
        if start > today:
            raise _BadRequest("Variable realtime_start can not be after today's date.")
        first = _day(params, "observation_start", BEGINNING)
        last = _day(params, "observation_end", FOREVER)
        public = list(series.vintages(call.now_ms))
        within = [v for v in public if first <= v.day <= last and v.start <= end and v.end >= start]
        dates = sorted({v.start for v in within if v.start > start})
        if output in "12" and len(dates) > MOST_VINTAGES:
            raise _BadRequest(
                f"There are {len(dates)} vintage dates between {start} and {end}, which exceeds"
                f" the maximum of {MOST_VINTAGES}."
            )
        match output:
            case "4":
                rows = _first_releases(within)
            case "2":
                rows = _by_vintage_date(series.name, within, [start, *dates])
            case _:
                rows = _by_period(within, start, end)
        return json_reply(_page(params, rows, start, end, first, last))


def _by_period(vintages: Sequence[Vintage], start: date, end: date) -> list[dict[str, str]]:
    return [
        {
            "realtime_start": max(vintage.start, start).isoformat(),
            "realtime_end": min(vintage.end, end).isoformat(),
            "date": vintage.day.isoformat(),
            "value": vintage.value,
        }
        for vintage in vintages
    ]


def _first_releases(vintages: Sequence[Vintage]) -> list[dict[str, str]]:
    firsts: dict[date, Vintage] = {}
    for vintage in vintages:
        firsts.setdefault(vintage.day, vintage)
    return _by_period(list(firsts.values()), BEGINNING, FOREVER)


def _by_vintage_date(
    name: str, vintages: Sequence[Vintage], dates: Sequence[date]
) -> list[dict[str, str]]:
    rows: dict[date, dict[str, str]] = {}
    for vintage in vintages:
        row = rows.setdefault(vintage.day, {"date": vintage.day.isoformat()})
        for known in dates:
            if vintage.start <= known <= vintage.end:
                row[f"{name}_{known:%Y%m%d}"] = vintage.value
    return list(rows.values())


def _page(
    params: Params, rows: list[dict[str, str]], start: date, end: date, first: date, last: date
) -> dict[str, object]:
    limit = _count(params, "limit", MOST_ROWS, 1, MOST_ROWS)
    offset = _count(params, "offset", 0, 0, 10**9)
    order = params.get("sort_order", "asc")
    if order not in ("asc", "desc"):
        raise _BadRequest("Variable sort_order is not one of 'asc' or 'desc'.")
    if order == "desc":
        rows = rows[::-1]
    return {
        "realtime_start": start.isoformat(),
        "realtime_end": end.isoformat(),
        "observation_start": first.isoformat(),
        "observation_end": last.isoformat(),
        "units": "lin",
        "output_type": int(params.get("output_type", "1")),
        "file_type": "json",
        "order_by": "observation_date",
        "sort_order": order,
        "count": len(rows),
        "offset": offset,
        "limit": limit,
        "observations": rows[offset : offset + limit],
    }


def _check_key(params: Params) -> None:
    key = params.get("api_key", "")
    if not key:
        raise _BadRequest(f"Variable api_key is not set.  {KEY_HELP}")
    if len(key) != 32 or not key.isascii() or not key.isalnum() or key != key.lower():
        raise _BadRequest(
            f"The value for variable api_key is not a 32 character alpha-numeric lower-case"
            f" string.  {KEY_HELP}"
        )


def _day(params: Params, name: str, default: date) -> date:
    text = params.get(name)
    if not text:
        return default
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise _BadRequest(
            f"Variable {name} is not a valid YYYY-MM-DD formatted date string."
        ) from None


def _count(params: Params, name: str, default: int, least: int, most: int) -> int:
    text = params.get(name, str(default))
    digits = text.isascii() and text.isdigit() and len(text) < 10
    if not digits or not least <= int(text) <= most:
        raise _BadRequest(f"Variable {name} is not between {least} and {most}.")
    return int(text)
