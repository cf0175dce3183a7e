"""Pictures in 256 colours, for GIF: a palette for each, chosen and applied by FFmpeg."""

from fractions import Fraction

import av
from av.filter import Graph


def with_palette(frame: av.VideoFrame) -> av.VideoFrame:
    """A bgra picture as pal8; opacity becomes all or nothing.

    Each picture has a palette of its own, so that long clips keep their colours, and its dots stand
    in a fixed pattern, which does not boil from picture to picture as error diffusion does.
    """
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 25)
    )
    split = graph.add("split")
    choose = graph.add("palettegen", "stats_mode=single")
    apply = graph.add("paletteuse", "dither=bayer:bayer_scale=4:new=1")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(apply, 0, 0)
    split.link_to(choose, 1, 0)
    choose.link_to(apply, 0, 1)
    apply.link_to(sink)
    graph.configure()
    frame.pts = 0
    graph.push(frame)
    graph.push(None)
    result = graph.pull()
    assert isinstance(result, av.VideoFrame)
    return result
