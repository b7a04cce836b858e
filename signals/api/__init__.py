"""The HTTP door of signals: its addresses. The other modules are its parts."""

from __future__ import annotations

from django.urls import path

from signals.api.bar_runs import BarRunList
from signals.api.ingest import IngestView
from signals.api.said import CurrentSignalList, GenerateView, SignalList
from signals.api.strategies import CertifyView, ChangeList, StrategyList, StrategyView
from signals.api.studies import AnalysisView, OutcomesView

urlpatterns = [
    path("signals/", SignalList.as_view(), name="signals"),
    path("signals/current/", CurrentSignalList.as_view(), name="signals-current"),
    path("signals/generate/", GenerateView.as_view(), name="signals-generate"),
    path("signals/ingest/", IngestView.as_view(), name="signals-ingest"),
    path("bar-runs/", BarRunList.as_view(), name="bar-runs"),
    path("strategies/", StrategyList.as_view(), name="strategies"),
    path("strategies/<slug:name>/", StrategyView.as_view(), name="strategy"),
    path("strategies/<slug:name>/analysis/", AnalysisView.as_view(), name="strategy-analysis"),
    path("strategies/<slug:name>/certify/", CertifyView.as_view(), name="strategy-certify"),
    path("strategies/<slug:name>/changes/", ChangeList.as_view(), name="strategy-changes"),
    path("strategies/<slug:name>/outcomes/", OutcomesView.as_view(), name="strategy-outcomes"),
]
