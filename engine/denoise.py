"""Denoising the merged frame as a whole, in a Blender process of its own on this computer.

A tile alone cannot be denoised without a seam: the denoiser looks some hundred pixels far and
measures the exposure of the whole picture. So tiles come noisy, with the passes that guide the
denoiser, and the finished frame goes once through Cycles' own denoiser with the scene's settings.

Cycles denoises its render buffers while it renders; we denoise what became of them in a file. To
come out bit for bit the same, pixels are brought back to what the denoiser saw there, and denoised
ones go through what Cycles does to read them, in single precision and in its order
(intern/cycles/integrator: denoiser_oidn.cpp, pass_accessor.cpp). n is the layer's samples:

    noisy = sum * (1 / n * exposure)        denoised = OIDN(sum) * (1 / n * exposure)

and where the layer has the pass Debug Sample Count, as adaptive sampling does, n is the pixel's own:

    noisy = sum * (1 / n * exposure)        denoised = OIDN(sum * (1 / n)) * n * (1 / n * exposure)
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from . import exr, sample_count
from .exr import BAND_ROWS
from .job import THIS_COMPUTER, DenoiseError, Denoising, Job, Node, NodeError
from .link import WorkerLink
from .merge import without_helpers, write_frame
from .starter import open_worker
from .worker.protocol import HEARTBEAT_S

ONE = np.float32(1)


class _Layer:
    """One view layer of the merged frame, as the denoiser is to see it and as it comes back."""

    def __init__(self, source: exr.Reader, name: str, samples: sample_count.Samples, exposure: float) -> None:
        self.name = name
        self._source = source
        self._exposure = np.float32(exposure)
        self._most = samples.get(name, 0)
        self._samples = np.float32(int(source.header[f"cycles.{name}.samples"][1]))
        counts = sample_count.channel(name)
        self._counts = counts if counts in source.channels else ""

    def input_rows(self, first: int, count: int) -> exr.Planes:
        """The passes that Cycles' denoiser wants, as in Layer.Pass.Channel."""
        guides = [f"{self.name}.Denoising Albedo.{c}" for c in "RGB"]
        guides += [f"{self.name}.Denoising Normal.{c}" for c in "XYZ"]
        noisy = [f"{self.name}.Combined.{c}" for c in "RGB"]
        planes = self._source.rows(first, count, [*guides, *noisy])
        for channel in noisy:
            if not self._counts:
                planes[channel] *= self._samples
            planes[channel] /= self._exposure
        # Motion serves animations only, but Cycles takes no file without.
        for component in "XYZW":
            planes[f"{self.name}.Vector.{component}"] = np.zeros((count, self._source.width), np.float32)
        return planes

    def output_rows(self, denoised: exr.Reader, first: int, count: int) -> exr.Planes:
        """The layer's denoised R, G and B as F12 would have written them."""
        bottom = denoised.height - first - count
        planes = {name: plane[::-1] for name, plane in denoised.rows(bottom, count, self.colors).items()}
        if not self._counts:
            scale = ONE / self._samples * self._exposure
            return {name: plane * scale for name, plane in planes.items()}
        fractions = self._source.rows(first, count, [self._counts])[self._counts]
        # Without a scale for the fractions any one will do: it only rounds the last bit.
        counts = sample_count.counts(fractions, self._most) if self._most else np.ones_like(fractions)
        scales = np.divide(ONE, counts, out=np.zeros_like(counts), where=counts > 0) * self._exposure
        return {name: plane * counts * scales for name, plane in planes.items()}

    @property
    def colors(self) -> list[str]:
        return [f"{self.name}.Combined.{c}" for c in "RGB"]


def run(
    job: Job,
    merged: Path,
    frame: Path,
    *,
    samples: sample_count.Samples,
    blender: Sequence[str],
    cancelled: threading.Event,
) -> bool:
    """Write `frame` from `merged`, the region with all that the tiles carry: denoised, with the
    passes that F12 adds, without our helpers.

    `samples` is the scale of the Debug Sample Count passes in `merged`. Returns False when
    cancelled. Raises DenoiseError, OSError where something cannot be written, ValueError where
    `merged` has not the passes that the job asks for.
    """
    assert job.denoising is not None
    source = exr.Reader(merged)
    layers = []
    if job.denoising.denoiser:
        layers = [_Layer(source, name, samples, job.denoising.exposure) for name in job.denoising.layers]
    scratch = [merged.with_name(f"denoised-{number}.exr") for number in range(len(layers))]
    try:
        for layer, path in zip(layers, scratch, strict=True):
            _write_input(source, layer, path)
        if layers and not _denoise(job.denoising, scratch, blender, cancelled):
            return False
        denoised = list(zip(layers, map(exr.Reader, scratch), strict=True))
        _write_frame(job, source, denoised, frame)
    finally:
        for path in scratch:
            path.unlink(missing_ok=True)
    return True


