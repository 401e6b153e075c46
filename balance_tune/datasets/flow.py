"""Optical flow between two frames, as grey pictures of its two components."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from balance_tune.datasets.media_file import extra

BOUND = 20.0
"""Pixels a frame beyond which flow is cut off; -BOUND .. BOUND become 0 .. 255."""


def flow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the horizontal and the vertical flow (H, W) from one RGB frame to the next (dense inverse search)."""
    cv2 = extra("cv2")
    cv2.setNumThreads(1)
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second)]
    moved = search.calc(*grey, None)
    scaled = np.rint((np.clip(moved, -BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)
    return scaled[..., 0], scaled[..., 1]
