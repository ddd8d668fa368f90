"""The enums of the contract and the words that they stand for: each table is written here once, and read in both directions."""

from __future__ import annotations

from collections.abc import Mapping

from saga_coordinator.pb.saga.v1 import (
    directory_service_pb2,
    operator_service_pb2,
    saga_pb2,
    saga_service_pb2,
)
from saga_coordinator.saga.machine.answers import WhyNot
from saga_coordinator.saga.machine.inputs import Finding
from saga_coordinator.saga.machine.step_state import EffectKnown
from saga_coordinator.saga.machine.transitions import SagaStatus, StepStatus
from saga_coordinator.saga.words.act import ActResult, SubjectKind, Verb
from saga_coordinator.saga.words.identity import OperationKind

SAGA_STATUS_NUMBERS: Mapping[SagaStatus, saga_pb2.SagaStatus.ValueType] = {
    status: saga_pb2.SagaStatus.Value(f"SAGA_STATUS_{status}") for status in SagaStatus
}
SAGA_STATUSES: Mapping[int, SagaStatus] = {number: status for status, number in SAGA_STATUS_NUMBERS.items()}

STEP_STATUS_NUMBERS: Mapping[StepStatus, saga_pb2.StepStatus.ValueType] = {
    status: saga_pb2.StepStatus.Value(f"STEP_STATUS_{status}") for status in StepStatus
}

EFFECT_NUMBERS: Mapping[EffectKnown, saga_pb2.Effect.ValueType] = {
    effect: saga_pb2.Effect.Value(f"EFFECT_{effect.name}") for effect in EffectKnown
}

OPERATION_NUMBERS: Mapping[str, saga_pb2.OperationKind.ValueType] = {
    kind: saga_pb2.OperationKind.Value(f"OPERATION_KIND_{kind.name}") for kind in OperationKind
}
OPERATION_KINDS: Mapping[int, OperationKind] = {OPERATION_NUMBERS[kind]: kind for kind in OperationKind}

REPORT_RESULT_NUMBERS: Mapping[WhyNot, saga_service_pb2.ReportResult.ValueType] = {
    reason: saga_service_pb2.ReportResult.Value(f"REPORT_RESULT_{reason}") for reason in WhyNot
}
"""Why a report was not applied; one that was is `REPORT_RESULT_APPLIED`."""

BREAKER_STATE_NUMBERS: Mapping[str, directory_service_pb2.BreakerState.ValueType] = {
    name.removeprefix("BREAKER_STATE_"): number
    for name, number in directory_service_pb2.BreakerState.items()
    if number
}

BREAKER_CONTROL_NUMBERS: Mapping[str, directory_service_pb2.BreakerControl.ValueType] = {
    name.removeprefix("BREAKER_CONTROL_"): number
    for name, number in directory_service_pb2.BreakerControl.items()
    if number
}
BREAKER_CONTROLS: Mapping[int, str] = {number: word for word, number in BREAKER_CONTROL_NUMBERS.items()}

LOAD_BALANCING_NUMBERS: Mapping[str, directory_service_pb2.LoadBalancing.ValueType] = {
    name.removeprefix("LOAD_BALANCING_").lower(): number
    for name, number in directory_service_pb2.LoadBalancing.items()
    if number
}
"""By the word that a directory file has."""
LOAD_BALANCINGS: Mapping[int, str] = {number: word for word, number in LOAD_BALANCING_NUMBERS.items()}

ACT_VERB_NUMBERS: Mapping[Verb, operator_service_pb2.ActVerb.ValueType] = {
    verb: operator_service_pb2.ActVerb.Value(f"ACT_VERB_{verb.name}") for verb in Verb
}

ACT_SUBJECT_KIND_NUMBERS: Mapping[SubjectKind, operator_service_pb2.ActSubjectKind.ValueType] = {
    kind: operator_service_pb2.ActSubjectKind.Value(f"ACT_SUBJECT_KIND_{kind.name}") for kind in SubjectKind
}
ACT_SUBJECT_KINDS: Mapping[int, SubjectKind] = {
    number: kind for kind, number in ACT_SUBJECT_KIND_NUMBERS.items()
}

ACT_RESULT_NUMBERS: Mapping[ActResult, operator_service_pb2.ActResult.ValueType] = {
    result: operator_service_pb2.ActResult.Value(f"ACT_RESULT_{result.name}") for result in ActResult
}

FINDING_NUMBERS: Mapping[Finding, operator_service_pb2.Finding.ValueType] = {
    finding: operator_service_pb2.Finding.Value(f"FINDING_{finding.name}") for finding in Finding
}
FINDINGS: Mapping[int, Finding] = {number: finding for finding, number in FINDING_NUMBERS.items()}
