"""What a definition and its sagas may amount to. The defaults suit business processes; each is a setting of the server."""

from __future__ import annotations

from dataclasses import dataclass, replace

from saga_coordinator.saga.words.work import DEFINITION_WORK_MAX

DEFINITION_BYTES_MAX = 1024 * 1024
EXPRESSION_CHARACTERS_MAX = 4096
"""What one expression may cost is bounded up to this length, and no further: see `calculation.py`."""

LABELS_MAX = 32
"""Of one saga."""
LABEL_NAME_CHARACTERS_MAX = 63
LABEL_VALUE_CHARACTERS_MAX = 255

EVENT_KEPT_SECONDS = 7 * 86400.0
"""How long a published event is kept at most, and unless its publisher asks for less."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The first four hold when a definition is registered, the others while its sagas run.

    Attributes:
        steps: of one definition, those in blocks included.
        block_nesting: how deep blocks may lie in blocks.
        expression_characters: length of one expression; at most `EXPRESSION_CHARACTERS_MAX`.
        payload_bytes: of one value that an expression or a template comes to, as the message that carries it: see `size.py`.
        has_sound_constants: whether what expressions compute of constants alone has to succeed.
        items: of one `for_each`.
        log_entries: of what the steps of one saga did, waiting not counted; with so many, no loop begins and no pass of one.
    """

    steps: int = 200
    block_nesting: int = 8
    expression_characters: int = EXPRESSION_CHARACTERS_MAX
    has_sound_constants: bool = True
    items: int = 1000
    payload_bytes: int = 1024 * 1024
    log_entries: int = 20_000

    @property
    def work(self) -> int:
        """Units of work for checking a definition; more where it may have more steps than usual."""
        return DEFINITION_WORK_MAX * max(1, self.steps // 200)

    @property
    def definition_bytes(self) -> int:
        """Of a definition as JSON; more where it may have more steps than usual."""
        return DEFINITION_BYTES_MAX * max(1, self.steps // 200)

    def for_registered(self) -> Limits:
        """Those for a definition that was registered before, perhaps under others: it stays valid."""
        return replace(
            self,
            steps=10**9,
            block_nesting=64,
            expression_characters=EXPRESSION_CHARACTERS_MAX,
            has_sound_constants=False,
        )


DEFAULT_LIMITS = Limits()
