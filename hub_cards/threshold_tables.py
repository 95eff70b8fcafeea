"""Values of the model card about the thresholds and the calibration of a model."""

from collections.abc import Mapping
from typing import Any

from .counts import MAX_TYPES_SHOWN

_GOALS = {
    "f1": "the micro F1",
    "macro-f1": "the F1 of each type",
    "precision": "a precision of {:.1f} % for each type",
    "recall": "a recall of {:.1f} % for each type",
}


def threshold_values(config: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for the part of the card about thresholds; `thresholds` is empty if all of them are defaults.

    Args:
        config: the `BinderConfig` of the model.
        facts: facts about the tuning, see `TunedThresholds.facts` in `modeling_binder.finetuning.thresholds`.
    """
    thresholds, temperatures = config.thresholds or {}, config.temperatures or {}
    calibrated = bool(temperatures) or config.default_temperature != 1
    if not facts and not config.has_tuned_values:
        return {"thresholds": [], "calibrated": False, "tuned": None}
    labels = [label for label in config.type_descriptions if label in thresholds or label in temperatures]
    rows = [
        [label, thresholds.get(label, config.default_threshold), temperatures.get(label, config.default_temperature)]
        for label in labels[:MAX_TYPES_SHOWN]
    ]
    rows.append(["all other types" if labels else "all types", config.default_threshold, config.default_temperature])
    columns = 3 if calibrated else 2
    return {
        "thresholds": [[row[0], *(f"{value:g}" for value in row[1:columns])] for row in rows],
        "calibrated": calibrated,
        "tuned": _tuned(facts) if facts else None,
    }


def _tuned(facts: Mapping[str, Any]) -> dict[str, Any]:
    goal = _GOALS[facts["metric"]].format(100 * (facts.get("target") or 0))
    calibration = facts.get("calibration")
    return {
        "goal": goal,
        "decoding": facts["decoding"],
        "documents": f"{facts['documents']:,}",
        "mentions": f"{facts['before']['gold']:,}",
        "min_mentions": facts["min_mentions"],
        **{key: list(facts.get(key) or [])[:MAX_TYPES_SHOWN] for key in ("unreached", "few", "redescribed", "unknown")},
        "rows": [
            [name, *(f"{100 * facts[key][metric]:.2f}" for metric in ("precision", "recall", "f1"))]
            for name, key in (("before", "before"), ("after", "after"))
        ],
        "calibration": calibration
        and {
            "spans": f"{calibration['spans']:,}",
            **{key: f"{100 * calibration[key]:.2f}" for key in ("error_before", "error_after")},
        },
    }
