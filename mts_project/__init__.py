"""The composition root: settings, URLs, processes. Nobody imports it."""

from mts_project.celery import app as celery_app

__all__ = ["celery_app"]
