"""The bodies of requests: JSON that can be said again in an answer."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework.exceptions import ParseError
from rest_framework.parsers import JSONParser

HALF = "JSON parse error - half a surrogate pair is no character"


class PlainJSONParser(JSONParser):
    """JSON, but for what Python reads and nobody can write: half a surrogate pair, and more levels
    than the stack has.

    NaN and Infinity, which are no JSON, are read as their names. So whoever wants a number there
    says that it is none, of which field, and keeps a row where refusals leave one.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The body. Raises ParseError."""
        try:
            encoding = (parser_context or {}).get("encoding", "utf-8")
            body = json.load(codecs.getreader(encoding)(stream), parse_constant=str)
            json.dumps(body, ensure_ascii=False).encode()
        except ValueError as problem:
            if isinstance(problem, UnicodeEncodeError):
                raise ParseError(HALF) from None
            raise ParseError(f"JSON parse error - {problem}") from None
        except RecursionError:
            raise ParseError("JSON parse error - it is nested too deeply") from None
        return body
