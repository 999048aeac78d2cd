"""CLIP's image tower on the device: images in, embeddings out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from stale_edge_runtime.contract import COLOURS, IMAGE_EMBEDDINGS, PIXELS, Kind
from stale_edge_runtime.errors import BadDataError, UsageError
from stale_edge_runtime.model_file import ModelFile
from stale_edge_runtime.session import open_file, open_session, provider_of, run_tower

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from stale_edge_runtime.contract import ModelInfo

USUAL_BATCH: Final = 4
BATCH_FIGURE: Final = re.compile(r"[1-9][0-9]{0,2}", re.ASCII)


class ImageTower:
    """Turns images into embeddings, the features of a detector.

    Args:
        path: An image tower that stale-edge exported, or one that was read already.
        threads: Threads inside one operator.
        provider: Device to run on: `"cpu"` or `"cuda"`.

    Attributes:
        path: The file.
        info: Metadata of the file.
        provider: Device that the session really uses.

    Raises:
        InputMissingError: There is no such file.
        BadDataError: The file is not what it must be.
        UsageError: It is no image tower.
        UnavailableError: The provider or the threads cannot be had.
    """

    def __init__(self, path: str | Path | ModelFile, threads: int = 1, provider: str = "cpu") -> None:
        self.path = path.path if isinstance(path, ModelFile) else Path(path)
        if isinstance(path, ModelFile):
            self._check(path.info)
            self.info: ModelInfo = path.info
            self._session = open_session(path, threads=threads, provider=provider)
        else:
            self.info, self._session = open_file(self.path, self._check, threads=threads, provider=provider)
        self.provider = provider_of(self._session)

    def _check(self, info: ModelInfo) -> None:
        if info.kind is not Kind.IMAGE_TOWER:
            raise UsageError(self.path, f"is a {info.role} file", "name an image tower from `export --clip`")

    @property
    def size(self) -> int:
        """Edge of the images, in pixels."""
        return self.info.image_size

    @property
    def width(self) -> int:
        """Width of an embedding."""
        return self.info.feature_dim

    @property
    def sha256(self) -> str:
        """Hash of the weights."""
        return self.info.tower_sha256

    @property
    def batch(self) -> int:
        """Images that it computes fastest together; about 200 rows of tokens, as the export recorded it."""
        return self.batch_of(self.info)

    @staticmethod
    def batch_of(info: ModelInfo) -> int:
        """Read how many images a file computes fastest together."""
        stored = info.extra.get("best_batch", "")
        return int(stored) if BATCH_FIGURE.fullmatch(stored) else USUAL_BATCH

    def embed(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the embeddings of images.

        Args:
            pixels: uint8 [B, size, size, 3], RGB.

        Returns:
            float32 [B, width], not normalised.

        Raises:
            BadDataError: The images are not of that shape, or the tower answers with NaN.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (self.size, self.size, COLOURS):
            wanted = f"uint8 [batch, {self.size}, {self.size}, {COLOURS}]"
            raise BadDataError(PIXELS, f"are {pixels.dtype} {list(pixels.shape)}, not {wanted}", "crop them first")
        inputs = {PIXELS: np.ascontiguousarray(pixels)}
        return run_tower(self._session, self.path, IMAGE_EMBEDDINGS, inputs, self.width)
