"""Small whole files of every kind midflow reads, for damaging."""

import io
import shutil
import zipfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from midflow.nets.saving import save_model
from midflow.video.image import write_image
from midflow.video.pixel import pack
from tests.nets import tiny
from tests.video.clips import Recipe, make_clip, picture

_SMALL = (48, 32)


def _clip(name: str, **settings: object) -> tuple[str, Callable[[Path], object]]:
    given = {"frames": 5, "size": _SMALL, **settings}
    return name, lambda folder: make_clip(folder / name, Recipe(**given))


CLIPS = dict(
    (
        _clip("plain.mp4"),
        _clip("rich.mp4", audio=["eng"], chapters=["a", "b"], metadata={"title": "x"}, cover=True),
        _clip("turned.mov", display_matrix=(0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30)),
        _clip("gaps.mp4", times=[Fraction(t, 100) for t in (0, 4, 8, 30, 33)]),
        _clip("deep.mkv", codec="ffv1", pixel_format="yuv420p10le"),
        _clip("rich.mkv", audio=["eng"], subtitles=["eng"], chapters=["a"], attachment=b"font"),
        _clip("nine.webm", codec="libvpx-vp9", audio=["eng"], audio_codec="libopus"),
        _clip("old.avi", codec="mpeg4", audio=["eng"], audio_codec="mp2"),
        _clip("motion.avi", codec="mjpeg", pixel_format="yuvj420p"),
        _clip("raw.avi", codec="rawvideo", pixel_format="yuv420p", frames=2),
        _clip("stream.ts", audio=["eng"]),
        _clip("program.mpg", codec="mpeg2video"),
        _clip("flash.flv", codec="flv"),
        _clip("nut.nut", codec="ffv1"),
        _clip("pipe.y4m", codec="wrapped_avframe"),
        _clip("loop.gif", codec="gif", pixel_format="rgb8"),
        _clip("loop.apng", codec="apng", pixel_format="rgba"),
        _clip("moving.webp", codec="libwebp_anim", pixel_format="bgra", frames=3),
        _clip("pro.mov", codec="prores_ks", pixel_format="yuva444p10le", frames=2),
        _clip("hevc.mp4", codec="libx265", frames=3, size=(64, 64)),
    )
)
PICTURES = ("eight.png", "sixteen.png", "photo.jpg", "web.webp", "grey.png", "palette.gif")
CHECKPOINTS = ("tiny.safetensors", "tiny.pkl", "legacy.pth", "folder.zip", "plain.pt")


def make_material(folder: Path) -> Path:
    """Writes all files, once; what is there already is kept."""
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for make in CLIPS.values():
            make(folder)
        _pictures(folder)
        _checkpoints(folder)
        (folder / "done").touch()
    return folder


def _pictures(folder: Path) -> None:
    x = torch.linspace(0, 1, _SMALL[0]).expand(1, 3, _SMALL[1], -1)
    write_image(folder / "eight.png", x)
    write_image(folder / "sixteen.png", x, bit_depth=16)
    write_image(folder / "photo.jpg", x)
    write_image(folder / "web.webp", x)
    _encode(folder / "grey.png", "png", "gray")
    shutil.copy(folder / "loop.gif", folder / "palette.gif")


def _encode(path: Path, codec: str, pixel_format: str) -> None:
    context = av.CodecContext.create(codec, "w")
    context.width, context.height = _SMALL
    context.pix_fmt, context.time_base = pixel_format, Fraction(1, 25)
    frame = pack(picture(pixel_format, _SMALL, 0), pixel_format, pixel_format)
    path.write_bytes(b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)]))


def _checkpoints(folder: Path) -> None:
    model = tiny.network()
    save_model(model, folder / "tiny.safetensors")
    save_model(model, folder / "tiny.pkl")
    state = model.state_dict()
    wrapped = {f"module.{key}": value for key, value in state.items()}
    torch.save(wrapped, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": {"a.weight": torch.from_numpy(np.ones(3))}}, folder / "plain.pt")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_log/flownet.pkl", (folder / "tiny.pkl").read_bytes())
        archive.writestr("train_log/IFNet_HDv3.py", "import os")
    (folder / "folder.zip").write_bytes(packed.getvalue())
