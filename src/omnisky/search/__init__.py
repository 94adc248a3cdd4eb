"""Look-alikes: the nearest embeddings by cosine, in one modality and across; and the map."""

from omnisky.search.approximate import GRAPH_FROM as GRAPH_FROM
from omnisky.search.catalogue import Where as Where
from omnisky.search.flat import FlatMap as FlatMap
from omnisky.search.flat import flat_map as flat_map
from omnisky.search.index import Index as Index
from omnisky.search.index import Matches as Matches
from omnisky.search.index import Side as Side
from omnisky.search.retrieval import Retrieval as Retrieval
from omnisky.search.retrieval import retrieval as retrieval
