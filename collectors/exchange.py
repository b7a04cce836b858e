"""What every provider client has in common: the contract of a candle source, the error tree, and
the one way to make a request.

    ProviderError
    |-- RetryableError           the same request may succeed later
    |   |-- RateLimited          too many requests; `retry_after` wall seconds when it is known
    |   |   `-- Banned           the provider bans this address until `retry_after` has passed
    |   |-- ServerError          5xx: unknown, not failed
    |   |-- ConnectionFailed     no connection, or it broke
    |   |   `-- RequestTimedOut  no complete answer in time
    |   |-- MalformedPayload     the answer does not parse; a sample is in the text
    |   `-- CircuitOpen          not sent: the provider keeps failing; `retry_after` wall seconds
    `-- PermanentError           the same request will fail again
        |-- UnknownSymbol        the provider does not have this symbol, coin or series
        |-- GeographicBlock      451: not served from here
        |-- KeyMissing           the provider needs an API key and none is set
        |-- KeyRefused           the provider refuses the API key
        |-- OutsidePlan          the key's plan does not cover the request
        `-- RequestRefused       any other refusal
            `-- Redirected       the provider points elsewhere, which is never followed
"""

from __future__ import annotations

import contextlib
import math
import re
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar
from urllib.parse import urlsplit

import msgspec
import redis
import requests
import structlog
import tenacity

from collectors.breaker import Breaker, CircuitBroken
from collectors.budget import BudgetExhausted, CallBudget, RecordsUnavailable, Reservation
from collectors.marketdata import Candle, from_ms
from collectors.transport import Answer, AnswerTooLarge, BoundedSession
from collectors.venues import END_OF_TIME_MS

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT_S = 5.0
ATTEMPTS = 3
RETRY_PAUSE_S = 0.25
LONGEST_RETRY_PAUSE_S = 3.0
LONGEST_RETRY_AFTER_S = 10.0
BODY_LIMIT = 8 * 1024 * 1024
SAMPLE_LENGTH = 200
LONGEST_BLOCK_S = 86_400.0
TRIAL_SLACK_S = 5.0
# What reading an answer of another shape may raise: no JSON or other types (msgspec's errors are
# ValueErrors), an unknown name, a number beyond its range, and arrays in arrays without end.
UNREADABLE = (ValueError, KeyError, OverflowError, RecursionError)

T = TypeVar("T")


class ProviderError(Exception):
    """Any failure to get data from a provider."""


class RetryableError(ProviderError):
    """The same request may succeed later."""


class RateLimited(RetryableError):
    """Too many requests. Wait `retry_after` wall seconds (None: not said)."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Banned(RateLimited):
    """The provider bans this address for `retry_after` seconds. Lower the call rate."""


class ServerError(RetryableError):
    """The provider failed (5xx); whether it did the work is unknown."""


class ConnectionFailed(RetryableError):
    """No connection to the provider, or it broke. Check the network and the URL."""


class RequestTimedOut(ConnectionFailed):
    """No complete answer within the request timeout."""


class MalformedPayload(RetryableError):
    """The answer does not have the documented shape."""


class CircuitOpen(RetryableError):
    """Not sent, because the provider keeps failing. Try again after `retry_after` wall seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class PermanentError(ProviderError):
    """The same request will fail again."""


class UnknownSymbol(PermanentError):
    """The provider does not have this symbol, coin or series."""


class GeographicBlock(PermanentError):
    """The provider does not serve this country. Take the source out of CANDLE_SOURCES."""


class KeyMissing(PermanentError):
    """The provider needs an API key and none is set. Set the named variable."""


class KeyRefused(PermanentError):
    """The provider refuses the API key. Check it, and that its plan is the configured one."""


class OutsidePlan(PermanentError):
    """The API plan does not cover the request (too old, or too much)."""


class RequestRefused(PermanentError):
    """The provider refuses the request; the text carries its reason."""


class Redirected(RequestRefused):
    """The provider points to another address. Check the URL setting."""


