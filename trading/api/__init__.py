"""Trading over HTTP: accounts with their orders and books, assessments, the trading state, and
backtests."""

from trading.api import (
    accounts,
    assessment,
    backtests,
    books,
    heat,
    orders,
    positions,
    reports,
    state,
)

urlpatterns = [
    *accounts.urlpatterns,
    *positions.urlpatterns,
    *orders.urlpatterns,
    *books.urlpatterns,
    *heat.urlpatterns,
    *assessment.urlpatterns,
    *reports.urlpatterns,
    *state.urlpatterns,
    *backtests.urlpatterns,
]
