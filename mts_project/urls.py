"""Every address the web process answers."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

import alerts.api
import collectors.api
import mts_project.keys
import mts_project.login
import risk.api
import signals.api
import trading.api
from mts_project import health

admin.autodiscover()

api_urlpatterns = [
    *mts_project.login.urlpatterns,
    *mts_project.keys.urlpatterns,
    *collectors.api.urlpatterns,
    *signals.api.urlpatterns,
    *risk.api.urlpatterns,
    *trading.api.urlpatterns,
    *alerts.api.urlpatterns,
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("admin/", admin.site.urls),
    path("api/v1/", include(api_urlpatterns)),
    path("health/", health.HealthView.as_view()),
    path("health/live/", health.live),
    path("health/ready/", health.ready),
]

handler400 = "mts_project.exceptions.bad_request"
handler404 = "mts_project.exceptions.not_found"
handler500 = "mts_project.exceptions.server_error"
