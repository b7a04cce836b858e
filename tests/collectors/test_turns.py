"""Hints of the same work: none is lost, and none is worked off beside another."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.turns import Turns

WAIT_S = 30


def test_who_comes_while_one_waits_may_go():
    turns = Turns()
    began, may_end = threading.Event(), threading.Event()
    looks = []

    def work() -> None:
        with turns.turn() as is_ours:
            if is_ours:
                looks.append("look")
                began.set()
                assert may_end.wait(WAIT_S)

    first = threading.Thread(target=work)
    first.start()
    assert began.wait(WAIT_S)
    others = [threading.Thread(target=work) for _ in range(5)]
    for other in others:
        other.start()
    while sum(other.is_alive() for other in others) > 1:
        others[0].join(0.01)
    assert looks == ["look"]
    may_end.set()
    for thread in (first, *others):
        thread.join(WAIT_S)
    assert looks == ["look", "look"]


def test_a_turn_ends_with_an_error_too():
    turns = Turns()
    for _ in range(2):
        try:
            with turns.turn() as is_ours:
                assert is_ours
                raise ZeroDivisionError
        except ZeroDivisionError:
            pass


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(1, 20))
def test_a_look_begins_after_every_hint(threads, hints):
    turns = Turns()
    counter = threading.Lock()
    hinted = seen = inside = most = 0

    def work() -> None:
        nonlocal hinted, seen, inside, most
        for _ in range(hints):
            with counter:
                hinted += 1
            with turns.turn() as is_ours:
                if not is_ours:
                    continue
                with counter:
                    inside += 1
                    most = max(most, inside)
                    seen = hinted
                with counter:
                    inside -= 1

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(WAIT_S)
    assert (most, seen) == (1, threads * hints)
