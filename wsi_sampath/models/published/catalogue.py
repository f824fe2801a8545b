"""Published weights: where they are, how to check them, and under which licence."""

from __future__ import annotations

from dataclasses import dataclass

from wsi_sampath.errors import WsiError
from wsi_sampath.settings import nearest_name

_META = "https://dl.fbaipublicfiles.com/segment_anything/"
_GWDG = "https://owncloud.gwdg.de/index.php/s/{}/download"
_HIPT = (
    "https://github.com/mahmoodlab/HIPT/raw/780fafaed2e5b112bc1ed6e78852af1fe6714342/"
    "HIPT_4K/Checkpoints/vit256_small_dino.pth"
)
_MOBILE_SAM = (
    "https://raw.githubusercontent.com/ChaoningZhang/MobileSAM/"
    "f706ad9c4eb7f219c00d9050e46328518ffb65d2/weights/mobile_sam.pt"
)
_WSI_SAM = "https://drive.google.com/drive/folders/1wSX79zI0suasgREeeLxC4h_aBjlxyA3E"
_PATHO_SAM_LICENCE = "none stated for the weights (the code of patho-sam is MIT)"


@dataclass(frozen=True)
class PublishedFile:
    """One downloadable file.

    Attributes
    ----------
    name
        Its name for the user.
    file
        Name in the cache, and in a folder or mirror given with ``--from``.
    url
        Where the authors publish it.
    size
        Size in bytes; None where it is not stated.
    digest
        ``algorithm:hexadecimal``, as pooch understands it; "" where none is known.
    licence
        The licence that the user accepts.
    purpose
        What it is, in a few words.
    by_hand
        Whether `url` is a page, from which only a person can save the file.
    """

    name: str
    file: str
    url: str
    size: int | None
    digest: str
    licence: str
    purpose: str
    by_hand: bool = False


def _sam(name: str, file: str, size: int, sha256: str, purpose: str) -> PublishedFile:
    return PublishedFile(
        name, file, _META + file, size, f"sha256:{sha256}", "Apache-2.0", f"SAM {purpose}"
    )


def _patho_sam(name: str, share: str, digest: str, purpose: str) -> PublishedFile:
    """Describe a file of micro-sam's registry, which states no sizes."""
    url = _GWDG.format(share)
    return PublishedFile(name, f"{name}.pt", url, None, digest, _PATHO_SAM_LICENCE, purpose)


def _wsi_sam(name: str, file: str, resolution: str) -> PublishedFile:
    """Describe a file in the authors' folder, who state neither size nor digest nor licence."""
    purpose = f"WSI-SAM, {resolution} resolution"
    return PublishedFile(name, file, _WSI_SAM, None, "", "none stated", purpose, by_hand=True)


FILES = (
    _sam(
        "sam-vit-b",
        "sam_vit_b_01ec64.pth",
        375_042_383,
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        "ViT-B",
    ),
    _sam(
        "sam-vit-l",
        "sam_vit_l_0b3195.pth",
        1_249_524_607,
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        "ViT-L",
    ),
    _sam(
        "sam-vit-h",
        "sam_vit_h_4b8939.pth",
        2_564_550_879,
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        "ViT-H",
    ),
    # Its authors state no digest: this is the one that others pin for this commit.
    PublishedFile(
        "mobile-sam",
        "mobile_sam.pt",
        _MOBILE_SAM,
        40_728_226,
        "sha256:6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        "Apache-2.0",
        "MobileSAM, a small SAM",
    ),
    PublishedFile(
        "hipt-vit256",
        "vit256_small_dino.pth",
        _HIPT,
        704_238_867,
        "sha256:6960cd5a8657dc8bb214671aa0c6dbd3f5b698e84386884955836487ddc89e24",
        "Apache-2.0 with Commons Clause: it may be used, but neither it nor a product or service "
        "whose value derives from it may be sold",
        "HIPT ViT-S/16, for SAM-Path",
    ),
    _patho_sam(
        "patho-sam-vit-b",
        "sBB4H8CTmIoBZsQ",
        "xxh128:ffd1a2cd84570458b257bd95fdd8f974",
        "PathoSAM ViT-B",
    ),
    _patho_sam(
        "patho-sam-vit-l",
        "IZgnn1cpBq2PHod",
        "xxh128:b591833c89754271023e901281dee3f2",
        "PathoSAM ViT-L",
    ),
    _patho_sam(
        "patho-sam-vit-h",
        "L7AcvVz7DoWJ2RZ",
        "xxh128:bd1856dafc156a43fb3aa705f1a6e92e",
        "PathoSAM ViT-H",
    ),
    _patho_sam(
        "patho-sam-vit-b-decoder",
        "KO9AWqynI7SFOBj",
        "xxh128:6a66194dcb6e36199cbee2214ecf7213",
        "PathoSAM nuclei decoder for ViT-B",
    ),
    _patho_sam(
        "patho-sam-vit-l-decoder",
        "oIs6VSmkOp7XrKF",
        "xxh128:46aab7765d4400e039772d5a50b55c04",
        "PathoSAM nuclei decoder for ViT-L",
    ),
    _patho_sam(
        "patho-sam-vit-h-decoder",
        "1qAKxy5H0jgwZvM",
        "xxh128:3ed9f87e46ad5e16935bd8d722c8dc47",
        "PathoSAM nuclei decoder for ViT-H",
    ),
    _patho_sam(
        "patho-sam-vit-b-classes",
        "TFbI25UZoixd1hi",
        "sha256:bdd05a55c72c02abce72a7aa6885c6ec21df9c43fda9cf3c5d11ef5788de0ab0",
        "PathoSAM 6-class decoder, ViT-B",
    ),
    _wsi_sam("wsi-sam-high", "net_high.pth", "high"),
    _wsi_sam("wsi-sam-low", "net_low.pth", "low"),
)


def published_file(name: str) -> PublishedFile:
    """Return the file of that name.

    Raises
    ------
    WsiError
        ``bad-model`` for an unknown name, with the nearest known one.
    """
    known = {one.name: one for one in FILES}
    if name in known:
        return known[name]
    near = nearest_name(name, known)
    hint = f"; did you mean '{near}'? (wsi-models list)" if near else "; see: wsi-models list"
    raise WsiError("bad-model", f"no published weights '{name}'{hint}")
