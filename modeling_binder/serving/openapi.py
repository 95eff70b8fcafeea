"""Description of /find for the OpenAPI page."""

from typing import Any

_TEXTS = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "array"}]}}],
    "description": "A text, or a list of texts. With `is_split_into_words`, a text is a list of words.",
}
_TYPES = {
    "anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "object"}],
    "description": "Names of entity types, or an object that maps each name to a description or to "
    '`{"description": ..., "parent": ...}`. Defaults to the types of the model.',
}
_THRESHOLD = {
    "anyOf": [{"type": "number"}, {"type": "object", "additionalProperties": {"type": "number"}}],
    "description": "Lowest score of an entity: a probability, or an object that maps names of entity types to "
    "probabilities. Defaults to the thresholds of the model.",
}
_BODY = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": _TEXTS,
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "entity_types": _TYPES,
                "threshold": _THRESHOLD,
                "decoding": {"enum": ["nested", "flat"], "description": "Defaults to the setting of the model."},
                "inference": {"enum": ["span", "joint"], "description": "Defaults to the setting of the model."},
                "max_length": {"type": "integer", "description": "Tokens in a window."},
                "stride": {"type": "integer", "description": "Tokens that neighbouring windows share."},
                "is_split_into_words": {"type": "boolean"},
                "batch_size": {"type": "integer", "description": "Windows in a batch."},
            },
        },
    },
    "example": {
        "inputs": "The Falcon X2 laptop costs 900 euros.",
        "parameters": {"entity_types": {"product": "A thing that is for sale.", "price": "An amount of money."}},
    },
}
_ENTITIES = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "entity_group": {"type": "string"},
            "score": {"type": "number"},
            "word": {"type": "string"},
            "start": {"type": "integer", "description": "Offset of the first character."},
            "end": {"type": "integer", "description": "Offset after the last character."},
        },
    },
}
_REFUSALS = {
    401: "The token is missing or wrong.",
    413: "Too many characters, texts or entity types.",
    422: "The request is malformed.",
    429: "Too many requests are waiting.",
}
_ERROR = {"type": "object", "properties": {"error": {"type": "string", "description": "What went wrong."}}}

# Arguments of the route
FIND: dict[str, Any] = {
    "summary": "Find the entities of a text, or of each text of a list",
    "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
    "responses": {
        200: {
            "description": "A list of entities. For a list of texts, one list of entities per text.",
            "content": {"application/json": {"schema": {"anyOf": [_ENTITIES, {"type": "array", "items": _ENTITIES}]}}},
        },
        **{
            code: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
            for code, text in _REFUSALS.items()
        },
    },
}
