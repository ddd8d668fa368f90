"""A loan: decided by rules or people, signed within two weeks, or as if it had never been."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_coordinator.testing import Call, Participants, Refused, Run, begin

DEFINITION = Path(__file__).with_name("definition.yaml")
LOAN = {
    "application_id": "L-7",
    "applicant_id": "p-3",
    "branch": "utrecht",
    "amount_cents": 500_000,
    "first_instalment_at": "2026-04-01T08:00:00Z",
}
DAY = 86_400.0
Apply = Callable[..., Run]


@pytest.fixture
def apply() -> Apply:
    """Applies for a loan of somebody with so many points, and goes on until the saga waits for somebody."""

    def start(points: int = 750, faults: dict[str, Any] | None = None, **more: Any) -> Run:
        services = Participants(otherwise=lambda call: None)

        @services.action("bureau.Score")
        def score(call: Call) -> dict[str, int]:
            return {"points": points}

        return begin(DEFINITION, {**LOAN, **more}, services, faults=faults).run_until_waiting()

    return start


def sign(run: Run) -> Run:
    return run.publish("contract.signed", {"iban": "NL91"}, correlation="L-7")


def test_small_loan_of_a_good_customer_is_accepted_by_rules(apply: Apply) -> None:
    run = apply()
    assert run.waiting == ("signed",)
    sign(run).finish()
    assert run.status == "COMPLETED"
    assert run.output == {"decided_by": "rules", "paid_to": "NL91"}
    assert run.names == ["set_aside", "score", "accept", "offer", "pay_out", "debit"]


@pytest.mark.parametrize("why", [{"points": 600}, {"amount_cents": 5_000_000}])
def test_everything_else_is_put_before_a_person(apply: Apply, why: dict[str, int]) -> None:
    run = apply(**why)
    assert run.waiting == ("review",)
    run.approve("review", by="tom.okafor").run_until_waiting()
    assert run.waiting == ("signed",)
    sign(run).finish()
    assert run.output["decided_by"] == "tom.okafor"
    assert run.called("accept_reviewed")[0].input["by"] == "tom.okafor"


def test_only_underwriters_decide(apply: Apply) -> None:
    run = apply(points=600)
    with pytest.raises(Exception, match=r"`the applicant` may not decide on `review`"):
        run.approve("review", by="the applicant")
    assert run.waiting == ("review",)


def test_rejection_releases_the_money_and_says_who_and_why(apply: Apply) -> None:
    run = apply(points=600).reject("review", by="ann.meyer", comment="income not proven").finish()
    assert run.status == "COMPENSATED"
    assert run.failure is not None
    assert (run.failure.code, run.failure.message, run.failure.requested_by) == (
        "REJECTED", "income not proven", "ann.meyer"
    )  # fmt: skip
    assert run.names == ["set_aside", "score", "undo set_aside"]


def test_silence_of_the_underwriters_is_a_no_after_five_days(apply: Apply) -> None:
    run = apply(points=600).finish()
    assert run.status == "COMPENSATED"
    assert run.failure is not None
    assert run.failure.code == "APPROVAL_TIMEOUT"
    assert 5 * DAY <= run.seconds < 5 * DAY + 60


def test_customer_of_bad_repute_is_refused_by_the_bureau(apply: Apply) -> None:
    run = apply(faults={"score": Refused("has defaulted")})
    assert run.status == "COMPENSATED"
    assert run.names == ["set_aside", "score", "undo set_aside"]


def test_contract_that_is_never_signed_revokes_the_offer(apply: Apply) -> None:
    run = apply().finish()
    assert run.status == "COMPENSATED"
    assert run.names[-3:] == ["undo offer", "undo accept", "undo set_aside"]
    assert run.called("undo offer")[0].input == {"loan": "L-7", "why": "EVENT_TIMEOUT"}
    assert 14 * DAY <= run.seconds < 14 * DAY + 60


def test_signature_of_another_loan_counts_for_nothing(apply: Apply) -> None:
    run = apply()
    run.publish("contract.signed", {"iban": "DE00"}, correlation="L-8").advance(days=1)
    assert run.waiting == ("signed",)


def test_signature_before_the_decision_is_not_lost(apply: Apply) -> None:
    """The web shop lets customers sign at once."""
    run = sign(apply(points=600))
    run.approve("review").finish()
    assert run.status == "COMPLETED"
    assert run.output["paid_to"] == "NL91"


def test_first_instalment_is_debited_on_its_day(apply: Apply) -> None:
    """2026-01-01 is when every rehearsal starts."""
    run = sign(apply()).finish()
    [debited] = run.called("debit")
    assert debited.at == pytest.approx(90 * DAY + 8 * 3600, abs=1.0)


def test_once_paid_out_the_loan_cannot_be_cancelled(apply: Apply) -> None:
    run = sign(apply()).advance(days=1)
    with pytest.raises(Exception, match="only goes forward"):
        run.cancel("changed my mind")
    assert run.finish().status == "COMPLETED"
