"""A table of nuclei as SpatialData, with the extra ``spatial``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import shapely

from wsi_sampath.errors import WsiError
from wsi_sampath.extras import install_hint
from wsi_sampath.outputs.nuclei.columns import MEASURED, TableInfo
from wsi_sampath.outputs.nuclei.reading import open_nuclei

if TYPE_CHECKING:
    import spatialdata

NAME = "nuclei"


def to_spatialdata(path: Path, *, run: str | None = None) -> spatialdata.SpatialData:
    """Read a table of nuclei as SpatialData.

    Parameters
    ----------
    path
        ``NAME.nuclei.parquet``.
    run
        Id of the run that the table must be of; None for any.

    Returns
    -------
    spatialdata.SpatialData
        Shapes ``nuclei`` in level-0 pixels, the coordinate system ``global``, with a transformation
        to ``um``. Table ``table``: measurements as variables, ``class`` among the observations,
        centroids in pixels as ``obsm["spatial"]``, colours as ``uns["class_colors"]``.

    Raises
    ------
    ImportError
        Where spatialdata is not installed.
    WsiError
        As `read_nuclei`, and ``bad-input`` for a table of no nuclei, for SpatialData has no shapes
        without any.
    """
    try:
        import spatialdata
    except ImportError as error:
        message = f"to_spatialdata() needs spatialdata: {install_hint('spatial')}"
        raise ImportError(message, name="spatialdata") from error
    opened = open_nuclei(path, run=run)
    if opened.rows == 0:
        message = "has no nuclei, and SpatialData has no shapes without any"
        raise WsiError("bad-input", message, subject=str(path))
    nuclei = opened.read()
    shapes, table = _shapes(nuclei, opened.info), _table(nuclei, opened.info)
    return spatialdata.SpatialData(shapes={NAME: shapes}, tables={"table": table})


def _shapes(nuclei: pa.Table, info: TableInfo) -> Any:
    import geopandas
    from spatialdata.models import ShapesModel
    from spatialdata.transformations import Identity, Scale

    frame = geopandas.GeoDataFrame(
        geometry=shapely.from_wkb(nuclei["geometry"].to_numpy()), index=nuclei["id"].to_numpy()
    )
    to_um = Scale(list(info.mpp), axes=("x", "y"))
    return ShapesModel.parse(frame, transformations={"global": Identity(), "um": to_um})


def _table(nuclei: pa.Table, info: TableInfo) -> Any:
    import pandas as pd
    from anndata import AnnData
    from spatialdata.models import TableModel

    ids = nuclei["id"].to_numpy()
    observed = pd.DataFrame(
        {
            "id": ids,
            "region": pd.Categorical([NAME] * len(ids), categories=[NAME]),
            "class": nuclei["class"].to_pandas(),
        }
    )
    observed.index = observed["id"].astype(str).rename(None)
    names = [name for name in MEASURED if name not in ("x_px", "y_px")]
    data = AnnData(
        X=np.stack([nuclei[name].to_numpy() for name in names], axis=1),
        obs=observed,
        var=pd.DataFrame(index=names),
        obsm={"spatial": np.stack([nuclei[name].to_numpy() for name in ("x_px", "y_px")], axis=1)},
        uns={
            "class_colors": [one.color for one in info.classes],
            "wsi_sampath": {"run": info.run, "slide": info.slide, "mpp": list(info.mpp)},
        },
    )
    return TableModel.parse(data, region=NAME, region_key="region", instance_key="id")
