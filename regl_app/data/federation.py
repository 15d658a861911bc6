"""The clients' data: source, long tail, partition and each client's train/test split."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np

from regl_app.config import RunConfig
from regl_app.config.sections import DataConfig, LongTailConfig, PartitionConfig
from regl_app.core.allowed_folders import AllowedFolders
from regl_app.core.errors import DataError
from regl_app.core.seeding import derive_seed, numpy_generator
from regl_app.core.torch_defaults import plain_torch
from regl_app.core.types import Counts, Indices
from regl_app.data.client import ClientData
from regl_app.data.feature_shift import with_looks
from regl_app.data.images import ImageSet
from regl_app.data.long_tail import long_tail_indices
from regl_app.data.partition import check_partition, partition_indices
from regl_app.data.picture_store import PictureStore
from regl_app.data.prompt_table import prompted
from regl_app.data.row_facts import DataSetRows
from regl_app.data.run_files import RunFiles
from regl_app.data.source import Source
from regl_app.data.sources.registry import load_source
from regl_app.data.stratified import stratified_sample, validation_places


@dataclass(frozen=True)
class Federation:
    """A source spread over clients, by indices into ``source.train``."""

    source: Source
    tail_test: ImageSet | None
    """The part of the test set that is long-tailed as the training images are, if they are."""
    train_indices: Sequence[Indices]
    test_indices: Sequence[Indices]
    central: bool = False
    validation_indices: Sequence[Indices] = ()
    """What is held out of each client's training images; empty where a run holds none out."""
    digest: str = ""
    """SHA-256 of who holds which row of the data set, and of its labels: where it is the same the
    same images are dealt to the same clients, as far as names and labels of rows tell."""

    @classmethod
    @plain_torch()
    def load(
        cls,
        config: RunConfig,
        num_partitions: int,
        roots: AllowedFolders | None = None,
        store: PictureStore | None = None,
        files: RunFiles | None = None,
    ) -> Federation:
        """Return the federation of ``config`` for ``num_partitions`` clients.

        Where training is central, client 0 trains on everybody's training images and the others
        on none; everyone keeps the personalized test set of the other methods. Cached per process,
        until a file of the source or ``partition.file`` changes.

        Args:
            config: the run.
            num_partitions: K.
            roots: the folders that links below ``data.path`` may lead into; None: anywhere.
            store: where decoded pictures are kept for all processes of this machine; None: below
                ``cache-dir``.
            files: their states, if these are to be taken as known (``load_source``).

        Raises:
            DataError: the source is absent, damaged or cannot be partitioned.
            GeneratorError: ``generator.prompts`` is not for its classes.
        """
        roots = roots if roots and roots.folders else None
        federation = _load(
            config.data,
            config.partition,
            config.long_tail,
            num_partitions,
            config.central,
            config.validation.fraction,
            roots,
            store or PictureStore.of(config),
            files or RunFiles.of(config.data, config.partition, roots),
        )
        source = prompted(federation.source, config.generator)
        if source is federation.source:
            return federation
        return dataclasses.replace(federation, source=source)

    @property
    def num_classes(self) -> int:
        """Return the number of classes of the source."""
        return self.source.num_classes

    @property
    def num_clients(self) -> int:
        """Return the number of clients, empty ones included."""
        return len(self.train_indices)

    def client(self, partition_id: int) -> ClientData:
        """Return the images of client ``partition_id``.

        Raises:
            DataError: there is no such client.
        """
        if not 0 <= partition_id < self.num_clients:
            raise DataError(
                f"partition-id must be between 0 and {self.num_clients - 1}, got {partition_id}"
            )
        return ClientData(
            partition_id,
            self.source.train.subset(self._held(partition_id)),
            self.source.train.subset(self.test_indices[partition_id]),
            validation=self._validation(partition_id),
        )

    def parts(self) -> list[Indices]:
        """Return the places of each client's images in ``source.train``, held out or not."""
        kinds = (self.train_indices, self.test_indices, self.validation_indices)
        each = zip(*(kind for kind in kinds if kind), strict=True)
        return [np.sort(np.concatenate(part)) for part in each]

    def pooled(self) -> ImageSet:
        """Return the union of all clients' training images."""
        return self.source.train.subset(np.sort(np.concatenate(list(self.train_indices))))

    def counts(self) -> Counts:
        """Return the training images per client and class, ``(K, C)`` int64."""
        labels = self.source.train.labels.numpy()
        rows = [
            np.bincount(labels[self._held(client)], minlength=self.num_classes)
            for client in range(self.num_clients)
        ]
        return np.stack(rows).astype(np.int64)

    def _held(self, partition_id: int) -> Indices:
        return self._of(self.train_indices, partition_id)

    def _validation(self, partition_id: int) -> ImageSet | None:
        if not self.validation_indices:
            return None
        return self.source.train.subset(self._of(self.validation_indices, partition_id))

    def _of(self, parts: Sequence[Indices], partition_id: int) -> Indices:
        """Return a client's part, everybody's where one trains on everybody's images."""
        if not self.central:
            return parts[partition_id]
        if partition_id == 0:
            return np.sort(np.concatenate(list(parts)))
        return np.empty(0, dtype=np.int64)

    @classmethod
    def _build(
        cls,
        data: DataConfig,
        partition: PartitionConfig,
        long_tail: LongTailConfig,
        num_partitions: int,
        central: bool,
        validation: float,
        roots: AllowedFolders | None,
        store: PictureStore,
        files: RunFiles,
    ) -> Self:
        if not data.local:
            check_partition(partition, num_partitions)
        # Known by its own files alone: what was asked for by itself is loaded once.
        whole = load_source(data, roots, store, files.source)
        source, of_tail = _with_long_tail(whole, long_tail, data.seed)
        if data.local:  # what each client has is at its node
            nothing = (np.empty(0, dtype=np.int64),) * num_partitions
            return cls(source, None, nothing, nothing)
        labels = source.train.labels
        parts = partition_indices(labels, partition, num_partitions, data.seed, source.train.facts)
        source = with_looks(source, parts, partition, data.seed)
        tail_test = None if of_tail is None else source.test.subset(of_tail)
        train, test, held_out = [], [], []
        for client, indices in enumerate(parts):
            rng = numpy_generator(data.seed, "client-test", client)
            # A class's last image is trained on, never only tested.
            wanted = round(partition.test_fraction * len(indices))
            chosen = stratified_sample(labels.numpy()[indices], wanted, rng, leave_one=True)
            test.append(indices[chosen])
            left = np.delete(indices, chosen)
            places = validation_places(labels.numpy()[left], validation, data.seed, client)
            held_out.append(left[places])
            train.append(np.delete(left, places))
        chosen_by = tuple(held_out) if validation > 0 else ()
        digest = _digest(source, (train, test, chosen_by))
        return cls(source, tail_test, tuple(train), tuple(test), central, chosen_by, digest)


