"""What all settings share: the mark of a field that does not decide the result."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Neutral:
    """Mark, within ``Annotated``, of a setting that may differ between runs of equal results."""


def deciding(settings: BaseModel) -> dict[str, Any]:
    """Return the settings that decide the result, those not marked `Neutral`, as JSON values."""
    fields = type(settings).model_fields
    neutral = {name for name, field in fields.items() if Neutral in field.metadata}
    return settings.model_dump(mode="json", exclude=neutral)
