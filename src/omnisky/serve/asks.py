"""What may be asked and what is answered, as JSON: the words from which the OpenAPI description is made."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class Strict(BaseModel):
    """A word that is not known is an error: it would be a wish that nobody heard."""

    model_config = ConfigDict(extra="forbid")


# --- observations -------------------------------------------------------------------------------------------------

Number = float | None
"""null where nothing was measured"""

# A list of millions that are no numbers is one error, not millions.
Numbers = Annotated[list[Number], Field(fail_fast=True)]
Plane = Annotated[list[Numbers], Field(fail_fast=True)]
Known = Annotated[list[float], Field(fail_fast=True)]


class ImageSeen(Strict):
    """One image."""

    flux: Annotated[list[Plane], Field(fail_fast=True)] = Field(description="(band, height, width), in `unit`")
    bands: list[str] = Field(description="one name a plane", examples=[["g", "r", "z"]])
    unit: str = Field("nanomaggy", description='or "display": 8-bit colour, 0 … 255')
    survey: str = ""
    pixel_scale_arcsec: float | None = None


class SpectrumSeen(Strict):
    """One spectrum, observed frame, vacuum wavelengths."""

    flux: Numbers = Field(description="in `unit`")
    wavelength_aa: Known = Field(description="Å, rising")
    ivar: Known | None = Field(None, description="1/flux²; 0 where a pixel says nothing")
    unit: str = "1e-17 erg / (s cm2 AA)"


class Seen(Strict):
    """One object and what was seen of it."""

    object_id: str = Field("", max_length=256)
    ra: float | None = Field(None, description="deg, ICRS")
    dec: float | None = Field(None, description="deg, ICRS")
    image: ImageSeen | None = None
    spectrum: SpectrumSeen | None = None
    scalars: dict[str, Number] | None = None


Input = Annotated[str, Field(description="data:…;base64,… of FITS, npz, JPEG, PNG or an Arrow stream")] | Seen
Inputs = Input | Annotated[list[Input], Field(fail_fast=True)]

Precision = Literal["fp32", "bf16"]


# --- questions ----------------------------------------------------------------------------------------------------


class EmbeddingsAsk(Strict):
    """As OpenAI's, of observations."""

    model: str
    input: Inputs
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="the model's own width, or nothing")
    user: str | None = Field(None, description="not used")
    part: str | None = None
    precision: Precision = "fp32"


class EmbedAsk(Strict):
    """As `omnisky.embed`."""

    model: str
    input: Inputs
    part: str | None = None
    blocks: int | None = Field(None, ge=1)
    precision: Precision = "fp32"


class SearchAsk(Strict):
    """Look-alikes of `input`, or of objects of the index by id (`like`) or place; of several, of their mean."""

    index: str | None = Field(None, description="the only one, if not given")
    input: Inputs | None = None
    like: list[str] = Field([], max_length=1000)
    unlike: list[str] = Field([], max_length=1000, description="ids of what is not meant")
    ra: float | None = Field(None, ge=0, le=360, description="deg, ICRS")
    dec: float | None = Field(None, ge=-90, le=90, description="deg, ICRS")
    radius_arcsec: float = Field(5.0, gt=0)
    by: str | None = Field(None, description="the modality of what is asked about")
    across: str | None = Field(None, description="the modality of the answers, if another")
    k: int = Field(10, ge=1, le=1000)
    where: dict[str, tuple[Number, Number]] = Field({}, description="column → least and largest value; null is open")
    cone: tuple[float, float, float] | None = Field(None, description="only answers within: ra, dec, radius, deg")


class GenerateAsk(Strict):
    """Continue a sequence (AstroPT: `keep`), or fill in a modality (AION: `steps`, `draws`)."""

    model: str
    input: Inputs
    target: str = Field(description="the modality told")
    inputs: list[str] = Field([], max_length=100, description="AION: modalities that are shown; if none, all seen")
    temperature: float | None = Field(None, ge=0, le=10, description="0 is the likeliest; else AstroPT 0, AION 1")
    seed: int = Field(0, ge=0, lt=2**63)
    keep: int | None = Field(None, ge=1, description="AstroPT: how many tokens of the input are shown")
    steps: int | None = Field(None, ge=1, le=1000, description="AION")
    draws: int | None = Field(None, ge=1, le=64, description="AION")


class PosteriorAsk(Strict):
    """As `omnisky.generate.posterior`."""

    model: str
    input: Inputs
    name: str = Field(description="of the number, such as z", examples=["z"])
    inputs: list[str] = Field([], max_length=100, description="modalities that are shown; if none, all seen")
    temperature: float = Field(1.0, gt=0, le=100)


class PredictAsk(Strict):
    """What a head says."""

    input: Inputs


ASKS = (EmbeddingsAsk, EmbedAsk, SearchAsk, GenerateAsk, PosteriorAsk, PredictAsk)


# --- answers ------------------------------------------------------------------------------------------------------


class EmbeddingRow(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class Usage(BaseModel):
    """Objects, where OpenAI counts tokens."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsAnswer(BaseModel):
    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingRow]
    usage: Usage
    signature: str


class EmbedRow(BaseModel):
    object_id: str
    ra: Number
    dec: Number
    embedding: list[float]


class EmbedAnswer(BaseModel):
    model: str
    signature: str
    data: list[EmbedRow]


class Match(BaseModel):
    object_id: str
    similarity: float = Field(description="cosine")
    ra: Number
    dec: Number
    scalars: dict[str, Number]


class SearchAnswer(BaseModel):
    index: str
    signature: str
    by: str
    across: str
    matches: list[Match] = Field(description="nearest first")


class Told(BaseModel):
    """As an input, with parts by the names that the model has for them, such as image_hsc."""

    model_config = ConfigDict(extra="allow")

    object_id: str = Field(description="id/0, id/1, … of several draws")
    ra: Number
    dec: Number


class GenerateAnswer(BaseModel):
    model: str
    generated: Literal[True] = True
    target: str
    data: list[Told]


class PosteriorRow(BaseModel):
    object_id: str
    chance: list[float] = Field(description="one a bin; sums to 1")
    mean: float
    std: float
    interval_68: tuple[float, float]


class PosteriorAnswer(BaseModel):
    model: str
    name: str
    unit: str
    edges: list[float] = Field(description="of the bins, one more than bins")
    data: list[PosteriorRow]


class PredictRow(BaseModel):
    object_id: str
    value: str | Number | list[Number]
    chance: dict[str, float] | None = None


class PredictAnswer(BaseModel):
    head: str
    data: list[PredictRow]


class Reads(BaseModel):
    part: str
    name: str
    kind: str = Field(description="of the codec")
    bands: list[str] | None = None


class ModelAnswer(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    kind: str
    parameters: int
    signature: str | None = Field(description="null where its codecs cannot be signed: then it does not embed")
    reads: list[Reads]
    can: list[str]


class ModelsAnswer(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelAnswer]


class HealthAnswer(BaseModel):
    status: Literal["ok"] = "ok"


class SideAnswer(BaseModel):
    name: str
    rows: int


class IndexAnswer(BaseModel):
    name: str
    signature: str
    objects: int
    columns: list[str]
    sides: list[SideAnswer]
    model: str | None = Field(description="who can embed for it, of those served")


class InfoAnswer(BaseModel):
    omnisky: str
    models: list[str]
    indices: list[IndexAnswer]
    heads: list[str]
    limits: dict[str, float]
