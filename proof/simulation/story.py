"""One saga's history in reading order, for whoever has to find out what went wrong."""

from __future__ import annotations

from proof.simulation.batch import Batch
from proof.simulation.database import EPOCH


def story(batch: Batch, saga_id: str) -> str:
    """Log, calls, reports and cancels of a saga by time, in virtual seconds."""
    database, history = batch.database, batch.history
    lines: list[tuple[float, str]] = []
    for sequence, row in enumerate(database.logs.get(saga_id, []), 1):
        place = f" {row.operation} {row.step} #{row.attempt}" if row.step else ""
        said = f"{row.recorded_by} commits {sequence} {row.type}{place} {row.facts.decode()} {(row.payload or b'').decode()}"
        lines.append((row.recorded_at - EPOCH, said))
    for (saga, step, operation), calls in history.calls.items():
        for call in calls if saga == saga_id else ():
            name = f"{operation} {step} #{call.attempt}"
            lines.append((call.sent_at, f"{call.node} calls {name} {call.key} {call.input}"))
            if call.answered_at is not None:
                end = "hung up" if call.was_cut_off else call.outcome
                lines.append((call.answered_at, f"{call.node} ends {name}: {end}"))
    for (saga, step, operation), reports in history.reports.items():
        for report in reports if saga == saga_id else ():
            said = f"reported {operation} {step}: {report.outcome}, answers {report.answers}"
            lines.append((report.made_at, said))
    for cancel in history.cancels:
        if cancel.saga_id == saga_id:
            lines.append((cancel.asked_at, "cancel asked"))
            lines.append((cancel.answered_at, f"cancel answered: {cancel.is_done}"))
    lines += [(at, said) for at, said in history.events]
    told = [f"{at:9.4f}  {said}" for at, said in sorted(lines, key=lambda line: line[0])]
    books = [f"book of {step}: {entry}" for (saga, step), entry in history.books.items() if saga == saga_id]
    return "\n".join([*told, *books, f"row: {database.sagas.get(saga_id)}"])
