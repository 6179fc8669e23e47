"""The values that every part of the engine speaks in, and the errors that reach a person.

All values are frozen: a job, a node or a tile never changes once it exists, so threads
share them without locks. What changes during a render lives in the scheduler.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

THIS_COMPUTER = "This Computer"
BACKENDS = ("paramiko", "openssh")
"""A library that the extension carries, and the `ssh` program of this computer."""


@dataclass(frozen=True, slots=True)
class Rect:
    """A rectangle of whole pixels; (x, y) is its bottom left corner, as in Blender."""

    x: int
    y: int
    width: int
    height: int

    @property
    def right(self) -> int:
        return self.x + self.width

    @property
    def top(self) -> int:
        return self.y + self.height

    @property
    def area(self) -> int:
        return self.width * self.height

    def contains(self, other: Rect) -> bool:
        return self.x <= other.x and self.y <= other.y and other.right <= self.right and other.top <= self.top


@dataclass(frozen=True, slots=True)
class SampleRange:
    """Some of a pixel's samples: `count` of them, from number `first` on."""

    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Tile:
    """One piece of the frame. `rect` is the part that is kept, in pixels of the full frame."""

    index: int
    """Which one it is among the halves of halves of the region: see tiling.Grid."""
    rect: Rect
    samples: SampleRange | None = None
    """None: all of them. Otherwise `rect` is the whole region, and the frame is the mean of its tiles."""

    def __str__(self) -> str:
        rect = self.rect
        return f"{rect.width} x {rect.height} at {rect.x}, {rect.y}"


@dataclass(frozen=True, slots=True)
class SceneFile:
    """A file that the scene needs beside its .blend."""

    source: str
    """Absolute path on this computer."""
    path: str
    """Where it stands below a worker's root: the same tree, `/` between its parts."""


@dataclass(frozen=True, slots=True)
class PixelFile:
    """Pixels of an image that neither a file nor the snapshot holds."""

    image: str
    """Name of the image."""
    file: str
    """Where they are below the job's folder, and also below a worker's root: four-byte floats or bytes."""
    width: int
    height: int
    channels: int
    is_float: bool
    library: str = ""
    """Name of the library that the image is linked from; empty: it is the scene's own."""
    tiles: tuple[int, ...] = ()
    """UDIM tiles: `file` is then a template for an image file of each."""

    @property
    def files(self) -> tuple[str, ...]:
        return tuple(self.file.replace("<UDIM>", str(tile)) for tile in self.tiles) or (self.file,)


@dataclass(frozen=True, slots=True)
class Node:
    """A listed machine. An empty host means this computer."""

    name: str
    host: str = ""
    """Name or address, or a Host of the SSH configuration."""
    port: int = 0
    """0: the SSH configuration's, which is 22 where it says nothing."""
    user: str = ""
    """Empty: the SSH configuration's, or else the name of the user who runs Blender here."""
    key_file: str = ""
    """Private key to offer first; empty: those of the SSH configuration and of the agent."""
    blender: str = ""
    """Path of Blender on the node; empty: look for it."""
    threads: int = 0
    """CPU threads a render may take; 0: all."""
    enabled: bool = True
    mappings: str = ""
    """Storage that the node sees as well, as `here = there; here = there`: nothing below it is sent."""
    cache_folder: str = ""
    """Where the node keeps files that were sent; empty: the usual place of its system."""
    cache_gib: int = 64
    """Size beyond which what was unused longest is removed there."""
    backend: str = "paramiko"
    """Who speaks SSH: one of BACKENDS."""
    device: str = ""
    """What renders there: CPU, OPTIX, CUDA, HIP, ONEAPI or METAL, with the numbers of single ones
    after a colon if need be (`OPTIX:0,2`); empty: what the scene says, and of GPUs the fastest kind."""
    workers: int = 0
    """How many Blenders render there side by side; 0: one for each GPU that is used, or else one."""
    launcher: str = ""
    """What stands before Blender's command there: `srun --gres=gpu:1`, `docker exec -i NAME`."""
    use_preferences: bool = False
    """Whether Blender there loads its user's own preferences and add-ons."""
    send_blender: bool = False
    """Whether a node without a Blender that suits is sent one."""
    blender_archive: str = ""
    """The archive of a Blender to send; empty: the installation that runs here."""

    @property
    def is_local(self) -> bool:
        return not self.host

    @property
    def address(self) -> str:
        """`user@host:port` without the parts that have their default."""
        if self.is_local:
            return ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        port = f":{self.port}" if self.port else ""
        return f"{user}{host}{port}"


