"""An OCIO configuration of the user's own: a texture is converted on a node as it is here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .. import support
from ..sshd import Sshd
from ..support import exr
from . import house
from .test_nodes import known_hosts, nodes_file

CONFIG = """
import re, shutil
folder = Path(sys.argv[-1])
shutil.copytree(Path(bpy.utils.system_resource("DATAFILES"), "colormanagement"), folder / "con fig")
(folder / "con fig/shared ü").mkdir()
(folder / "con fig/shared ü/house.spi1d").write_text(
    "Version 1\\nFrom 0 1\\nLength 3\\nComponents 1\\n{\\n0\\n0.1\\n1\\n}\\n")
config = folder / "con fig/config.ocio"
text = config.read_text(encoding="utf-8")
text = re.sub(r"^search_path:.*", 'search_path: "luts:shared ü:filmic"', text, count=1, flags=re.MULTILINE)
space = '''
  - !<ColorSpace>
    name: House
    bitdepth: 32f
    to_scene_reference: !<FileTransform> {src: house.spi1d, interpolation: linear}
'''
config.write_text(re.sub("^colorspaces:", "colorspaces:" + space, text, count=1, flags=re.MULTILINE), encoding="utf-8")
"""
SCENE = """
from pathlib import Path
image = bpy.data.images.new("made", 16, 16)
import random
image.pixels.foreach_set([random.random() for _ in range(16 * 16 * 4)])
image.filepath_raw, image.file_format = str(Path(sys.argv[-1]).with_name("tex.png")), "PNG"
image.save()
image = bpy.data.images.load(image.filepath_raw)
image.colorspace_settings.name = SPACE
material = bpy.data.materials.new("Textured")
material.use_nodes = True
node = material.node_tree.nodes.new("ShaderNodeTexImage")
node.image = image
material.node_tree.links.new(node.outputs[0], material.node_tree.nodes["Principled BSDF"].inputs["Base Color"])
for item in bpy.data.objects:
    if item.type == "MESH":
        item.data.materials.append(material)
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("colors") / "studio"
    folder.mkdir()
    house.python(CONFIG, folder)
    return folder / "con fig" / "config.ocio"


def render(blend: Path, folder: Path, machine: Sshd | None) -> exr.Planes:
    nodes = () if machine is None else (
        *("--nodes", nodes_file(folder, [machine]), "--known-hosts", known_hosts(folder, [machine]), "--no-local"),
    )  # fmt: skip
    done = house.blender(
        *("--online-mode", blend, "--command", "distributed_cycles", "render", "--strict", *nodes),
        *("--tile-size", "64", "--job-dir", folder / "job", "--output", folder / "picture"),
    )
    assert done.returncode == 0, done.stderr
    return exr.read(folder / "job" / "frame.exr")[0]


def environment(**more: str) -> dict[str, str]:
    return {**({"BPY_PYTHON": os.environ["BPY_PYTHON"]} if "BPY_PYTHON" in os.environ else {}), **more}


def test_a_configuration_of_ones_own_is_used_on_the_node(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blend = tmp_path / "scene.blend"
    monkeypatch.setenv("OCIO", str(config))
    support.make_scene(blend, more=f"SPACE = 'House'\n{SCENE}")
    f12 = support.render_f12(blend, tmp_path / "f12.exr")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    settings = environment(TMPDIR=str(temporary))
    with Sshd(tmp_path / "node", environment=settings, hidden=config.parent.parent) as machine:
        support.assert_equal(render(blend, tmp_path, machine), f12)
        assert support.wait_until(lambda: not any(temporary.iterdir()), 10), "a worker's folder is left"
        (cache,) = (tmp_path / "node" / "cache").glob("**/objects")
        assert len([path for path in cache.rglob("*") if path.is_file()]) > 2
    support.assert_equal(render(blend, tmp_path / "here", None), f12)

    table = config.parent / "shared ü" / "house.spi1d"
    table.rename(tmp_path / "gone")
    done = house.render(blend, "--strict", "--job-dir", tmp_path / "other")
    (tmp_path / "gone").rename(table)
    assert done.returncode == 1
    assert "house.spi1d, wanted by the color management ($OCIO)" in done.stderr, done.stderr

    monkeypatch.delenv("OCIO")
    without = support.render_f12(blend, tmp_path / "without.exr")
    assert any((without[name] != plane).any() for name, plane in f12.items()), "the configuration is not seen"


def test_a_nodes_own_configuration_is_not(config: Path, tmp_path: Path) -> None:
    blend = support.make_scene(tmp_path / "scene.blend", more=f"SPACE = 'sRGB'\n{SCENE}")
    text = (
        config.read_text(encoding="utf-8")
        .replace("name: sRGB\n", "name: Other\n")
        .replace("name: House", "name: sRGB")
    )
    other = config.with_name("other.ocio")
    other.write_text(text, encoding="utf-8")
    f12 = support.render_f12(blend, tmp_path / "f12.exr")
    with Sshd(tmp_path / "node", environment=environment(OCIO=f'"{other}"')) as machine:
        support.assert_equal(render(blend, tmp_path, machine), f12)
