"""The report as one HTML page that needs nothing else and runs no script but its own two.

Whatever comes from the database is escaped, and would do nothing if it were not: the page's policy
names the hashes of its scripts, in the page itself and in the header of whoever serves it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from django.http import HttpResponse
from django.template.loader import render_to_string
from django.utils.safestring import SafeString, mark_safe

from trading.reports.content import Report
from trading.reports.tables import Table, account_tables, headline, metric_tables, trade_table

# Inside a script element these begin no markup.
ESCAPED = {ord("<"): "\\u003C", ord(">"): "\\u003E", ord("&"): "\\u0026"}
# What only a header can say: scripts run, but as of a stranger's page, without the user's login.
SERVED = "frame-ancestors 'none'; sandbox allow-scripts"
DRAW = """
for (const source of document.querySelectorAll("script[data-chart]")) {
  const figure = JSON.parse(source.textContent);
  const place = document.getElementById(source.dataset.chart);
  const style = getComputedStyle(document.body);
  figure.layout.font = { color: style.color, family: "system-ui, sans-serif", size: 12 };
  figure.layout.hoverlabel = { bgcolor: style.backgroundColor, font: { color: style.color } };
  figure.layout.autosize = true;
  Plotly.newPlot(place, figure.data, figure.layout, {
    responsive: true, displaylogo: false, displayModeBar: false,
  });
}
"""


@dataclass(frozen=True, kw_only=True)
class Page:
    """The page and the content policy that it is to be served under."""

    html: str
    policy: str


def render_page(report: Report, *, title: str = "", tables: Sequence[Table] = ()) -> Page:
    """The page of a report: its headline, charts and tables; `tables` of the caller come first."""
    from trading.reports.charts import draw_charts  # plotly takes half a second, once, here only

    library = _library()
    context: Mapping[str, Any] = {
        "title": title or f"Report of {report.name}",
        "traded": report.traded,
        "start": f"{report.record.start:%Y-%m-%d %H:%M}",
        "end": f"{report.record.end:%Y-%m-%d %H:%M}",
        "headline": headline(report),
        "policy": _policy(library.hash),
        "charts": [
            {
                "name": chart.name,
                "title": chart.title,
                "note": chart.note,
                "figure": mark_safe(chart.figure.to_json().translate(ESCAPED)),
            }
            for chart in draw_charts(report)
        ],
        "tables": [*tables, *metric_tables(report), *account_tables(report)],
        "trades": trade_table(report),
        "library": mark_safe(library.script),
        "draw": mark_safe(DRAW),
    }
    html = render_to_string("trading/report.html", context)
    return Page(html=html, policy=f"{_policy(library.hash)}; {SERVED}")


def page_response(report: Report) -> HttpResponse:
    """The page as an answer that can do nothing in the name of who asked for it."""
    page = render_page(report)
    return HttpResponse(
        page.html,
        content_type="text/html; charset=utf-8",
        headers={
            "Content-Security-Policy": page.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "private, no-store",
        },
    )


@dataclass(frozen=True)
class _Library:
    script: SafeString
    hash: str


@cache
def _library() -> _Library:
    """Plotly's script as the installed package has it."""
    text = (files("plotly") / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return _Library(script=mark_safe(text), hash=_hash(text))


def _policy(library_hash: str) -> str:
    """Nothing is loaded or sent anywhere. Plotly sets styles, and draws heat maps as images."""
    return (
        f"default-src 'none'; script-src {library_hash} {_hash(DRAW)}; style-src 'unsafe-inline';"
        " img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
