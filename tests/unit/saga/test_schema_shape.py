"""Whether something is a schema at all, compared with the language's own metaschema."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as some
from jsonschema import Draft202012Validator

from saga_coordinator.saga.schema.shape import shape_faults

METASCHEMA = Draft202012Validator(Draft202012Validator.META_SCHEMA)
KEYWORDS = """
    $anchor $comment $defs $dynamicAnchor $vocabulary additionalProperties allOf anyOf const contains
    contentEncoding contentMediaType contentSchema default definitions dependencies dependentRequired
    dependentSchemas deprecated description else enum examples exclusiveMaximum exclusiveMinimum format
    if items maxContains maxItems maxLength maxProperties maximum minContains minItems minLength
    minProperties minimum multipleOf not oneOf pattern patternProperties prefixItems properties
    propertyNames readOnly required then title type unevaluatedItems unevaluatedProperties uniqueItems
    writeOnly unheard_of
""".split()  # noqa: SIM905 - they are easier to read so

words = some.sampled_from(["a", "b", "string", "integer", "", "1x", "two words"])
plain = some.one_of(
    some.none(), some.booleans(), words, some.sampled_from([-1, 0, 1, 2.0, 2.5, 0.0, -0.5, 10**20])
)
values = some.recursive(
    plain,
    lambda inner: some.one_of(
        some.lists(inner, max_size=3),
        some.dictionaries(words, inner, max_size=3),
        some.dictionaries(some.sampled_from(KEYWORDS), inner, max_size=3),
    ),
    max_leaves=8,
)
schemas = some.one_of(
    some.dictionaries(some.sampled_from(KEYWORDS), values, max_size=4),
    some.fixed_dictionaries({}, optional=dict.fromkeys(("type", "required", "multipleOf"), values)),
    values,
)


@given(schemas)
def test_what_has_the_shape_of_a_schema_is_one_by_the_metaschema(schema: Any) -> None:
    assert (not list(shape_faults(schema, "input_schema"))) == METASCHEMA.is_valid(schema)
