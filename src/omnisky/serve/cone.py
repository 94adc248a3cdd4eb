"""Simple Cone Search 1.03 (IVOA 2008): which objects of an index lie in a circle, as a VOTable for TOPCAT and pyvo."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from omnisky.errors import OmniskyError
from omnisky.observe.place import Cone
from omnisky.search import Index, Where

XML = "application/x-votable+xml"
_UCD = {"redshift": "src.redshift", "z": "src.redshift"}


def cone_search(index: Index, ra: float, dec: float, radius_deg: float) -> bytes:
    """A VOTable: object_id, ra, dec and all columns of the index. A radius of 0 asks for the columns alone."""
    cone = Cone(ra, dec, radius_deg)
    (rows,) = np.nonzero(Where(cone=cone).keeps(index.objects) & (radius_deg > 0))
    return _votable(index, rows)


def refusal(error: OmniskyError) -> bytes:
    """An error as the standard wants it (§2.3): a VOTable, status 200."""
    from astropy.io.votable.tree import Info, VOTableFile

    table = VOTableFile()
    table.infos.append(Info(ID="Error", name="Error", value=str(error)))
    return _written(table)


def _votable(index: Index, rows: np.ndarray) -> bytes:
    from astropy.io.votable.tree import Field, Resource, TableElement, VOTableFile

    objects = index.objects.take(rows)
    table = VOTableFile()
    resource = Resource(type="results")
    table.resources.append(resource)
    held = TableElement(table, name="objects")
    resource.tables.append(held)
    columns: dict[str, Any] = {"object_id": objects.object_id, "ra": objects.ra, "dec": objects.dec}
    fields = [
        Field(table, name="object_id", datatype="char", arraysize="*", ucd="ID_MAIN"),
        Field(table, name="ra", datatype="double", unit="deg", ucd="POS_EQ_RA_MAIN"),
        Field(table, name="dec", datatype="double", unit="deg", ucd="POS_EQ_DEC_MAIN"),
    ]
    if "scalars" in objects:
        scalars = objects["scalars"]
        for name, unit in zip(scalars.names, scalars.units or ("",) * len(scalars.names), strict=True):
            fields.append(Field(table, name=name, datatype="double", unit=unit or None, ucd=_UCD.get(name)))
            columns[name] = scalars[name]
    held.fields.extend(fields)
    held.create_arrays(len(rows))
    for name, values in columns.items():
        held.array[name] = values.astype(object) if values.dtype.kind == "U" else values
    return _written(table)


def _written(table: Any) -> bytes:
    file = BytesIO()
    table.to_xml(file)
    return file.getvalue()
