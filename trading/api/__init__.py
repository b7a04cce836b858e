"""Trading over HTTP: accounts with their books, the trading state, and backtests."""

from trading.api import accounts, backtests, state

urlpatterns = [*accounts.urlpatterns, *backtests.urlpatterns, *state.urlpatterns]
