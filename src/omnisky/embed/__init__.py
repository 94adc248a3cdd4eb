"""Observations → Embeddings: pooled, signed, on disk; a file, or a HATS catalogue made by many processes."""

from omnisky.embed.engines import Cluster as Cluster
from omnisky.embed.engines import Local as Local
from omnisky.embed.engines import Ranks as Ranks
from omnisky.embed.partitions import Done as Done
from omnisky.embed.partitions import Report as Report
from omnisky.embed.partitions import as_table as as_table
from omnisky.embed.partitions import embed_hats as embed_hats
from omnisky.embed.vectors import PARQUET as PARQUET
from omnisky.embed.vectors import VIEWS as VIEWS
from omnisky.embed.vectors import Embedder as Embedder
from omnisky.embed.vectors import Embedding as Embedding
from omnisky.embed.vectors import embed as embed
from omnisky.embed.vectors import embed_file as embed_file
from omnisky.embed.vectors import only as only
from omnisky.embed.vectors import signature as signature
from omnisky.embed.vectors import token_states as token_states
from omnisky.embed.vectors import zoomed as zoomed
