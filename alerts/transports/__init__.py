"""The transports by name. A new one is a file here and a line in this table."""

from alerts.transport import Transport
from alerts.transports import file, redis_channel

TRANSPORTS: dict[str, Transport] = {
    "file": file.deliver,
    "redis": redis_channel.deliver,
}

__all__ = ["TRANSPORTS"]