@dataclass(frozen=True, slots=True)
class Denoising:
    """How the whole frame is denoised, as the scene says."""

    layers: tuple[str, ...]
    """Names of the view layers whose Combined pass is denoised."""
    denoiser: str
    """`OPENIMAGEDENOISE` or `OPTIX`; empty: this Blender has none, and leaves the picture as it is."""
    input_passes: str
    prefilter: str
    quality: str
    use_gpu: bool
    device: str
    """Compute device of the user's preferences: `NONE`, `CUDA`, `OPTIX`, ..."""
    exposure: float
    """The film's; Cycles denoises without it."""

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Denoising:
        return cls(**{**data, "layers": tuple(data["layers"])})


@dataclass(frozen=True, slots=True)
class Job:
    """One requested render: everything a node must know beyond the files themselves."""

    id: str
    """Unique; also names what the job leaves on a node while it runs."""
    source: str
    """The .blend this is a snapshot of, as the user named it; empty if never saved."""
    blend: str
    """Where the snapshot stands below a worker's root, `/` between its parts."""
    scene: str
    """Name of the scene."""
    frame: int
    width: int
    """Full frame in pixels, resolution percentage applied."""
    height: int
    region: Rect
    """What is rendered: the whole frame, or the user's own render border."""
    use_crop: bool
    """Whether the picture has the region's size (Crop to Render Region)."""
    overscan: int
    """Margin in pixels rendered around a tile and thrown away."""
    tile_size: int
    """Edge of a tile in pixels; of the smallest one where sizes follow the work."""
    blender_version: tuple[int, int, int]
    view_layer: str
    """The layer whose Combined pass is shown while the frame renders."""
    denoising: Denoising | None = None
    """How the whole frame is denoised when it is there; None: not at all."""
    samples: int = 0
    """Samples of each pixel, where the job is split by them."""
    sample_parts: int = 0
    """In how many parts the samples are rendered; 0: the frame is split into tiles instead."""
    use_heat_map: bool = False
    helpers: tuple[str, ...] = ()
    """`Layer.Pass` of each pass that tiles carry for our own use and the frame does not."""
    use_scripts: bool = False
    """Whether Python scripts inside the .blend run, as in the user's own Blender."""
    subframe: float = 0.0
    created: str = ""
    """ISO 8601, UTC."""
    files: tuple[SceneFile, ...] = field(default=())
    pixels: tuple[PixelFile, ...] = field(default=())
    compute_device: str = ""
    """The kind of GPU that this Blender's preferences choose, NONE for none: what F12 renders on here."""
    compute_device_ids: tuple[str, ...] = ()
    """The devices of that kind, and the CPU perhaps, that are ticked there."""
    use_auto_tile_size: bool = False
    """Whether the sizes of tiles follow the work; else each has `tile_size`."""
    working_space: str = ""
    """Of the colors in the .blend, from Blender 5.0 on."""
    ignored: tuple[str, ...] = ()
    """Datablocks of the snapshot that no render reads, the pictures of renders: "IMRender Result"."""
    ocio: str = ""
    """The OCIO configuration of this Blender ($OCIO); empty: Blender's own."""
    ocio_files: tuple[str, ...] = ()
    """Which of `files` it consists of, by their paths there."""

    @property
    def picture(self) -> Rect:
        """What the picture shows: the region alone with a crop, or else the full frame."""
        return self.region if self.use_crop else Rect(0, 0, self.width, self.height)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Job:
        """Raise KeyError or TypeError where `data` is not what `to_json` wrote."""
        return cls(
            **{
                **data,
                "region": Rect(**data["region"]),
                "blender_version": tuple(data["blender_version"]),
                "files": tuple(SceneFile(**entry) for entry in data["files"]),
                "helpers": tuple(data["helpers"]),
                "denoising": Denoising.from_json(data["denoising"]) if data["denoising"] else None,
                "pixels": tuple(
                    PixelFile(**{**entry, "tiles": tuple(entry.get("tiles", ()))})
                    for entry in data.get("pixels", ())
                ),
                "compute_device_ids": tuple(data.get("compute_device_ids", ())),
                "ignored": tuple(data.get("ignored", ())),
                "ocio_files": tuple(data.get("ocio_files", ())),
            }
        )


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node's Blender said of itself."""

    system: str
    """`Linux`, `Darwin` or `Windows`, as Python's platform.system() names it."""
    machine: str
    blender_version: tuple[int, int, int]
    blender_path: str
    cores: int
    devices: tuple[str, ...]
    """Names of the render devices Cycles sees, CPU first."""
    warning: str = ""
    """What a person should know of this Blender although it renders."""
    others: tuple[str, ...] = ()
    """Other Blenders that were found on the node: version and path of each."""
    ocio: str = ""
    """The OCIO configuration that it has read on its start; empty: its own."""

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.blender_version))


