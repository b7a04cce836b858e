"""The bodies of writes over HTTP, held to what they may say."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers


class StrictSerializer(serializers.Serializer[Any]):
    """A body in which every key is known: a misspelt one would otherwise be silently dropped."""

    def to_internal_value(self, data: Any) -> Any:
        """The validated values. Raises ValidationError naming every unknown key."""
        if isinstance(data, Mapping):
            unknown = [str(name) for name in data if name not in self.fields]
            if unknown:
                known = ", ".join(sorted(self.fields))
                raise serializers.ValidationError(
                    {name: [f"unknown; known: {known}"] for name in unknown}
                )
        return super().to_internal_value(data)