def _write_input(source: exr.Reader, layer: _Layer, path: Path) -> None:
    # Bottom row first, as Cycles' buffers are: the denoiser sees a picture differently upside down.
    # The samples are taken care of here, so for Cycles there is one.
    header: exr.Header = {f"cycles.{layer.name}.samples": ("string", b"1")}
    channels = dict.fromkeys(layer.input_rows(0, 1), exr.FLOAT)
    with exr.Writer(path, source.width, source.height, channels, header, exr.NO_COMPRESSION) as writer:
        for end in range(source.height, 0, -BAND_ROWS):
            first = max(0, end - BAND_ROWS)
            rows = layer.input_rows(first, end - first)
            writer.write_rows({name: plane[::-1] for name, plane in rows.items()})


def _denoise(
    denoising: Denoising, files: Sequence[Path], blender: Sequence[str], cancelled: threading.Event
) -> bool:
    """Have each file denoised in its place. Returns False when cancelled. Raises DenoiseError."""
    inbox: queue.Queue[Any] = queue.Queue()
    with ExitStack() as cleanup:
        try:
            link, _ = open_worker(
                Node(THIS_COMPUTER), inbox, access=None, local_blender=blender, version=None, cleanup=cleanup
            )
            return all(_denoise_file(denoising, path, link, inbox, cancelled) for path in files)
        except NodeError as error:
            raise _failure(error.message) from None


def _denoise_file(
    denoising: Denoising,
    path: Path,
    link: WorkerLink,
    inbox: queue.Queue[Any],
    cancelled: threading.Event,
) -> bool:
    settings = {
        "denoiser": denoising.denoiser,
        "denoising_input_passes": denoising.input_passes,
        "denoising_prefilter": denoising.prefilter,
        "denoising_quality": denoising.quality,
        "denoising_use_gpu": denoising.use_gpu,
    }
    link.send(
        {
            "type": "denoise",
            "file": str(path),
            "settings": settings,
            "device": denoising.device if denoising.use_gpu else "",
        }
    )
    while not cancelled.is_set():
        try:
            item = inbox.get(timeout=HEARTBEAT_S)
        except queue.Empty:
            link.send({"type": "ping"})
            link.check_silence()
            continue
        if isinstance(item, NodeError):
            raise item
        header, _ = item
        if header["type"] == "denoised":
            return True
        raise _failure(str(header.get("text")))
    link.abort("cancelled")
    return False


def _failure(reason: str) -> DenoiseError:
    return DenoiseError(
        f"The frame is rendered, but could not be denoised: {reason.rstrip('.')}.",
        "Press Resume to try again: no tile is rendered anew. Or disable Denoise and render once more.",
    )


def _write_frame(
    job: Job, source: exr.Reader, denoised: Sequence[tuple[_Layer, exr.Reader]], frame: Path
) -> None:
    assert job.denoising is not None
    copies: dict[str, str] = {}
    for layer in job.denoising.layers:
        # With denoising on, F12 keeps what it denoised under other names.
        copies |= {f"{layer}.Noisy Image.{c}": f"{layer}.Combined.{c}" for c in "RGBA"}
        shadows = {f"{layer}.Noisy Shadow Catcher.{c}": f"{layer}.Shadow Catcher.{c}" for c in "RGB"}
        copies |= {copy: name for copy, name in shadows.items() if name in source.channels}
    kept = without_helpers(job, source.channels)

    def bands() -> Iterator[exr.Planes]:
        for first in range(0, source.height, BAND_ROWS):
            count = min(BAND_ROWS, source.height - first)
            rows = source.rows(first, count, kept)
            rows |= {copy: rows[name] for copy, name in copies.items()}
            for layer, file in denoised:
                rows |= layer.output_rows(file, first, count)
            yield rows

    channels = kept | {copy: kept[name] for copy, name in copies.items()}
    write_frame(job, bands(), channels, source.header, frame)
