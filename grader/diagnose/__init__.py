"""From what was seen to what to mend: the causes this lab's failures have, one file for each subject. Pure.

Each `why` gives a message (what was seen, and what was asked) and a hint (how to mend it).
"""

from grader.diagnose.answer import Silent, how_to_listen, why_no_answer, why_wrong_answer
from grader.diagnose.build import why_build_failed
from grader.diagnose.finding import megabytes, quoted
from grader.diagnose.health import missing_command, must_ask, spoken, why_unhealthy
from grader.diagnose.root import how_to_leave_root
from grader.diagnose.size import heaviest, how_to_shrink, leaves_cache
from grader.diagnose.start import cause_in, why_ended, why_it_died, why_not_started

__all__ = (
    "Silent", "cause_in", "heaviest", "how_to_leave_root", "how_to_listen", "how_to_shrink", "leaves_cache",
    "megabytes", "missing_command", "must_ask", "quoted", "spoken", "why_build_failed", "why_ended",
    "why_it_died", "why_no_answer", "why_not_started", "why_unhealthy", "why_wrong_answer",
)  # fmt: skip