@lru_cache(maxsize=4)
def _load(
    data: DataConfig,
    partition: PartitionConfig,
    long_tail: LongTailConfig,
    num_partitions: int,
    central: bool,
    validation: float,
    roots: AllowedFolders | None,
    store: PictureStore,
    files: RunFiles,
) -> Federation:
    return Federation._build(
        data, partition, long_tail, num_partitions, central, validation, roots, store, files
    )


def _digest(source: Source, kinds: Sequence[Sequence[Indices]]) -> str:
    train = source.train
    facts = train.facts or DataSetRows(len(train)).all()
    files = "\n".join(facts.whole.files)
    told = hashlib.sha256(json.dumps([source.class_names, facts.whole.total]).encode())
    told.update(files.encode("utf-8", "surrogateescape"))
    arrays = [facts.places, train.labels.numpy(), *(part for parts in kinds for part in parts)]
    for array in arrays:
        told.update(f"\n{len(array)} ".encode())
        told.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return told.hexdigest()


def _with_long_tail(
    source: Source, config: LongTailConfig, seed: int
) -> tuple[Source, Indices | None]:
    """Return the source with a long tail to train on, and which of its test images have one too."""
    if config.factor == 1:
        return source, None

    def kept(images: ImageSet, split: str) -> Indices:
        stream = derive_seed(seed, split)
        return long_tail_indices(images.labels, source.num_classes, config.factor, stream)

    train = source.train.subset(kept(source.train, "train")).alone()
    return dataclasses.replace(source, train=train), kept(source.test, "test")
