"""How far to walk before the next step is shown, as somebody at a terminal says it key by key."""

from __future__ import annotations

from collections.abc import Callable

from scenarios.stepping.step_view import StepView

HELP = "Enter next   n how many   f next admission, finish or preemption   q quit"

_NEXT = ("\r", "\n", " ")
_QUIT = ("q", "Q", "\x1b", "\x04", "")


class Pace:
    """Decides which steps are shown, and asks for the way after each that is.

    Parameters
    ----------
    ask_key : callable
        Waits for a key.
    ask_number : callable
        Waits for a number of steps; ``None`` if what came is not one.
    """

    def __init__(self, ask_key: Callable[[], str], ask_number: Callable[[], int | None]) -> None:
        self._ask_key = ask_key
        self._ask_number = ask_number
        self._to_pass = 0
        self._to_event = False

    def shows(self, view: StepView) -> bool:
        """Whether a step is shown rather than passed."""
        if self._to_event:
            return view.is_eventful
        if self._to_pass:
            self._to_pass -= 1
            return False
        return True

    def goes_on(self) -> bool:
        """Ask how far to go; false ends the walk.  Other keys are ignored."""
        self._to_event, self._to_pass = False, 0
        while True:
            key = self._ask_key()
            if not key.startswith("\x1b"):
                # What was typed ahead is left out.
                key = key[:1]
            if key in _QUIT:
                return False
            if key in _NEXT:
                return True
            if key in ("f", "F"):
                self._to_event = True
                return True
            if key in ("n", "N"):
                steps = self._ask_number()
                if steps is not None:
                    self._to_pass = steps - 1
                    return True
