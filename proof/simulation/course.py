"""When each step was over, as participants, clients and clocks have it: what its successors had to wait for."""

from __future__ import annotations

from proof.conditions import holds
from proof.plan import Instance, Run, branch_of
from proof.simulation.evidence import ACTION, Evidence

_NEVER = float("inf")


class Course:
    """Instants in virtual seconds; infinite for what was never over."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._known: dict[str, float] = {}

    def may_start_at(self, instance: Instance) -> float:
        """From when on everything before it was over, and every block around it had got there."""
        at = self._ready_at(instance)
        for around in instance.chain[:-1]:
            at = max(at, self._ready_at(around))
        for inner in instance.chain[1:]:
            at = max(at, self._entered_at(inner.run))
        if any(holds(each.spec.get("when"), each.run.variables) is not True for each in instance.chain):
            return _NEVER
        return at

    def _ready_at(self, instance: Instance) -> float:
        return max((self.over_at(instance.run.instances[name]) for name in instance.before), default=0.0)

    def _entered_at(self, run: Run) -> float:
        """From when on a run of a block could begin; never, for the branch not taken and the pass too many."""
        owner = run.owner
        assert owner is not None
        match owner.kind:
            case "switch":
                return 0.0 if run.index == branch_of(owner) else _NEVER
            case "repeat":
                earlier = owner.runs[: run.index]
                until = owner.spec["repeat"]["until"]
                if any(holds(until, each.variables) is not False for each in earlier):
                    return _NEVER
                return max((self._run_over_at(each) for each in earlier), default=0.0)
            case _:
                return 0.0

    def over_at(self, instance: Instance) -> float:
        """From when on those that come after it could start."""
        if instance.key not in self._known:
            self._known[instance.key] = self._over_at(instance)
        return self._known[instance.key]

    def _over_at(self, instance: Instance) -> float:
        failed_at = _NEVER
        if instance.on_failure == "continue":
            types = ("attempt_refused", "attempt_unresolved", "input_invalid", "step_failed")
            failed_at = self._recorded_at(instance, *types)
        is_meant = holds(instance.spec.get("when"), instance.run.variables)
        if is_meant is None:
            return failed_at
        if not is_meant:
            return 0.0
        match instance.kind:
            case "action" | "saga":
                return min(failed_at, self._evidence.succeeded_at(instance.key, ACTION))
            case "switch":
                taken = branch_of(instance)
                if taken is None:
                    return _NEVER
                return 0.0 if taken < 0 else self._run_over_at(instance.runs[taken])
            case "for_each":
                return max(map(self._run_over_at, instance.runs), default=0.0)
            case "repeat":
                return self._repeated_at(instance)
            case _:  # what ended a wait is judged where waits are
                return min(failed_at, self._recorded_at(instance, "attempt_succeeded"))

    def _repeated_at(self, instance: Instance) -> float:
        at = 0.0
        for run in instance.runs:
            at = max(at, self._run_over_at(run))
            until = holds(instance.spec["repeat"]["until"], run.variables)
            if until is not False:
                return at if until else _NEVER
        return _NEVER

    def _run_over_at(self, run: Run) -> float:
        return max(map(self.over_at, run.instances.values()), default=0.0)

    def _recorded_at(self, instance: Instance, *types: str) -> float:
        return min((each.at for each in self._evidence.records(instance.key, ACTION, *types)), default=_NEVER)
