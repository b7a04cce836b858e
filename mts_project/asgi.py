"""The web process: HTTP by Django, WebSocket by the realtime app."""

from __future__ import annotations

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mts_project.settings")

# First of all: it loads the apps, which every import below relies on.
django_application = get_asgi_application()

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402

# Else the first request would wait for every page to be imported, and find what is broken there.
import mts_project.urls  # noqa: E402, F401
from mts_project.bodies import limiting_bodies  # noqa: E402
from mts_project.health import counting_api_requests  # noqa: E402
from realtime.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": counting_api_requests(limiting_bodies(django_application)),
        "websocket": URLRouter(websocket_urlpatterns),
    }
)