class CandleSource(Protocol):
    """Where candles come from. One file and one line in `collectors.sources` each."""

    name: str

    def fetch_candles(
        self, symbol: str, timeframe: str, start: datetime, end: datetime
    ) -> list[Candle]:
        """The candles with start <= open_time < end, oldest first; bars that the source does not
        have are left out. `end` is at most the open time of the bar that is forming now. What an
        answer has against the venue's own rules is left in it for `quality.review_candles`: a bar
        twice, out of order, or after `end`. Raises ProviderError.
        """


# What speaks against a provider. A refusal or a rate limit shows that it works.
FAILURES = (ServerError, ConnectionFailed, MalformedPayload)

ErrorReader = Callable[[int, Mapping[str, str], bytes], ProviderError | None]


def status_error(status: int, headers: Mapping[str, str], text: str) -> ProviderError | None:
    """The error of an HTTP status that means the same at every provider, None for success."""
    if status < 300:
        return None
    if status == 429:
        return RateLimited(text, retry_after(headers))
    if status == 418:
        return Banned(text, _ban_seconds(text) or retry_after(headers))
    if status == 451:
        return GeographicBlock(text)
    if status >= 500:
        return ServerError(f"{status}: {text}")
    return RequestRefused(f"{status}: {text}")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """The seconds of a Retry-After header, at most a day; None when it is missing or no number."""
    try:
        seconds = float(headers.get("Retry-After", ""))
    except ValueError:
        return None
    return min(max(seconds, 0.0), LONGEST_BLOCK_S) if math.isfinite(seconds) else None


def _ban_seconds(text: str) -> float | None:
    """Binance writes the end of a ban (epoch ms) into the message and nowhere else."""
    found = re.search(r"until (\d{13})", text)
    return max(int(found.group(1)) / 1000 - time.time(), 1.0) if found else None


def moment_of(milliseconds: int) -> datetime:
    """A provider's epoch in milliseconds as a moment. Raises MalformedPayload for one that no
    clock shows."""
    if not 0 <= milliseconds < END_OF_TIME_MS:
        raise MalformedPayload(f"{milliseconds} is no time in milliseconds")
    return from_ms(milliseconds)


def sample(body: bytes) -> str:
    """The beginning of a body, for a log line or an error text."""
    return body[:SAMPLE_LENGTH].decode("utf-8", "replace")


