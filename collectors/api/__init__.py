"""HTTP: the collected data. The other modules are its parts."""

from django.urls import path

from collectors.api.backfills import BackfillCancel, BackfillDetail, BackfillList
from collectors.api.books import BookDetail, BookList
from collectors.api.budget import BudgetView
from collectors.api.candles import CandleList
from collectors.api.coverage import CoverageList
from collectors.api.downtimes import DowntimeList
from collectors.api.findings import FindingList
from collectors.api.funding import FundingList
from collectors.api.instruments import InstrumentDetail, InstrumentList
from collectors.api.macro import MacroList, MacroSeriesList
from collectors.api.spreads import SpreadList

urlpatterns = [
    path("instruments/", InstrumentList.as_view()),
    path("instruments/<int:pk>/", InstrumentDetail.as_view()),
    path("candles/", CandleList.as_view()),
    path("coverage/", CoverageList.as_view()),
    path("backfills/", BackfillList.as_view()),
    path("backfills/<int:pk>/", BackfillDetail.as_view()),
    path("backfills/<int:pk>/cancel/", BackfillCancel.as_view()),
    path("macro/", MacroList.as_view()),
    path("macro/series/", MacroSeriesList.as_view()),
    path("funding/", FundingList.as_view()),
    path("books/", BookList.as_view()),
    path("books/<str:exchange>/<str:symbol>/", BookDetail.as_view()),
    path("spreads/", SpreadList.as_view()),
    path("books/downtimes/", DowntimeList.as_view()),
    path("findings/", FindingList.as_view()),
    path("budget/", BudgetView.as_view()),
]
