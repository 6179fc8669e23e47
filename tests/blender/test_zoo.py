"""One of every kind of file, on a node that has none of them: equal to F12; each that is missing is named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .. import support
from ..sshd import Sshd
from ..support import exr
from . import house, zoo
from .test_nodes import known_hosts, nodes_file

BLEND = "proj ä/shot 猫/zoo scene.blend"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("zoo") / "all of it"
    base.mkdir()
    house.python(zoo.MAKE, base)
    return base


@pytest.fixture
def machine(tmp_path: Path, tree: Path) -> Iterator[Sshd]:
    """A node in whose eyes the folder of the whole tree is empty."""
    environment = {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}
    with Sshd(tmp_path / "node", environment=environment, hidden=tree) as sshd:
        yield sshd


def test_a_node_that_has_nothing_renders_what_f12_renders(tree: Path, machine: Sshd, tmp_path: Path) -> None:
    f12 = support.render_f12(tree / BLEND, tmp_path / "f12.exr")
    done = house.blender(
        *("--online-mode", tree / BLEND, "--command", "distributed_cycles", "render", "--strict"),
        *("--nodes", nodes_file(tmp_path, [machine]), "--known-hosts", known_hosts(tmp_path, [machine])),
        *("--no-local", "--tile-size", "32", "--job-dir", tmp_path / "job", "--json"),
        *("--output", tmp_path / "picture"),
    )
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout.splitlines()[-1])["nodes"][0]["sent_bytes"]
    assert sent > 100_000
    support.assert_equal(exr.read(tmp_path / "job" / "frame.exr")[0], f12)


def test_each_file_that_is_missing_is_named_with_who_wants_it(tree: Path) -> None:
    house.python(
        """
import json
base = Path(sys.argv[-1])
kinds = json.loads((base / "kinds.json").read_text())
files = module("operators.files")
scene = bpy.context.scene
everything = files.find(scene)
assert not everything.missing, everything.missing
places = [file.path for file in everything.files]
assert len(places) == len(set(places))
# What Blender itself would name is among it.
known = {os.path.normpath(file.source) for file in everything.files}
for path in bpy.utils.blend_paths(absolute=True, packed=False, local=False):
    path = os.path.normpath(path)
    if str(base) in path and Path(path).is_file() and not path.endswith(("walk_001.png", "smoke_0006.vdb")):
        assert path in known, path
assert any(path.endswith("sea/disp_0007.exr") for path in known)
for number in (1, 2, 4):
    assert not any(path.endswith(f"walk_{number:03}.png") for path in known), "frames that are not needed"
for file, words in kinds.items():
    (base / file).rename(base / "gone")
    missing = files.find(scene).missing
    (base / "gone").rename(base / file)
    assert len(missing) == 1, (file, missing)
    assert Path(file).name in missing[0] and words in missing[0], (file, words, missing)
print("KINDS", len(kinds))
""".replace("import json", "import json, os"),
        tree,
        blend=tree / BLEND,
    )


def test_strict_stops_before_the_first_tile(tree: Path, tmp_path: Path) -> None:
    file = tree / "elsewhere/far.png"
    file.rename(tmp_path / "gone")
    try:
        done = house.render(tree / BLEND, "--strict", "--job-dir", tmp_path / "job")
    finally:
        (tmp_path / "gone").rename(file)
    assert done.returncode == 1
    assert f"Missing file: {file}, wanted by image 'far.png'." in done.stderr
    assert not (tmp_path / "job").exists()
