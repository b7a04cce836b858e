"""The bodies of requests: JSON that can be said again in an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser


class PlainJSONParser(JSONParser):
    """JSON, but for what Python reads and nobody can write: half a surrogate pair, and more levels
    than the stack has."""

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The body. Raises ParseError."""
        try:
            body = super().parse(stream, media_type, parser_context)
            json.dumps(body, ensure_ascii=False).encode()
        except RecursionError:
            raise ParseError("JSON parse error - it is nested too deeply") from None
        except UnicodeEncodeError:
            raise ParseError("JSON parse error - half a surrogate pair is no character") from None
        return body
