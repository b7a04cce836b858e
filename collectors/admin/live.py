"""The page of the live books: one instrument's side by side, and how all of them stand."""

from __future__ import annotations

from datetime import datetime

from django.contrib.admin import ModelAdmin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.http import urlencode

from collectors import clock
from collectors.livebook import LiveBook
from collectors.models import BookSample
from collectors.selectors import BookListing, book_listings, live_books


def show_live_books(request: HttpRequest, *, model_admin: ModelAdmin[BookSample]) -> HttpResponse:
    """The page; `instrument` is a coin id, by default the first that is streamed. The table is
    fetched anew every few seconds, the chosen books come over `/ws/market/{coin id}/`."""
    if not model_admin.has_view_permission(request):
        raise PermissionDenied
    listings = [item for item in book_listings(at=clock.now()) if item.is_followed]
    books = live_books([(item.exchange, item.symbol) for item in listings])
    coin_ids = sorted({item.coin_id for item in listings})
    asked = request.GET.get("instrument", "")
    chosen = asked if asked in coin_ids else _most_alive(listings, books)
    now = clock.wall_now()
    context = {
        **model_admin.admin_site.each_context(request),
        "title": "Live books",
        "content_title": "Live books",
        "coin_ids": coin_ids,
        "chosen": chosen,
        "is_unknown": bool(asked) and asked != chosen,
        "asked": asked,
        "rows": [
            {"listing": item, "book": book, "age_s": _age_s(book, now)}
            for item, book in zip(listings, books, strict=True)
        ],
        "synced": sum(book.is_synced for book in books),
    }
    return TemplateResponse(request, "collectors/live_books.html", context)


def visit_live_books(coin_id: str | None = None) -> HttpResponseRedirect:
    """The way to the page, with an instrument chosen."""
    query = f"?{urlencode({'instrument': coin_id})}" if coin_id else ""
    return HttpResponseRedirect(reverse("admin:collectors_live_books") + query)


def _most_alive(listings: list[BookListing], books: list[LiveBook]) -> str:
    """The instrument that has the most to show: bitcoin, else the first with a book."""
    pairs = list(zip(listings, books, strict=True))
    pairs.sort(key=lambda pair: (not pair[1].is_synced, pair[0].coin_id != "bitcoin"))
    return pairs[0][0].coin_id if pairs else ""


def _age_s(book: LiveBook, now: datetime) -> float | None:
    if book.received_at is None:
        return None
    return max((now - book.received_at).total_seconds(), 0.0)
