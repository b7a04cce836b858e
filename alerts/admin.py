"""Alerts and deliveries in the admin: to be read, and a failed delivery to be retried."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from alerts import services
from alerts.models import Alert, Delivery, DeliveryState
from collectors.admin.records import RecordAdmin


@admin.register(Alert)
class AlertAdmin(RecordAdmin):
    """What people were told."""

    list_display = ("at", "kind", "asset", "title")
    list_filter = ("kind",)
    search_fields = ("asset", "title", "key")


@admin.register(Delivery)
class DeliveryAdmin(RecordAdmin):
    """Where each alert went."""

    list_display = ("alert", "transport", "state", "attempt", "sent_at", "detail")
    list_filter = ("state", "transport")
    list_select_related = ("alert",)
    search_fields = ("alert__title", "detail")
    actions = ("retry_failed",)

    @admin.action(description="Try failed deliveries again")
    def retry_failed(self, request: HttpRequest, queryset: QuerySet[Delivery]) -> None:
        failed = queryset.filter(state=DeliveryState.FAILED).values_list("pk", flat=True)
        for delivery_id in failed:
            services.retry_delivery(delivery_id=delivery_id)
        messages.success(request, f"{len(failed)} deliveries will be tried again")
