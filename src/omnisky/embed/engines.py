"""Who does the pieces of a large job: this process, the ranks of torchrun or Slurm, or a Dask cluster.

An engine is handed the work, a function of one partition that may be done twice without harm, and all partitions. It
yields what the work answered, as each is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from omnisky.errors import BadValue, MissingExtra
from omnisky.observe.hats import Partition
from omnisky.train.devices import here

Answer = TypeVar("Answer")


@runtime_checkable
class Engine(Protocol):
    """What `embed_hats` is driven by."""

    @property
    def leads(self) -> bool:
        """True in the one process that begins and ends the catalogue."""

    def __call__(self, work: Callable[[Partition], Answer], pieces: Sequence[Partition]) -> Iterator[Answer]: ...


@dataclass(frozen=True)
class Local:
    """One after the other, here."""

    leads: bool = True

    def __call__(self, work: Callable[[Partition], Answer], pieces: Sequence[Partition]) -> Iterator[Answer]:
        return map(work, pieces)


class Ranks:
    """Each process of `torchrun`, or of anything else that sets RANK and WORLD_SIZE, does its share.

    The processes meet on the disk, not on the network: it must be one that all of them see.
    """

    @property
    def leads(self) -> bool:
        return here().rank == 0

    def __call__(self, work: Callable[[Partition], Answer], pieces: Sequence[Partition]) -> Iterator[Answer]:
        return map(work, pieces[here().rank :: here().ranks])


@dataclass(frozen=True)
class Cluster:
    """The Dask cluster that LSDB runs on (extra "hats"): the one this process is a client of, the one at `address`, or
    one of `workers` processes on this machine, for as long as it is needed.

    A worker that dies is replaced, and what it was doing is done again, three times at most. Raises MissingExtra,
    BadValue.
    """

    workers: int = 2
    address: str = ""
    """of a scheduler: tcp://…"""
    leads: bool = True

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise BadValue("workers", saw=self.workers, want="1 or more")

    def __call__(self, work: Callable[[Partition], Answer], pieces: Sequence[Partition]) -> Iterator[Answer]:
        try:
            from distributed import as_completed
        except ImportError as error:
            raise MissingExtra("LSDB's engine is Dask", hint="pip install 'omnisky[hats]'") from error
        with self._client() as client:
            for done in as_completed(client.map(work, pieces, pure=False)):
                yield done.result()

    def _client(self) -> AbstractContextManager[Any]:
        from distributed import Client, LocalCluster, get_client

        if self.address:
            return Client(self.address)
        try:
            return nullcontext(get_client())
        except ValueError:  # there is none
            cluster = LocalCluster(n_workers=self.workers, threads_per_worker=1, dashboard_address=None)
            return _Both(cluster, Client(cluster))


@dataclass(frozen=True)
class _Both(AbstractContextManager):
    """A cluster of our own and its client, closed in this order."""

    cluster: Any
    client: Any

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *error: object) -> None:
        self.client.close()
        self.cluster.close()
