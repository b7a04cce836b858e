"""Django's settings, one file for every process; what differs comes from the environment."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from collectors import clock
from mts_project.environment import (
    load_environment,
    parse_database_url,
    private_socket,
    secret_key_at,
)
from mts_project.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
ENV = load_environment(base_dir=BASE_DIR)

clock.configure(
    clock.MarketClock(start=ENV.clock_start, anchor=ENV.clock_anchor, speed=ENV.clock_speed)
)

# Sessions, keys, logs and alerts are nobody's business but this user's.
os.umask(0o077)
DATA_DIR = ENV.data_dir
SECRET_KEY = ENV.secret_key or secret_key_at(DATA_DIR / "secret_key")
DEBUG = False
ALLOWED_HOSTS = list(ENV.allowed_hosts)
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
USE_I18N = False
FORMAT_MODULE_PATH = "mts_project.formats"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "mts_project.urls"
ASGI_APPLICATION = "mts_project.asgi.application"

INSTALLED_APPS = [
    "unfold.apps.BasicAppConfig",
    "mts_project.admin_config.OperatorAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "channels",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "collectors",
    "signals",
    "risk",
    "trading",
    "alerts",
    "realtime",
    "mts_project",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "mts_project" / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# -- Stores ----------------------------------------------------------------------------------


# SQLite has one writer: IMMEDIATE takes its turn at BEGIN, where the busy timeout applies, instead
# of failing in the middle when a read turns into a write.
SQLITE_OPTIONS = {
    "transaction_mode": "IMMEDIATE",
    "timeout": 20,
    "init_command": (
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; "
        "PRAGMA foreign_keys=ON; PRAGMA mmap_size=134217728;"
    ),
}


def _database() -> dict[str, object]:
    if not ENV.database_url:
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": DATA_DIR / "mts.sqlite3",
            "OPTIONS": SQLITE_OPTIONS,
        }
    config = parse_database_url(ENV.database_url)
    if config["ENGINE"].endswith("sqlite3"):
        config["OPTIONS"] = SQLITE_OPTIONS
    return config


DATABASES = {"default": _database()}

REDIS_URL = ENV.redis_url or f"unix://{private_socket(DATA_DIR)}"

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.core.RedisChannelLayer",
        "CONFIG": {
            # The layer carries hints only ("there is something new"); what was missed is read
            # from the event table. No socket timeout: its reads block for a long time.
            "hosts": [{"address": REDIS_URL, "socket_timeout": None}],
            "capacity": 1000,
        },
    }
}

# -- Market ----------------------------------------------------------------------------------

PROVIDER_URLS = ENV.provider_urls
CANDLE_SOURCES = ENV.candle_sources
STREAM_KINDS = ENV.stream_kinds
STREAM_SHARDS = ENV.stream_shards
# What looks at every quote in the stream process: context managers that give a callable.
QUOTE_WATCHERS = ("trading.watching.watch_quotes",)
REQUEST_TIMEOUT = ENV.request_timeout
RETRY_PAUSE_S = 0.25  # before the second try; it doubles, and each is cut by chance

# -- Celery ----------------------------------------------------------------------------------

CELERY_BROKER_URL = (
    f"redis+socket://{REDIS_URL.removeprefix('unix://')}"
    if REDIS_URL.startswith("unix://")
    else REDIS_URL
)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TIMEZONE = "UTC"
CELERY_TASK_DEFAULT_QUEUE = "collect"
CELERY_TASK_ROUTES = {
    "collectors.tasks.*": {"queue": "collect"},
    # Seconds of computing that no bar may wait for.
    "signals.tasks.certify_due_strategies": {"queue": "backtests"},
    "signals.tasks.recertify_strategies": {"queue": "backtests"},
    "signals.tasks.*": {"queue": "signals"},
    "trading.tasks.run_backtest": {"queue": "backtests"},
    # Seconds of work for a large account, which must not hold up what trades.
    "trading.tasks.write_daily_reports": {"queue": "backtests"},
    "trading.tasks.*": {"queue": "trading"},
    "alerts.tasks.*": {"queue": "alerts"},
    "realtime.tasks.*": {"queue": "alerts"},
    "mts_project.tasks.*": {"queue": "collect"},
}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = True
CELERY_TASK_SEND_SENT_EVENT = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BEAT_SCHEDULER = "mts_project.beat:MarketTimeScheduler"
DJANGO_CELERY_BEAT_TZ_AWARE = True

# -- HTTP ------------------------------------------------------------------------------------

STATIC_URL = "/static/"
# Served from the installed packages as they are: there is no collect step to forget.
WHITENOISE_USE_FINDERS = True
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
    "mts_project.staticfinder.PlotlyFinder",
]
WHITENOISE_AUTOREFRESH = False

CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
# In production a proxy speaks HTTPS to the browser and plain HTTP to us.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = ENV.environment == "production"
CSRF_TRUSTED_ORIGINS = [f"https://{host}" for host in ALLOWED_HOSTS if SESSION_COOKIE_SECURE]
X_FRAME_OPTIONS = "DENY"
SECURE_CONTENT_TYPE_NOSNIFF = True

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rest_framework_simplejwt.authentication.JWTAuthentication",
        "collectors.keylogin.ApiKeyAuthentication",
        "rest_framework.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["collectors.access.RolePermission"],
    "DEFAULT_PAGINATION_CLASS": "collectors.access.NewestFirstPagination",
    "DEFAULT_FILTER_BACKENDS": ["django_filters.rest_framework.DjangoFilterBackend"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["mts_project.parsers.PlainJSONParser"],
    "EXCEPTION_HANDLER": "mts_project.exceptions.one_shape_handler",
    "COERCE_DECIMAL_TO_STRING": True,
    # Who asks is who is connected: anybody may write any X-Forwarded-For.
    "NUM_PROXIES": 0,
    "PAGE_SIZE": 100,
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=30),
    "REFRESH_TOKEN_LIFETIME": timedelta(days=7),
    "UPDATE_LAST_LOGIN": False,
}
# Where a login leads that came from nowhere.
LOGIN_REDIRECT_URL = "/admin/"

SPECTACULAR_SETTINGS = {
    "TITLE": "MTS",
    "DESCRIPTION": "Market data, signals, risk and paper trading.",
    "VERSION": "1",
    # Operations are grouped by what comes after it.
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "ENUM_NAME_OVERRIDES": {
        "BacktestStateEnum": "trading.models.BacktestState",
        "KeyScopeEnum": "collectors.models.KeyScope",
        "SwitchScopeEnum": ["desk", "account"],
        "HeldDirectionEnum": ["LONG", "SHORT"],
        "OrderKindEnum": "trading.models.OrderKind",
        "TransactionKindEnum": "trading.models.TransactionKind",
        "TradingStateEnum": "risk.models.TradingState",
    },
}

# Three candles, so that a browser has no icon to ask for in vain.
ICON = (
    "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'>"
    "<path d='M7 4v24M16 8v20M25 2v22' stroke='%239333ea' stroke-width='2'/>"
    "<path d='M4 12h6v10H4zM13 14h6v8h-6zM22 6h6v12h-6z' fill='%239333ea'/></svg>"
)
UNFOLD = {
    "SITE_TITLE": "MTS",
    "SITE_HEADER": "MTS",
    "SITE_URL": None,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": ICON}],
    "DASHBOARD_CALLBACK": "mts_project.dashboard.dashboard_context",
}

LOGGING_CONFIG = None
logging_config(level=ENV.log_level, log_format=ENV.log_format)
