"""Model cards whose tables are written from stored figures."""

from __future__ import annotations

import re
from pathlib import Path

BEGIN, END = "<!-- figures -->\n", "<!-- end -->"


def rewrite_card(card: Path, tables: str) -> None:
    """Replace what stands between the markers of a card."""
    text = card.read_text(encoding="utf-8")
    wanted = BEGIN + tables + END
    text = re.sub(f"{BEGIN}.*{END}", lambda _: wanted, text, flags=re.DOTALL)
    card.write_text(text, encoding="utf-8")