class EngineError(Exception):
    """Base of every failure that is reported to a person.

    The message says what failed; `hint` says what to do; `node` names where it happened.
    """

    def __init__(self, message: str, hint: str = "", node: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.node = node

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        return f"{where}{self.message}{' ' + self.hint if self.hint else ''}"


class JobError(EngineError, ValueError):
    """The scene cannot be rendered as it is: no camera, not Cycles, nothing to write to."""


class MissingFiles(JobError):
    """Files that the scene needs do not exist, and nobody has said that it may be rendered without them."""

    def __init__(self, lines: tuple[str, ...]) -> None:
        count = f"{len(lines)} files" if len(lines) > 1 else "A file"
        words = "\n".join((f"{count} that the scene needs cannot be found.", *lines))
        super().__init__(f"{words}\n", "Find or remove what is missing, or render without it.")
        self.lines = lines
        """One for each file, which names who wants it."""


class NodeListError(EngineError, ValueError):
    """A list of nodes that cannot be read."""


class StoreError(EngineError, OSError):
    """The job folder cannot be read or written."""

    # OSError's own __str__ formats errno and strerror, which these errors do not have.
    __str__ = EngineError.__str__


class NodeError(EngineError):
    """Something failed on one node. The render goes on without it."""

    is_final = True
    """Whether connecting again would only fail the same way."""


class ConnectError(NodeError, ConnectionError):
    """The node could not be reached, or the connection broke."""

    is_final = False
    __str__ = EngineError.__str__


class HostNotFound(ConnectError):
    """The name does not resolve to an address."""

    is_final = True


class HostKeyUnknown(NodeError):
    """Nobody has said yet that this host may be trusted."""

    def __init__(
        self, message: str, hint: str, node: str, *, host: str, port: int, key: str, fingerprint: str
    ) -> None:
        super().__init__(message, hint, node)
        self.host = host
        self.port = port
        self.key = key
        """The host's public key as known_hosts writes it: type, space, base64."""
        self.fingerprint = fingerprint
        """`SHA256:...`, as ssh-keygen -l prints it."""


class HostKeyChanged(NodeError):
    """The host shows another key than the one on record, or a revoked one."""


class LoginRefused(NodeError, PermissionError):
    """The server did not accept any key that could be offered."""

    __str__ = EngineError.__str__


class PassphraseNeeded(LoginRefused):
    """A private key is encrypted and no passphrase, or a wrong one, was given."""

    def __init__(self, message: str, hint: str, node: str, *, key_file: str) -> None:
        super().__init__(message, hint, node)
        self.key_file = key_file


@dataclass(frozen=True, slots=True)
class Prompt:
    """One thing that an SSH server asks, in its own words."""

    text: str
    is_shown: bool
    """Whether the answer may be seen while it is typed."""


class AnswersNeeded(LoginRefused):
    """The server asks for a password, a code or the like, and has no answer or a wrong one."""

    def __init__(
        self, message: str, hint: str, node: str, *, login: str, prompts: tuple[Prompt, ...]
    ) -> None:
        super().__init__(message, hint, node)
        self.login = login
        """`user@host:port` of who asks: the node itself, or a host on the way to it."""
        self.prompts = prompts


class BlenderNotFound(NodeError, FileNotFoundError):
    """There is no Blender where it was said, or looked for."""

    __str__ = EngineError.__str__
    system = ""
    """System and processor of the node where they are known: whether ours would run there."""


class BlenderUnsuitable(NodeError):
    """There is a Blender, but it cannot render this job: other version, or without Cycles."""

    system = ""
    """As for BlenderNotFound."""


class DenoiseError(EngineError):
    """The whole frame is there, but could not be denoised."""


class SceneRefused(NodeError):
    """The node's Blender could not open the scene."""


class FileChanged(NodeError):
    """A file became another one while it was being sent. It is read again."""

    is_final = False


class WorkerLost(NodeError):
    """The worker ended, hung, or answered something that is not the protocol."""

    is_final = False
