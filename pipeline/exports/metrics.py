"""What the processes count while they work: each metric with its labels and buckets. docs/metrics.md explains them."""

from typing import Final

from pipeline.core.metrics import make_counter, make_gauge, make_histogram
from pipeline.exports.states import Outcome

_WORK: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_RENDERING: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_SENDING: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 120)
_HANDOFF: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3_600)
#: From a second to ten days.
_ANSWERING: Final = (1, 10, 60, 300, 900, 3_600, 14_400, 43_200, 86_400, 172_800, 432_000, 864_000)
_SWEEPING: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

STEP_SECONDS: Final = make_histogram(
    "exports_step_seconds", "Time of an attempt at a step, by its result", _WORK, "step", "result"
)
#: Results of an attempt at a step; after `fenced`, another worker holds the step.
DONE, RETRIED, FAILED, FENCED, RELEASED = "done", "retried", "failed", "fenced", "released"

DOCUMENT_SECONDS: Final = make_histogram(
    "exports_document_seconds", "Time to render one document", _RENDERING, "document"
)
DELIVERY_SECONDS: Final = make_histogram(
    "exports_delivery_seconds",
    "Time of an attempt to deliver one message, by its result",
    _SENDING,
    "channel",
    "partner_kind",
    "result",
)
#: Results of an attempt to deliver a message, beside `failed`, after which a retry follows or the message is dead.
DELIVERED, REFUSED = "delivered", "refused"

HANDOFF_SECONDS: Final = make_histogram(
    "exports_handoff_seconds", "Time from the acceptance of an export to its handoff", _HANDOFF
)
STATUS_SECONDS: Final = make_histogram(
    "exports_handoff_status_seconds",
    "Time from the previous status of a handoff to this one, known half a minute later",
    _ANSWERING,
    "status",
)
OUTCOMES: Final = make_counter(
    "exports_outcomes_reached_total",
    "Exports that reached an outcome, known half a minute later",
    outcome=[each.value for each in Outcome],
)

#: Work under a lease.
STEP, DELIVERY = "step", "delivery"
LEASES_LOST: Final = make_counter(
    "exports_leases_lost_total", "Leases that another process took before the work was done", work=(STEP, DELIVERY)
)

SWEEP_SECONDS: Final = make_histogram("exports_sweep_seconds", "Time of a sweep", _SWEEPING)
LAST_SWEEP: Final = make_gauge(
    "exports_sweep_last_success_timestamp_seconds", "When the last sweep of this process ended without an error"
)
SWEEP_ERRORS: Final = make_counter(
    "exports_sweep_errors_total",
    "Failed parts of sweeps",
    part=("queues", "due", "overdue", "polls", "rules", "counts"),
)
#: Work that is due at an instant.
OVERDUE, POLL = "overdue", "poll"
SWEPT: Final = make_counter(
    "exports_swept_total", "Due work that sweeps found and published", work=(STEP, DELIVERY, OVERDUE, POLL)
)

#: What became of an e-mail in the mailbox of answers.
RECORDED, REPEATED, LEFT = "recorded", "repeated", "left"
MAIL_REPLIES: Final = make_counter(
    "exports_mail_replies_total", "E-mails that were read, by result", result=(RECORDED, REPEATED, LEFT)
)

TASK_MESSAGES: Final = make_counter(
    "exports_task_messages_total", "Task messages for workers, by result", task=(), result=()
)
#: The task that sends a delivery stream; the other tasks are steps and polls.
DELIVER: Final = "deliver"
#: Results of a task message; the sweeper repeats those that were not sent.
SENT, NOT_SENT, DROPPED = "sent", "failed", "dropped"

INTAKE_SECONDS: Final = make_histogram(
    "exports_intake_seconds", "Time to process one message of a queue, by its result", _WORK, "queue", "result"
)
#: Results of a message of the intake, beside `refused`; a postponed one goes back to its queue.
ACCEPTED, POSTPONED = "accepted", "postponed"
