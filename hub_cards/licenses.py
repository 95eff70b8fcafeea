"""Licences of corpora: their ids on the Hub, and which of them allow publishing a converted copy."""

import re

# Three values for each licence: a pattern for its name in lower case, its id on the Hub if the name contains a version
# ({} is the version), and its id on the Hub if the name contains no version
_PATTERNS: tuple[tuple[str, str, str], ...] = (
    (r"cc0(?:[ -]1\.0)?|cc[ -]zero", "cc0-1.0", "cc0-1.0"),
    (r"cc[ -]by[ -]sa(?:[ -](\d\.\d))?", "cc-by-sa-{}", "cc"),
    (r"cc[ -]by(?:[ -](\d\.\d))?", "cc-by-{}", "cc"),
    (r"cdla[ -]permissive(?:[ -](\d\.\d))?", "cdla-permissive-{}", "other"),
    (r"odc[ -]by", "odc-by", "odc-by"),
    (r"odbl(?:[ -]1\.0)?", "odbl", "odbl"),
    (r"apache(?: licen[sc]e)?[ ,-]*(?:version )?2(?:\.0)?", "apache-2.0", "apache-2.0"),
    (r"mit(?: licen[sc]e)?", "mit", "mit"),
    (r"bsd[ -](2|3)[ -]clause", "bsd-{}-clause", "other"),
    (r"pddl|(?:u\.?s\.? )?public domain", "pddl", "pddl"),
)


def license_ids(statement: str | None) -> list[str]:
    """Return the Hub ids of the licences in a statement, if all of them allow publishing a converted copy of a corpus.

    Notes in parentheses are ignored. A statement may contain several licences, separated by commas, semicolons, slashes
    or "and". The result is empty if a licence is not known to allow publication ("CC BY-NC", "none stated", "and
    others"). Publication then needs the permission of the copyright holder.

    >>> license_ids("CC BY 4.0 (data); MIT (code)"), license_ids("CC BY-NC 4.0"), license_ids("none stated")
    (['cc-by-4.0', 'mit'], [], [])
    """
    text = re.sub(r"\([^()]*\)", " ", statement or "").lower()
    parts = [part.strip(" .") for part in re.split(r"[;/]|,(?! *version)|\band\b", text) if part.strip(" .")]
    ids = [_license_id(part) for part in parts]
    return list(dict.fromkeys(id for id in ids if id)) if all(ids) else []


def _license_id(name: str) -> str | None:
    for pattern, with_version, without in _PATTERNS:
        if match := re.fullmatch(pattern, name):
            version = next(filter(None, match.groups()), None)
            return with_version.format(version) if version else without
    return None
