"""Download the wheels that go into the extension's zips, each held to its hash in lock.toml.

    python wheels/fetch.py [--python cp311|cp313] [--platform linux-x64|...]   fetch what is missing
    python wheels/fetch.py --lock                                              write lock.toml anew

pip does the downloading, so mirrors and proxies work as they are set up for pip.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
LOCK = FOLDER / "lock.toml"
VERSIONS = FOLDER / "versions.toml"

PYTHONS = ("cp311", "cp313")
MANYLINUX = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux_2_5", "manylinux1")
"""Blender 4.2 asks for glibc 2.28."""
PLATFORM_TAGS = {
    "linux-x64": [f"{tag}_x86_64" for tag in MANYLINUX],
    "linux-arm64": [f"{tag}_aarch64" for tag in MANYLINUX],
    "macos-arm64": ["macosx_11_0_arm64", "macosx_11_0_universal2", "macosx_10_15_universal2"],
    "macos-x64": ["macosx_10_15_x86_64", "macosx_10_15_universal2"],
    "windows-x64": ["win_amd64"],
    "windows-arm64": ["win_arm64"],
}
"""Blender's name of a platform, and the wheels it can use, as pip names them."""


@dataclass(frozen=True)
class Wheel:
    """One locked file, and the build that it belongs to."""

    name: str
    version: str
    file: str
    sha256: str
    python: str
    platform: str

    @property
    def path(self) -> Path:
        return FOLDER / self.file

    def is_here(self) -> bool:
        return self.path.is_file() and sha256(self.path) == self.sha256


def locked(python: str, platform: str) -> list[Wheel]:
    """The wheels of one build."""
    with LOCK.open("rb") as file:
        entries = tomllib.load(file)[platform][python]
    return [Wheel(**entry, python=python, platform=platform) for entry in entries]


def fetch(python: str, platform: str) -> list[Wheel]:
    """Make sure that the wheels of one build are here, unchanged. Returns them."""
    wheels = locked(python, platform)
    missing = [wheel for wheel in wheels if not wheel.is_here()]
    if missing:
        lines = [f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in missing]
        download(python, platform, lines, FOLDER, "--require-hashes")
    for wheel in missing:
        if not wheel.is_here():
            raise SystemExit(f"{wheel.file}: pip did not leave it in {FOLDER} with the locked hash")
    return wheels


def lock() -> str:
    """The text of lock.toml for the versions in versions.toml, as the package index has them now."""
    with VERSIONS.open("rb") as file:
        table = tomllib.load(file)["versions"]
    common = {name: version for name, version in table.items() if isinstance(version, str)}
    text = ["# Written by `make lock` from versions.toml; not by hand.", ""]
    for platform in PLATFORM_TAGS:
        for python in PYTHONS:
            versions = common | table.get(platform, {})
            with tempfile.TemporaryDirectory() as folder:
                lines = [f"{name}=={version}" for name, version in versions.items()]
                download(python, platform, lines, Path(folder))
                found = {path.name.partition("-")[0].lower(): path for path in Path(folder).glob("*.whl")}
                for name, version in versions.items():
                    path = found[name]
                    text += [
                        f"[[{platform}.{python}]]",
                        f'name = "{name}"',
                        f'version = "{version}"',
                        f'file = "{path.name}"',
                        f'sha256 = "{sha256(path)}"',
                        "",
                    ]
    return "\n".join(text)


def download(python: str, platform: str, requirements: list[str], folder: Path, *options: str) -> None:
    """pip download for another platform and Python than those this runs on; no dependencies."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--implementation", "cp", "--python-version", python.removeprefix("cp")]
    command += ["--abi", python, "--abi", "abi3", "--abi", "none"]
    for tag in PLATFORM_TAGS[platform]:
        command += ["--platform", tag]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(requirements))
        file.flush()
        command += ["--dest", str(folder), "--requirement", file.name, *options]
        subprocess.run(command, check=True)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lock", action="store_true", help="write lock.toml anew from versions.toml")
    parser.add_argument("--python", choices=PYTHONS, help="only this one")
    parser.add_argument("--platform", choices=PLATFORM_TAGS, help="only this one")
    arguments = parser.parse_args()
    if arguments.lock:
        LOCK.write_text(lock(), encoding="utf-8")
        return
    for platform in [arguments.platform] if arguments.platform else PLATFORM_TAGS:
        for python in [arguments.python] if arguments.python else PYTHONS:
            for wheel in fetch(python, platform):
                print(f"{platform} {python} {wheel.file}")


if __name__ == "__main__":
    main()
