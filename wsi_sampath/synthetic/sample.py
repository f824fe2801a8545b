"""A slide to try things on: the real one where it can be had, else a painted one."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from wsi_sampath.cache import cache_folder, earlier_cache_folder
from wsi_sampath.synthetic.painted import paint_slide

DATA_VARIABLE = "WSI_SAMPATH_DATA"
SAMPLE_NAME = "CMU-1-Small-Region.svs"
SAMPLE_URL = f"https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/{SAMPLE_NAME}"
SAMPLE_SHA256 = "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7"
_TIMEOUT_S = 20


@dataclass(frozen=True)
class Sample:
    """A slide file, and one sentence on where it comes from."""

    path: Path
    origin: str


def sample_slide(folder: Path) -> Sample:
    """Get a sample slide: local data, else a download, else a painting.

    Parameters
    ----------
    folder
        Where a painted slide is put; a download goes to the cache.

    Returns
    -------
    Sample
        OpenSlide's CMU-1-Small-Region.svs (CC0), or a painted colon biopsy where this machine is
        offline and has no copy.
    """
    return _local() or _downloaded() or _painted(folder)


def _local() -> Sample | None:
    data = os.environ.get(DATA_VARIABLE)
    if not data:
        return None
    slides = Path(data) / "slides"
    named = [slides / SAMPLE_NAME, *sorted(slides.glob("*.svs"))]
    readable = [path for path in named if path.is_file() and not path.stem.startswith("broken")]
    return Sample(readable[0], f"found below {DATA_VARIABLE}") if readable else None


def _downloaded() -> Sample | None:
    import pooch
    from requests import RequestException

    cache, earlier = cache_folder(), earlier_cache_folder()
    if earlier is not None and (earlier / SAMPLE_NAME).is_file():
        cache = earlier
    try:
        path = pooch.retrieve(
            SAMPLE_URL,
            known_hash=f"sha256:{SAMPLE_SHA256}",
            fname=SAMPLE_NAME,
            path=cache,
            downloader=pooch.HTTPDownloader(timeout=_TIMEOUT_S),
        )
    except (RequestException, OSError, ValueError):
        return None
    return Sample(Path(path), "OpenSlide's test data, CC0")


def _painted(folder: Path) -> Sample:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "painted.svs"
    paint_slide(path, width=6144, height=4608, mpp=0.5, seed=7)
    return Sample(path, "painted by this package (offline, and no slide at hand)")
