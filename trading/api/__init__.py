"""Trading over HTTP: accounts with their books, and backtests."""

from trading.api import accounts, backtests

urlpatterns = [*accounts.urlpatterns, *backtests.urlpatterns]
