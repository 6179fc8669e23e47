"""Make installable zips of the extension in build/dist, and let Blender's own tool validate them.

    python tools/build.py [--python cp311|cp313] [--platform linux-x64|...]
                          [--blender-min 4.2.0] [--blender-max 5.1.0] [--output FOLDER]

A zip holds the wheels of one platform and one Python: with two cffi wheels in one zip Blender
4.2.0 installs the wrong one. Blender brings its Python, so the Python decides the range of
Blender versions, unless a distribution built Blender otherwise: Debian's Blender 4.3 runs on
Python 3.13 and takes `--python cp313 --blender-min 4.2.0 --blender-max any`.

Runs under the project's environment: Blender's extension tool comes with the bpy wheel.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "wheels"))

import fetch  # noqa: E402  # a script of wheels/, which is no package

PARTS = ("__init__.py", "LICENSE", "README.md", "CHANGELOG.md", "engine", "operators", "ui")
"""What of the checkout is shipped."""
BLENDER_RANGE = {"cp311": ("4.2.0", "5.1.0"), "cp313": ("5.1.0", None)}
"""The first Blender with that Python, and the first without it."""
IGNORED = shutil.ignore_patterns("__pycache__", "*.py[co]", ".*")


def build(python: str, platform: str, minimum: str, maximum: str | None, output: Path) -> Path:
    """Make and validate one zip. Returns where it is."""
    manifest = (REPOSITORY / "blender_manifest.toml").read_text(encoding="utf-8")
    version = tomllib.loads(manifest)["version"]
    until = f"before-{short(maximum)}" if maximum else "or-later"
    name = f"distributed_cycles-{version}-{platform}-{python}-blender-{short(minimum)}-{until}.zip"
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        stage = Path(folder)
        for part in PARTS:
            source = REPOSITORY / part
            if source.is_dir():
                shutil.copytree(source, stage / part, ignore=IGNORED)
            else:
                shutil.copy(source, stage)
        (stage / "wheels").mkdir()
        wheels = fetch.fetch(python, platform)
        for wheel in wheels:
            shutil.copy(wheel.path, stage / "wheels")
        text = narrowed(manifest, [wheel.file for wheel in wheels], platform, minimum, maximum)
        (stage / "blender_manifest.toml").write_text(text, encoding="utf-8")
        extension_tool("build", "--source-dir", str(stage), "--output-filepath", str(output / name))
    extension_tool("validate", str(output / name))
    with zipfile.ZipFile(output / name) as archive:
        shipped = {entry.rpartition("/")[2] for entry in archive.namelist()}
    assert shipped.issuperset(wheel.file for wheel in wheels), "the exclude pattern drops a wheel"
    return output / name


def narrowed(manifest: str, wheels: list[str], platform: str, minimum: str, maximum: str | None) -> str:
    """The committed manifest with what is true of one zip only."""
    committed = f'blender_version_min = "{tomllib.loads(manifest)["blender_version_min"]}"\n'
    lines = [f'blender_version_min = "{minimum}"']
    lines += [f'blender_version_max = "{maximum}"'] if maximum else []
    lines += [f'platforms = ["{platform}"]', "wheels = [", *(f'  "./wheels/{file}",' for file in wheels), "]"]
    assert committed in manifest
    return manifest.replace(committed, "\n".join(lines) + "\n")


def short(version: str) -> str:
    return ".".join(version.split(".")[:2])


def extension_tool(*arguments: str) -> None:
    """Run Blender's own extension tool; it needs no running Blender."""
    spec = importlib.util.find_spec("bpy")
    if spec is None or spec.origin is None:
        raise SystemExit("no bpy in this Python: run `make build`, or build/venv/bin/python tools/build.py")
    (tool,) = Path(spec.origin).parent.glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py")
    subprocess.run([sys.executable, str(tool), *arguments], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--python", choices=fetch.PYTHONS, help="only for this Python")
    parser.add_argument("--platform", choices=fetch.PLATFORM_TAGS, help="only for this platform")
    parser.add_argument("--blender-min", metavar="VERSION", help="the first Blender that may install it")
    parser.add_argument(
        "--blender-max", metavar="VERSION", help="the first Blender that may no longer install it, or any"
    )
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build" / "dist", metavar="FOLDER")
    arguments = parser.parse_args()
    for platform in [arguments.platform] if arguments.platform else fetch.PLATFORM_TAGS:
        for python in [arguments.python] if arguments.python else fetch.PYTHONS:
            minimum, maximum = BLENDER_RANGE[python]
            if arguments.blender_max:
                maximum = None if arguments.blender_max == "any" else arguments.blender_max
            print(build(python, platform, arguments.blender_min or minimum, maximum, arguments.output))


if __name__ == "__main__":
    main()