class Connection:
    """One provider's HTTP session: bounded, counted, retried. Not to be shared by threads."""

    def __init__(
        self,
        *,
        provider: str,
        base_url: str,
        budget: CallBudget,
        timeout_s: float,
        read_error: ErrorReader,
        headers: Mapping[str, str] | None = None,
        retry_pause_s: float = RETRY_PAUSE_S,
    ) -> None:
        self.provider = provider
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._timeout_s = timeout_s
        self._read_error = read_error
        self._jittered = tenacity.wait_random_exponential(
            multiplier=retry_pause_s, max=LONGEST_RETRY_PAUSE_S
        )
        self._session = BoundedSession(
            headers={"Accept": "application/json", **(headers or {})},
            # A proxy of the environment must not see requests to this machine.
            trust_env=urlsplit(base_url).hostname not in {"127.0.0.1", "localhost"},
            connect_timeout_s=CONNECT_TIMEOUT_S,
            timeout_s=timeout_s,
            body_limit=BODY_LIMIT,
        )
        self._breaker = Breaker(
            provider,
            budget.client,
            is_failure=lambda error: isinstance(error, FAILURES),
            trial_s=timeout_s + TRIAL_SLACK_S,
        )

    def get(
        self,
        path: str,
        params: Mapping[str, str | int],
        *,
        into: type[T],
        weight: int = 1,
        endpoint: str = "",
    ) -> T:
        """GET `path` and decode the JSON answer as `into`. Raises ProviderError.

        `endpoint` is what the call is counted under, where the path itself names a coin.
        Retryable failures are tried up to three times, after pauses of up to `retry_pause_s` and
        twice that; Retry-After is obeyed when it is short, a longer one is left to the next tick.
        While the provider's circuit is open nothing is sent and CircuitOpen is raised.
        """
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_worth_another_try),
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            wait=self._wait_before_retry,
            reraise=True,
        )
        answer: T = retrying(self._get_guarded, path, params, into, weight, endpoint or path)
        return answer

    def _wait_before_retry(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, RateLimited) and error.retry_after is not None:
            return error.retry_after
        return float(self._jittered(state))

    def _get_guarded(
        self,
        path: str,
        params: Mapping[str, str | int],
        into: type[T],
        weight: int,
        endpoint: str,
    ) -> T:
        try:
            with self._breaker.passage():
                return self._get_once(path, params, into, weight, endpoint)
        except CircuitBroken as broken:
            raise CircuitOpen(str(broken), broken.retry_after) from None

    def _get_once(
        self,
        path: str,
        params: Mapping[str, str | int],
        into: type[T],
        weight: int,
        endpoint: str,
    ) -> T:
        try:
            reservation = self._budget.reserve(self.provider, endpoint, weight)
        except BudgetExhausted as error:
            raise RateLimited(str(error), error.retry_after) from None
        except RecordsUnavailable as error:
            raise ConnectionFailed(str(error)) from error
        except redis.RedisError as error:
            raise ConnectionFailed(f"the call budget in Redis: {error}") from error
        started = time.monotonic()
        sent, failed = False, True

        def ask() -> T:
            nonlocal sent
            sent = True
            return self._exchange(path, params, into, reservation)

        try:
            answer = self._breaker.judge(ask)
            failed = False
        except RateLimited as error:
            if error.retry_after:
                with contextlib.suppress(redis.RedisError):  # the next call would hear it again
                    self._budget.block(self.provider, error.retry_after)
            raise
        finally:
            if sent:
                elapsed = (time.monotonic() - started) * 1000
                self._budget.settle(reservation, failed=failed, response_ms=elapsed)
            else:
                self._budget.cancel(reservation)
        return answer

    def _exchange(
        self,
        path: str,
        params: Mapping[str, str | int],
        into: type[T],
        reservation: Reservation,
    ) -> T:
        try:
            answer = self._session.get(f"{self._base_url}{path}", params)
        except AnswerTooLarge as error:
            raise MalformedPayload(f"{self.provider}{path}: {error}") from error
        except requests.Timeout as error:
            raise RequestTimedOut(f"{self.provider}{path}: {_cause(error)}") from error
        except (requests.RequestException, OSError) as error:
            raise ConnectionFailed(f"{self.provider}{path}: {_cause(error)}") from error
        used = answer.headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdecimal():
            with contextlib.suppress(redis.RedisError):  # every answer says it anew
                self._budget.reconcile(reservation, int(used))
        if 300 <= answer.status < 400:
            raise Redirected(f"{self.provider}{path}: {answer.status} to {_target(answer)}")
        refusal = self._read_error(answer.status, answer.headers, answer.body)
        if refusal is not None:
            raise refusal
        try:
            return msgspec.json.decode(answer.body, type=into, strict=False)
        except UNREADABLE as problem:
            log.warning(
                "payload_malformed", provider=self.provider, path=path, sample=sample(answer.body)
            )
            raise MalformedPayload(f"{self.provider}{path}: {problem}") from problem


def _target(answer: Answer) -> str:
    """The host that a redirect names; the rest of its address may carry a key."""
    try:
        host = urlsplit(answer.headers.get("Location", "")).hostname
    except ValueError:
        host = None
    return host or "nowhere else"


def _cause(error: Exception) -> str:
    """What went wrong, without the URL: its query string may carry a key."""
    text = type(error).__name__
    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", None)
    return f"{text} ({type(reason).__name__})" if reason is not None else text


def _worth_another_try(error: BaseException) -> bool:
    if isinstance(error, CircuitOpen):
        return False
    if isinstance(error, RateLimited):
        return error.retry_after is None or error.retry_after <= LONGEST_RETRY_AFTER_S
    return isinstance(error, RetryableError)
