"""One of every kind of file, on a node that has none of them: equal to F12; each that is missing is named."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.worker import scene

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
kinds = json.loads((base / "kinds.json").read_text())["kinds"]
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


def test_each_file_is_seen_in_the_picture(tree: Path, tmp_path: Path) -> None:
    """Without it F12 gives other pixels: so a picture that is equal has had them all."""
    code = """
import json
import numpy as np
exr = module("engine.exr")
base, folder = map(Path, sys.argv[-2:])
zoo = json.loads((base / "kinds.json").read_text())
blend = bpy.data.filepath

def picture(file=""):
    bpy.ops.wm.open_mainfile(filepath=blend)
    SETTINGS
    scene = bpy.context.scene
    # It takes seconds to start, so only what is written in it has it on.
    scene.cycles.shading_system = Path(file).suffix in (".osl", ".h")
    scene.cycles.samples = 1
    scene.render.filepath = str(folder / "look.exr")
    for compiled in base.rglob("*.oso"):
        compiled.unlink()
    bpy.ops.render.render(write_still=True)
    planes = exr.read(folder / "look.exr")[0]
    return np.stack([planes[name] for name in sorted(planes) if ".Combined." in name])

whole = {False: picture(), True: picture("x.osl")}
assert np.array_equal(picture(), whole[False])
for file in zoo["kinds"]:
    (base / file).rename(folder / "gone")
    if file in zoo["silenced"]:
        sound = bytearray((folder / "gone").read_bytes())
        sound[44:] = bytes(len(sound) - 44)
        (base / file).write_bytes(sound)
    other = picture(file)
    (folder / "gone").rename(base / file)
    changed = (other != whole[Path(file).suffix in (".osl", ".h")]).any(axis=0).sum()
    assert (changed > 10) == (file not in zoo["unseen"]), (file, changed)
"""
    settings = "".join(f"    {line}\n" for line in house.EXR_OUTPUT.strip().splitlines())
    house.python(code.replace("    SETTINGS\n", settings), tree, tmp_path, blend=tree / BLEND)


@pytest.mark.parametrize("path", ["", "//smoke"])
def test_of_a_fluid_the_frame_and_its_neighbours_travel(tmp_path: Path, path: str) -> None:
    """As far as it goes without Mantaflow: no Blender here renders one (see zoo)."""
    house.python(zoo.FLUID, path, tmp_path)
    house.python(
        """
files = module("operators.files")
base = Path(sys.argv[-1])
found = files.find(bpy.context.scene)
names = sorted(Path(file.source).name for file in found.files)
assert names == [f"{name}_{number:04}.{end}" for name, end in (("config", "uni"), ("fluid_data", "vdb")) for number in (6, 7, 8)]
assert not found.missing
(base / "smoke/data/fluid_data_0007.vdb").unlink()
(line,) = files.find(bpy.context.scene).missing
assert "fluid_data_0007" in line and "modifier 'Smoke' of object 'Cube'" in line, line
""",
        tmp_path,
        blend=tmp_path / "smoke.blend",
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


def test_prepared_textures_travel(tmp_path: Path) -> None:
    """Files that Blender 5.2 and later keep beside a texture, and that change the pixels. Before, there are none."""
    base = tmp_path / "base"
    base.mkdir()
    more = """
from pathlib import Path
import os, random
folder = Path(sys.argv[-1]).parent
for name in ("fresh", "st[a]le"):
    image = bpy.data.images.new("made", 64, 64)
    image.pixels.foreach_set([random.random() for _ in range(64 * 64 * 4)])
    image.filepath_raw, image.file_format = str(folder / f"{name}.png"), "PNG"
    image.save()
    material = bpy.data.materials.new(name)
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = bpy.data.images.load(image.filepath_raw)
    material.node_tree.links.new(node.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
    for item in [item for item in bpy.data.objects if item.type == "MESH"][name == "fresh" :: 2]:
        item.data.materials.append(material)
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[-1])
if hasattr(scene.render, "use_texture_cache"):
    bpy.ops.render.generate_texture_cache()
    # Painted since, so that one does not count any more.
    os.utime(folder / "st[a]le.png", (2e9, 2e9))
