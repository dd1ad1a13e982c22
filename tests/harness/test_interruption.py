from __future__ import annotations

import os
import signal
import threading

import pytest

from harness.interruption import Interruption


def interrupt_swallowed() -> None:
    """Interrupt this process where the interrupt is lost, as in a callback of compiled code."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
        threading.Event().wait(1)
    except KeyboardInterrupt:
        pass


def test_a_swallowed_interrupt_is_raised_again() -> None:
    before = signal.getsignal(signal.SIGINT)
    steps = []
    with pytest.raises(KeyboardInterrupt), Interruption() as interruption:
        for step in range(3):
            interruption.check()
            steps.append(step)
            if step == 1:
                interrupt_swallowed()
    assert steps == [0, 1]
    assert signal.getsignal(signal.SIGINT) is before


def test_one_that_nothing_checks_is_raised_at_the_end() -> None:
    with pytest.raises(KeyboardInterrupt), Interruption():
        interrupt_swallowed()


def test_without_one_nothing_happens_and_other_threads_set_no_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen = []

    def enter() -> None:
        with Interruption() as interruption:
            interruption.check()
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]
    with Interruption() as interruption:
        interruption.check()
    assert signal.getsignal(signal.SIGINT) is before
