from __future__ import annotations

from pathlib import Path

from heron.messaging.topics import TOPICS, markdown_table

DOCS = Path(__file__).parents[3] / "docs" / "messaging.md"


def test_the_documented_table_of_topics_is_the_real_one() -> None:
    text = DOCS.read_text(encoding="utf-8")
    table = text.split("<!-- topics: ", 1)[1].split("-->\n", 1)[1].split("\n<!-- /topics -->")[0]
    assert table == markdown_table()


def test_only_status_is_retained() -> None:
    assert [topic.name for topic in TOPICS if topic.retain] == ["status"]
