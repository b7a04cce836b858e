"""The bodies of requests: JSON that is not too long, read to the letter."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any

from rest_framework import status
from rest_framework.exceptions import APIException, ParseError
from rest_framework.parsers import JSONParser

from collectors.plainjson import JsonRefused, read_json
from mts_project.bodies import MOST_BYTES, TOO_LARGE


class BodyTooLarge(APIException):
    """No request of ours is as long."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = TOO_LARGE
    default_code = "too_large"


class PlainJSONParser(JSONParser):
    """JSON as `collectors.plainjson` reads it, without half a surrogate pair: Python reads that,
    and nobody can write it again in an answer.

    NaN and Infinity, which are no JSON, are read as their names. So whoever wants a number there
    says that it is none, of which field, and keeps a row where refusals leave one.
    """

    def parse(
        self,
        stream: IO[Any],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The body. Raises ParseError, BodyTooLarge."""
        raw = stream.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise BodyTooLarge
        try:
            body = read_json(raw, has_names=True)
            json.dumps(body, ensure_ascii=False).encode()
        except JsonRefused as error:
            raise ParseError(f"JSON parse error - {error}") from None
        except UnicodeEncodeError:
            raise ParseError("JSON parse error - half a surrogate pair is no character") from None
        return body
