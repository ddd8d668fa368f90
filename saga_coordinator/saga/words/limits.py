"""The limits of a definition and its sagas. The defaults suit business processes; each limit is a setting of the server."""

from __future__ import annotations

from dataclasses import dataclass, replace

from saga_coordinator.saga.words.work import DEFINITION_WORK_MAX

DEFINITION_BYTES_MAX = 1024 * 1024
DEFINITION_VALUES_MAX = 30_000
"""The most items and fields of a definition. Parsing so many is one call that nothing interrupts: 17 ms."""
EXPRESSION_CHARACTERS_MAX = 4096
"""The longest expression, in characters. The bounds on an expression's cost hold up to this length: see `calculation.py`."""

LABELS_MAX = 32
"""The most labels of one saga."""
LABEL_NAME_CHARACTERS_MAX = 63
LABEL_VALUE_CHARACTERS_MAX = 255

EVENT_KEPT_SECONDS = 7 * 86400.0
"""The longest time, in seconds, for which a published event is kept. It is also the default."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one server. The first four hold when a definition is registered, the others while its sagas run.

    Attributes:
        steps: the most steps of one definition, steps in blocks included.
        block_nesting: how deep blocks may lie in blocks.
        expression_characters: length of one expression; at most `EXPRESSION_CHARACTERS_MAX`.
        payload_bytes: the size of one value that an expression or a template results in, as the message that carries it: see
            `size.py`.
        has_sound_constants: whether the parts of expressions that are computed from constants alone have to succeed.
        items: the most items of one `for_each`.
        log_entries: the most entries about what the steps of one saga did, waiting not counted. Once a saga has so many, no
            loop and no further pass begins.
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
        """The units of work for checking a definition: more if it may have more steps than usual."""
        return DEFINITION_WORK_MAX * max(1, self.steps // 200)

    @property
    def definition_bytes(self) -> int:
        """The size of a definition as JSON: more if it may have more steps than usual."""
        return DEFINITION_BYTES_MAX * max(1, self.steps // 200)

    @property
    def definition_values(self) -> int:
        """The number of items and fields of a definition: more if it may have more steps than usual."""
        return DEFINITION_VALUES_MAX * max(1, self.steps // 200)

    def for_registered(self) -> Limits:
        """The limits for a definition that was registered before, perhaps under other limits: the definition stays valid."""
        return replace(
            self,
            steps=10**9,
            block_nesting=64,
            expression_characters=EXPRESSION_CHARACTERS_MAX,
            has_sound_constants=False,
        )


DEFAULT_LIMITS = Limits()
