"""Files are what they are: depth, transparency, orientation, order of frames, damage, and what is another thing."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from PIL import Image

from balance_tune.datasets import pictures, sounds, videos
from balance_tune.datasets.crema_d import look
from balance_tune.datasets.decoding import Unreadable
from balance_tune.datasets.miniature import tone, write_picture, write_sound, write_video
from balance_tune.datasets.pointers import is_pointer, what_it_is

RAMP = np.tile(np.linspace(0, 1, 64), (8, 1))  # (8, 64), dark on the left


def saved(image: Image.Image, path: Path, **settings: Any) -> Path:
    image.save(path, **settings)
    return path


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", (RAMP * 65535).astype(np.uint16)),
        ("a.tif", (RAMP * 65535).astype(np.uint16)),
        ("a.pgm", (RAMP * 65535).astype(np.int32)),
        ("a.tiff", RAMP.astype(np.float32)),
        ("a8.png", (RAMP * 255).astype(np.uint8)),
    ],
)
def test_values_of_any_depth_are_scaled_to_eight_bits(tmp_path: Path, name: str, values: NDArray[Any]) -> None:
    path = saved(Image.fromarray(values), tmp_path / name)
    for mode, shape in (("RGB", (8, 64, 3)), ("L", (8, 64))):
        found = pictures.picture(path, mode)  # type: ignore[arg-type]
        assert found.shape == shape
        np.testing.assert_allclose(found.reshape(8, 64, -1)[..., 0], RAMP * 255, atol=1.01)


def test_two_colours_are_black_and_white(tmp_path: Path) -> None:
    path = saved(Image.fromarray(RAMP > 0.5), tmp_path / "a.png")
    assert np.unique(pictures.picture(path)).tolist() == [0, 255]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((RAMP * 300).astype(np.float32), "floats from 0 to 300, which have no scale"),
        (np.where(RAMP > 0.9, np.inf, RAMP).astype(np.float32), "have no scale"),
        ((RAMP * 2**30).astype(np.int32), "whole numbers of 32 bits, which have no scale"),
    ],
)
def test_values_without_a_scale_are_refused(tmp_path: Path, values: NDArray[Any], message: str) -> None:
    path = saved(Image.fromarray(values), tmp_path / "a.tif")
    with pytest.raises(Unreadable, match=message):
        pictures.picture(path)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    rgba = np.zeros((4, 4, 4), dtype=np.uint8)
    rgba[:2] = (200, 10, 10, 255)  # the rest is transparent black
    image = Image.fromarray(rgba, "RGBA")
    palette = image.convert("RGB").quantize(4)
    palette.info["transparency"] = palette.getpixel((0, 3))
    for path in (
        saved(image, tmp_path / "a.png"),
        saved(palette, tmp_path / "p.png", transparency=palette.getpixel((0, 3))),
        saved(image.convert("LA"), tmp_path / "l.png"),
    ):
        found = pictures.picture(path)
        assert (found[2:] == 255).all()
        assert found[:2].max() < 210


def test_palettes_and_inks_are_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (8, 8), (250, 0, 0))
    for path in (
        saved(red.quantize(4), tmp_path / "p.png"),
        saved(red.convert("CMYK"), tmp_path / "c.jpg"),
        saved(red.convert("CMYK"), tmp_path / "c.tif"),
    ):
        found = pictures.picture(path).astype(int)
        assert found[..., 0].min() > 235
        assert found[..., 1:].max() < 20


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_pictures_are_turned_as_their_camera_says(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = np.zeros((32, 48, 3), dtype=np.uint8)
    upright[:16, :16] = 255  # the top left is white
    as_stored: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
        1: lambda x: x,
        2: lambda x: x[:, ::-1],
        3: lambda x: x[::-1, ::-1],
        4: lambda x: x[::-1],
        5: lambda x: x.transpose(1, 0, 2),
        6: lambda x: np.rot90(x, 1),
        7: lambda x: np.rot90(x, 2).transpose(1, 0, 2),
        8: lambda x: np.rot90(x, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(as_stored[orientation](upright))
    found = pictures.picture(saved(Image.fromarray(stored), tmp_path / f"a.{suffix}", exif=exif))
    assert found.shape == upright.shape
    assert np.abs(found.astype(int) - upright).mean() < 3


def test_an_exif_block_that_is_broken_says_nothing(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (8, 4)), tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pictures.picture(path).shape == (4, 8, 3)


MATRICES = {  # column' = a column + c row, row' = b column + d row -> what numpy makes of the stored frame
    (1, 0, 0, 1): lambda x: x,
    (-1, 0, 0, -1): lambda x: x[::-1, ::-1],
    (0, 1, -1, 0): lambda x: np.rot90(x, -1),
    (0, -1, 1, 0): lambda x: np.rot90(x, 1),
    (-1, 0, 0, 1): lambda x: x[:, ::-1],
    (1, 0, 0, -1): lambda x: x[::-1],
    (0, 1, 1, 0): lambda x: x.transpose(1, 0, 2),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_videos_are_turned_and_mirrored_by_their_display_matrix(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    frame = np.zeros((64, 96, 3), dtype=np.uint8)
    frame[:32, :32, 0], frame[:, 64:, 2] = 255, 255
    write_video(tmp_path / "a.mp4", np.stack([frame] * 10), 5, "libx264")
    plain = videos.middles(tmp_path / "a.mp4", 1)[0].astype(int)
    content = (tmp_path / "a.mp4").read_bytes()
    a, b, c, d = (65536 * v for v in matrix)
    unit = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 2**30)
    at = content.rindex(unit)  # of the track; the first is the film's
    turned = content[:at] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 2**30) + content[at + len(unit) :]
    (tmp_path / "b.mp4").write_bytes(turned)
    for times in (None, [0.5, 99.0]):
        for found in videos.video_frames(tmp_path / "b.mp4", times, most=2):
            assert np.abs(found.astype(int) - MATRICES[matrix](plain)).mean() < 2


def frames(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for k, name in enumerate(names):
        write_picture(folder / name, np.full((24, 24, 3), 8 * k, dtype=np.uint8))
    return folder


def numbers(pictures: list[NDArray[np.uint8]]) -> list[int]:
    return [round(float(picture.mean()) / 8) for picture in pictures]


@pytest.mark.parametrize("name", ["{}.jpg", "frame_{}.JPG", "{}.jpeg", "clip2_{:04d}.png", "{}.bmp"])
def test_frames_of_a_folder_are_taken_at_the_middles_of_segments_in_natural_order(tmp_path: Path, name: str) -> None:
    folder = frames(tmp_path / "f", [name.format(k) for k in range(1, 31)])
    (folder / "._1.jpg").write_bytes(b"\0\5\x16\7")
    (folder / "notes.txt").write_text("none")
    assert numbers(videos.middles(folder, 3)) == [5, 15, 25]
    files = [file.read_bytes() for file in pictures.jpgs(folder)]
    assert numbers(videos.middles(files, 3)) == [5, 15, 25]
    assert numbers(videos.middles(folder, 30)) == numbers(videos.middles(folder, 99)) == list(range(30))


def test_a_folder_without_pictures_is_told(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    with pytest.raises(Unreadable, match="it holds no pictures"):
        videos.middles(tmp_path / "f", 3)
    with pytest.raises(Unreadable, match="it is a folder, not a file"):
        pictures.picture(tmp_path / "f")


def test_extracted_frames_at_another_rate_than_one_a_second_are_spread_over_the_clip(tmp_path: Path) -> None:
    assert numbers(look(frames(tmp_path / "one", [f"{k}.jpg" for k in range(4)]))) == [0, 1, 2, 3]
    assert numbers(look(frames(tmp_path / "many", [f"{k}.jpg" for k in range(30)]))) == [5, 15, 25]


def still(path: Path, pictures: float, sound: float) -> Path:
    """A video whose sound lasts longer than its pictures."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264" if path.suffix != ".avi" else "mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        heard = container.add_stream("aac" if path.suffix != ".avi" else "mp3", rate=16000)
        heard.layout = "mono"  # type: ignore[attr-defined]
        for k in range(max(1, round(10 * pictures))):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 8 * k % 256, dtype=np.uint8), format="rgb24")
            for packet in video.encode(frame):
                container.mux(packet)
        for packet in video.encode():
            container.mux(packet)
        wave = tone(1, "a", sound, 16000)[None]
        block = av.AudioFrame.from_ndarray(wave.astype(np.float32), format="fltp", layout="mono")
        block.sample_rate = 16000
        for packet in [*heard.encode(block), *heard.encode()]:
            container.mux(packet)
    return path


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "avi"])
@pytest.mark.parametrize("pictures", [0.1, 1.0])
def test_pictures_may_end_before_the_sound(tmp_path: Path, suffix: str, pictures: float) -> None:
    path = still(tmp_path / f"a.{suffix}", pictures, 4.0)
    assert len(videos.middles(path, 3)) == 3
    assert len(videos.video_frames(path, fps=1.0, most=4)) >= 1
    assert len(sounds.sound(path, 16000)) == pytest.approx(64000, rel=0.05)
    if suffix != "avi" and pictures == 1.0:  # the middles are those of the pictures
        assert len({int(frame.mean()) for frame in videos.middles(path, 3)}) == 3


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_video_that_is_cut_off_is_told_for_pictures_and_sound(tmp_path: Path, suffix: str) -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (96, 96, 3)).astype(np.uint8) for _ in range(60)]
    path = tmp_path / f"a.{suffix}"
    write_video(path, np.stack(noise), 10, "libx264", tone(1, "a", 6.0, 16000), 16000)
    if suffix == "mp4":  # the index first, as files of the web have it
        with (
            av.open(str(path)) as source,
            av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as out,
        ):
            streams = {s.index: out.add_stream_from_template(s) for s in source.streams}
            for packet in source.demux():
                if packet.dts is not None:
                    packet.stream = streams[packet.stream.index]
                    out.mux(packet)
        path = tmp_path / "b.mp4"
    whole = path.read_bytes()
    assert len(sounds.sound(path, 16000)) == pytest.approx(96000, rel=0.05)
    path.write_bytes(whole[: len(whole) // 2])
    for read in (lambda: videos.middles(path, 3), lambda: sounds.sound(path, 16000)):
        with pytest.raises(Unreadable, match=r"it is cut off|cannot be decoded"):
            read()


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_sound_that_is_cut_off_is_told(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, tone(1, "a", 3.0, 16000), 16000)
    whole = path.read_bytes()
    assert len(sounds.sound(path, 16000)) == 48000
    path.write_bytes(whole[: len(whole) // 2])
    for file in (path, path.read_bytes()):
        with pytest.raises(Unreadable, match=r"it is cut off|no readable sound"):
            sounds.sound(file, 16000)


def test_a_wav_file_that_does_not_know_its_length_is_whole(tmp_path: Path) -> None:
    write_sound(tmp_path / "a.wav", tone(1, "a", 1.0, 16000), 16000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    at = content.index(b"data") + 4
    for unknown in (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\xf0\xff\x7f"):
        content[at : at + 4] = unknown
        assert len(sounds.sound(bytes(content), 16000)) == 16000


def test_a_sound_is_known_by_its_content(tmp_path: Path) -> None:
    still(tmp_path / "a.mp4", 1.0, 1.0).rename(tmp_path / "a.wav")
    assert len(sounds.sound(tmp_path / "a.wav", 16000)) > 15000


@pytest.mark.parametrize(
    ("name", "start", "said"),
    [
        ("a.wav", b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "git-lfs pointer"),
        ("a.mp4", b"\n <!DOCTYPE html>\n<html>", "web page"),
        ("a.jpg", b'<?xml version="1.0"?><Error><Code>AccessDenied', "web page or an error"),
        ("a.png", b'{"error": "rate limit"}', "answer of a server"),
        ("._a.jpg", b"\0\5\x16\7\0\2", "companion file of macOS"),
        ("._a.npy", b"anything", "companion file of macOS"),
        ("a.npy", b"PK\3\4", "zip archive"),
    ],
)
def test_a_file_that_is_something_else_is_named_for_it(tmp_path: Path, name: str, start: bytes, said: str) -> None:
    reason = what_it_is(name, start)
    assert reason is not None
    assert said in reason
    assert is_pointer(f"a reason: {reason}")
    path = tmp_path / name
    path.write_bytes(start)
    for read in (pictures.picture, lambda file: sounds.sound(file, 16000), lambda file: videos.middles(file, 2)):
        with pytest.raises(Unreadable, match=said):
            read(path)  # type: ignore[operator]


def test_what_is_in_order_is_nothing_else() -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "png")
    for name, start in (("a.png", file.getvalue()), ("a.wav", b"RIFF1234WAVE"), ("a.csv", b"a,b\n1,2\n"), ("", b"")):
        assert what_it_is(name, start) is None
    assert not is_pointer("it has no bytes")


# what FFmpeg and Pillow do not say -------------------------------------------------------------------------------
def brightening(container: str, codec: str, count: int) -> bytes:
    """Return a video of `count` frames at 25 a second, whose brightness goes from 0 to 200."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as opened:
        stream = opened.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for k in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), k * 200 // count, np.uint8), format="rgb24")
            opened.mux(stream.encode(frame))
        opened.mux(stream.encode())
    return file.getvalue()


@pytest.mark.parametrize(
    ("container", "codec"),
    [("mpeg", "mpeg1video"), ("mpeg", "mpeg2video"), ("vob", "mpeg2video"), ("mpegts", "mpeg2video"), ("asf", "wmv2")],
)
@pytest.mark.parametrize("count", [20, 100])
def test_segments_are_those_of_the_true_length(container: str, codec: str, count: int) -> None:
    """An MPEG program stream says no length, and FFmpeg guesses 0.04 s of 0.8 s."""
    content = brightening(container, codec, count)
    assert videos.duration(content) == pytest.approx(count / 25, abs=0.05)
    means = [float(frame.mean()) for frame in videos.middles(content, 3)]
    assert means == pytest.approx([200 / 6, 100, 1000 / 6], abs=5)


def test_a_still_webp_is_a_picture_and_one_that_moves_is_refused() -> None:
    picture = Image.fromarray(np.full((4, 6, 3), 90, np.uint8))
    still, moving = io.BytesIO(), io.BytesIO()
    picture.save(still, "WEBP", lossless=True)
    picture.save(moving, "WEBP", save_all=True, append_images=[Image.new("RGB", (6, 4))])
    (frame,) = videos.middles(still.getvalue(), 3)
    assert frame.tolist() == [[[90] * 3] * 6] * 4
    with pytest.raises(Unreadable, match="a WebP picture that moves, which is not decoded; save it as a video"):
        videos.middles(moving.getvalue(), 3)


@pytest.mark.parametrize(("brand", "name"), [(b"heic", "HEIC"), (b"mif1", "HEIC"), (b"avif", "AVIF")])
def test_a_picture_of_a_phone_is_named_for_what_it_is(brand: bytes, name: str) -> None:
    with pytest.raises(Unreadable, match=f"it is a picture of the format {name}, which is not read; save it as JPEG"):
        pictures.picture(b"\0\0\0\x18ftyp" + brand + bytes(100))


def test_a_reason_is_the_same_in_every_process() -> None:
    """The store's manifest holds it, and must not hold the address of an object in memory."""
    for read in (
        pictures.picture,
        lambda content: sounds.sound(content, 8000),
        lambda content: videos.middles(content, 3),
    ):
        with pytest.raises(Unreadable) as caught:
            read(b"fLaC" + bytes(50))
        assert "0x" not in caught.value.reason
        assert "<" not in caught.value.reason
