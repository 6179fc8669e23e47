"""Storage that both sides see under names of their own."""

from __future__ import annotations

import pytest

from engine.job import NodeListError
from engine.mapping import mapped, parse_mappings


@pytest.mark.parametrize(
    ("mapping", "path", "there"),
    [
        ("/mnt/projects = P:\\", "/mnt/projects/a b/c.png", "P:\\a b\\c.png"),
        ("/mnt/projects/ = P:\\art", "/mnt/projects/a/c.png", "P:\\art\\a\\c.png"),
        ("/mnt/projects = //server/x; /mnt = /srv", "/mnt/a.png", "/srv/a.png"),
        ("/mnt = /srv; /mnt/projects = /data", "/mnt/projects/a.png", "/data/a.png"),
        ("P:\\ = /mnt/projects", "p:\\A\\b.png", "/mnt/projects/A/b.png"),
        ("P:\\art = /mnt/art", "P:/Art/b.png", "/mnt/art/b.png"),
        ("\\\\nas\\art = /mnt/art", "\\\\NAS\\art\\x\\b.png", "/mnt/art/x/b.png"),
        ("/mnt/projects = /p", "/mnt/projects2/a.png", None),
        ("/mnt/projects = /p", "/mnt/projects", None),
        ("/mnt/projects = /p", "/mnt/projects/../secret", None),
        ("/Mnt = /p", "/mnt/a", None),
        ("", "/mnt/a", None),
        (" ; ", "/mnt/a", None),
    ],
)
def test_mapped(mapping: str, path: str, there: str | None) -> None:
    if "//server" in mapping:
        mapping = mapping.replace("//server/x", "\\\\server\\x")
    assert mapped(path, parse_mappings(mapping)) == there


@pytest.mark.parametrize("text", ["/mnt", "mnt = /x", "/mnt = x", "/a = /b; c", "= /x", "//rel = /x"])
def test_mistakes_are_named(text: str) -> None:
    with pytest.raises(NodeListError, match="no mapping of two absolute paths"):
        parse_mappings(text)
