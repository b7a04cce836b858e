"""The leases of shards as rows: claimed, renewed and released by conditional UPDATE.

A claim raises the row's attempt and names the owner; whatever its owner does to the row later is
fenced by both. An owner names one keeper of one process and is never used again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import reduce
from operator import or_

import structlog
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, F, Q, QuerySet
from django.db.models.functions import Now

from collectors.models import StreamProcess, StreamShard
from collectors.owners import Owner

log = structlog.get_logger(__name__)

FORGET_AFTER = timedelta(minutes=1)


@dataclass(frozen=True)
class ShardView:
    """A shard's row as it was read; `is_live` while its owner may be streaming it, `is_ownerless`
    when that owner is certainly dead."""

    number: int
    spread: int
    owner: str
    attempt: int
    is_live: bool
    is_ownerless: bool


def shard_views(*, me: Owner) -> list[ShardView]:
    """All shards by number. A lease whose owner is certainly dead is not live any more."""
    leased = ExpressionWrapper(Q(leased_until__gt=Now()), output_field=BooleanField())
    rows = StreamShard.objects.annotate(is_leased=leased).order_by("number")
    found = list(rows.values_list("number", "spread", "owner", "attempt", "is_leased"))
    dead = dead_owners({owner for _, _, owner, _, is_leased in found if is_leased}, me=me)
    return [
        ShardView(
            number, spread, owner, attempt, bool(is_leased) and owner not in dead, owner in dead
        )
        for number, spread, owner, attempt, is_leased in found
    ]


def dead_owners(owners: Collection[str], *, me: Owner) -> set[str]:
    """Those of the owners of whom this process knows for certain that they are dead."""
    parsed = {text: Owner.parse(text) for text in owners}
    return {
        text
        for text, owner in parsed.items()
        if owner is not None and owner.is_certainly_dead(seen_by=me)
    }


def spread_shards(*, spread: int, me: Owner) -> bool:
    """Make the rows 0 to `spread` - 1 and no others. False, and nothing is changed, while somebody
    streams shards of another spread: the same instrument would be in two shards at once."""
    with transaction.atomic():
        list(StreamShard.objects.select_for_update().order_by("number"))
        views = shard_views(me=me)
        if any(view.is_live and view.spread != spread for view in views):
            return False
        StreamShard.objects.filter(number__gte=spread).delete()
        StreamShard.objects.exclude(spread=spread).update(
            spread=spread, owner="", leased_until=None
        )
        missing = set(range(spread)) - {view.number for view in views}
        StreamShard.objects.bulk_create(
            [StreamShard(number=number, spread=spread) for number in sorted(missing)],
            ignore_conflicts=True,
        )
    return True


def renew_presence(*, me: Owner, lease: timedelta) -> int:
    """Say that this process is alive; how many are, this one among them."""
    if not StreamProcess.objects.filter(owner=str(me)).update(leased_until=Now() + lease):
        StreamProcess.objects.create(owner=str(me), leased_until=Now() + lease)
    live = StreamProcess.objects.filter(leased_until__gt=Now()).values_list("owner", flat=True)
    owners = {str(me), *live}
    dead = dead_owners(owners, me=me)
    forgotten = Q(leased_until__lt=Now() - FORGET_AFTER) | Q(owner__in=dead)
    StreamProcess.objects.filter(forgotten).exclude(owner=str(me)).delete()
    return len(owners - dead)


def claim_shard(*, seen: ShardView, me: Owner, lease: timedelta) -> int | None:
    """Claim a shard that was seen to be free; its new attempt, None when somebody was faster."""
    free = Q(owner="") | Q(leased_until=None) | Q(leased_until__lte=Now())
    if seen.is_ownerless or seen.owner == str(me):
        # Nobody else can renew it any more. Any other owner may have done so since it was seen.
        free |= Q(owner=seen.owner)
    claimed = StreamShard.objects.filter(
        free, number=seen.number, spread=seen.spread, attempt=seen.attempt
    ).update(owner=str(me), attempt=F("attempt") + 1, leased_until=Now() + lease)
    return seen.attempt + 1 if claimed == 1 else None


def renew_shards(*, attempts: Mapping[int, int], me: Owner, lease: timedelta) -> set[int]:
    """Renew the leases (number to attempt); those that are still held."""
    if not attempts:
        return set()
    mine = _claimed(attempts, me)
    if mine.update(leased_until=Now() + lease) == len(attempts):
        return set(attempts)
    return set(mine.values_list("number", flat=True))


def release_shards(*, attempts: Mapping[int, int], me: Owner) -> None:
    """Give the shards (number to attempt) to whoever wants them."""
    if attempts:
        _claimed(attempts, me).update(owner="", leased_until=None)


def end_presence(*, me: Owner) -> None:
    """Say that this process is no more."""
    StreamProcess.objects.filter(owner=str(me)).delete()


def _claimed(attempts: Mapping[int, int], me: Owner) -> QuerySet[StreamShard]:
    pairs = (Q(number=number, attempt=attempt) for number, attempt in attempts.items())
    return StreamShard.objects.filter(reduce(or_, pairs), owner=str(me))
