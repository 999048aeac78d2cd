"""The usual way from a video to CLIP features, as a contender: every frame decoded, Hugging Face's tower in fp32.

The tower has the sizes of the one it is held against, and seeded weights: time does not depend on them.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any

from stale_edge_runtime.bench.memory import peak_rss_mb
from stale_edge_runtime.video.stages import COLOUR, DECODE, RESIZE, TOWER, StageClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch
    from PIL.Image import Image

    from stale_edge_runtime.jobs import Task


def usual_way(config: Mapping[str, Any], step_s: float, batch: int, threads: int = 1) -> Callable[[], Task]:
    """Give a picklable function that makes the task of the usual way, for `bench.video_cost.VideoContender`.

    Args:
        config: Sizes of the tower, as `CLIPVisionConfig` names them.
        step_s: Seconds from one image to the next; every n-th frame is taken, by the average frame rate.
        batch: Images in one forward.
        threads: Threads of PyTorch and of the decoder.
    """
    return functools.partial(_make, dict(config), step_s, batch, threads)


def _make(config: dict[str, Any], step_s: float, batch: int, threads: int) -> Task:
    import torch
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    begin = time.process_time()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
    tower.train(mode=False)
    edge = config["image_size"]
    processor = CLIPImageProcessor(size={"shortest_edge": edge}, crop_size={"height": edge, "width": edge})
    load_s = time.process_time() - begin

    def embed(images: list[Image], stages: StageClock) -> torch.Tensor:
        with stages.stage(RESIZE):
            pixels = processor(images=images, return_tensors="pt")["pixel_values"]
        with stages.stage(TOWER), torch.inference_mode():
            found: torch.Tensor = tower(pixel_values=pixels).image_embeds
        return found

    def task(item: Any, progress: Callable[[int, int | None], None]) -> dict[str, Any]:
        stages, start = StageClock(), time.process_time()
        pending: list[Image] = []
        samples = 0
        seconds = [0.0]
        for image in stages.each(DECODE, _frames(str(item), step_s, threads, stages, seconds)):
            pending.append(image)
            samples += 1
            if len(pending) == batch:
                embed(pending, stages)
                pending.clear()
                progress(samples, None)
        if pending:
            embed(pending, stages)
        cpu_s = time.process_time() - start
        stages.seconds[DECODE] -= stages.seconds[COLOUR]  # converted while the next frame was asked for
        return {
            "cpu_s": cpu_s,
            "load_s": load_s,
            "parts": stages.seconds,
            "peak_rss_mb": peak_rss_mb(),
            "samples": samples,
            "seconds": seconds[0],
        }

    return task


def _frames(path: str, step_s: float, threads: int, stages: StageClock, seconds: list[float]) -> Iterator[Image]:
    """Decode every frame and give every n-th as an RGB image; the length goes to `seconds`."""
    import av

    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE" if threads == 1 else "AUTO"
        rate = float(stream.average_rate or 25)
        every = max(1, round(rate * step_s))
        count = 0
        for number, frame in enumerate(container.decode(stream)):
            count = number + 1
            if number % every == 0:
                with stages.stage(COLOUR):
                    image: Image = frame.to_image()  # type: ignore[no-untyped-call]
                yield image
        seconds[0] = count / rate