"""
    blend = support.make_scene(base / "scene.blend", more=more)
    f12 = support.render_f12(blend, tmp_path / "f12.exr")
    environment = {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}
    with Sshd(tmp_path / "node", environment=environment, hidden=base) as machine:
        done = house.blender(
            *("--online-mode", blend, "--command", "distributed_cycles", "render", "--strict", "--no-local"),
            *("--nodes", nodes_file(tmp_path, [machine]), "--known-hosts", known_hosts(tmp_path, [machine])),
            *("--tile-size", "64", "--job-dir", tmp_path / "job", "--output", tmp_path / "picture"),
        )
    assert done.returncode == 0, done.stderr
    support.assert_equal(exr.read(tmp_path / "job" / "frame.exr")[0], f12)
    sent = json.loads((tmp_path / "job" / "job.json").read_text())
    prepared = [Path(file["path"]).name for file in sent["files"] if file["path"].endswith(".tx")]
    is_there = support.blender_version() >= (5, 2, 0)
    assert [name.split(".png.")[0] for name in prepared] == (["fresh"] if is_there else []), prepared
    for file in base.rglob("*.tx"):
        file.unlink()
    without = support.render_f12(blend, tmp_path / "without.exr")
    assert is_there == any((without[name] != plane).any() for name, plane in f12.items())


def test_prepared_textures_are_not_older_than_what_they_were_made_of(tmp_path: Path) -> None:
    """On a node files have the time of their arrival, in any order."""
    texture, prepared = (
        tmp_path / "a" / "b.1001.png",
        tmp_path / "a" / "blender_tx" / "b.1001.png.0-926BDA85.tx",
    )
    prepared.parent.mkdir(parents=True)
    for path, time in ((texture, 2e9), (prepared, 1e9)):
        path.touch()
        os.utime(path, (time, time))
    scene._refresh_prepared_textures(tmp_path)
    assert prepared.stat().st_mtime == texture.stat().st_mtime == 2e9


def test_a_camera_written_in_osl_travels(tmp_path: Path) -> None:
    """Blender 4.5 and later; before, the camera is one like others."""
    base = tmp_path / "base"
    base.mkdir()
    more = """
from pathlib import Path
scene.cycles.shading_system = True
folder = Path(sys.argv[-1]).parent
(folder / "lens.osl").write_text(
    '#include "lens.h"\\n'
    "shader lens(output point position = 0, output vector direction = 0, output color throughput = 1) {\\n"
    "  vector at = camera_shader_raster_position() - 0.5;\\n"
    "  direction = normalize(vector(at[0] * WIDE, at[1], 1)); }\\n")
(folder / "lens.h").write_text("#define WIDE 1.6\\n")
camera = scene.camera.data
if hasattr(camera, "custom_filepath"):
    camera.type, camera.custom_mode = "CUSTOM", "EXTERNAL"
    camera.custom_filepath = str(folder / "lens.osl")
"""
    blend = support.make_scene(base / "scene.blend", more=more)
    f12 = support.render_f12(blend, tmp_path / "f12.exr")
    environment = {"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}
    with Sshd(tmp_path / "node", environment=environment, hidden=base) as machine:
        done = house.blender(
            *("--online-mode", blend, "--command", "distributed_cycles", "render", "--strict", "--no-local"),
            *("--nodes", nodes_file(tmp_path, [machine]), "--known-hosts", known_hosts(tmp_path, [machine])),
            *("--tile-size", "64", "--job-dir", tmp_path / "job", "--output", tmp_path / "picture"),
        )
    assert done.returncode == 0, done.stderr
    support.assert_equal(exr.read(tmp_path / "job" / "frame.exr")[0], f12)
    code = "import bpy; print('LENS', 'custom_filepath' in bpy.types.Camera.bl_rna.properties)"
    is_there = "LENS True" in support.run_python(code)
    sent = json.loads((tmp_path / "job" / "job.json").read_text())
    assert {Path(file["path"]).name for file in sent["files"]} == (
        {"lens.osl", "lens.h"} if is_there else set()
    )
    (base / "lens.h").unlink()
    missing = house.render(blend, "--strict", "--job-dir", tmp_path / "other").stderr
    assert ("lens.h, wanted by camera" in missing) == is_there, missing
    for compiled in base.glob("*.oso"):
        compiled.unlink()
    without = support.render_f12(blend, tmp_path / "without.exr")
    assert is_there == any((without[name] != plane).any() for name, plane in f12.items())
