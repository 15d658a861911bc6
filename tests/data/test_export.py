"""A partition written out as image folders holds what its clients hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regl_app.config import RunConfig
from regl_app.core.errors import DataError
from regl_app.data.export import export_clients
from regl_app.data.federation import Federation


def test_every_client_gets_a_folder_of_its_own_images(tmp_path: Path) -> None:
    config = RunConfig.from_flat({"data.max-train": 100, "data.image-size": 16})
    federation = Federation.load(config, 3)
    export_clients(federation, tmp_path / "sites")
    for client in range(3):
        held, site = federation.client(client), tmp_path / "sites" / f"client-{client:02d}"
        counts = held.train.counts(10) + held.test.counts(10)
        files = {folder.name: sorted(folder.iterdir()) for folder in site.iterdir()}
        assert {name: len(found) for name, found in files.items()} == {
            str(label): count for label, count in enumerate(counts) if count
        }
        whole = federation.source.train.subset(federation.parts()[client])
        first = np.asarray(Image.open(files[str(int(whole.labels[0]))][0]))
        assert np.array_equal(first, whole.images[0, 0].numpy())


@pytest.mark.parametrize("method", ["fedavg", "central"])
def test_what_a_client_holds_out_is_written_and_nobody_else_s(tmp_path: Path, method: str) -> None:
    keys = {"data.max-train": 100, "validation.fraction": 0.2, "method": method}
    federation = Federation.load(RunConfig.from_flat(keys), 3)
    export_clients(federation, tmp_path / "sites")
    written = [len(list(site.rglob("*.png"))) for site in sorted((tmp_path / "sites").iterdir())]
    assert written == [len(part) for part in federation.parts()]
    assert sum(written) == len(federation.source.train)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    federation = Federation.load(RunConfig.from_flat({"data.max-train": 100}), 2)
    with pytest.raises(DataError, match="name a new folder"):
        export_clients(federation, tmp_path)


def test_no_class_name_leads_out_of_the_folder(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = Federation.load(RunConfig.from_flat({"data.max-train": 60}), 1)
    names = ("../up", "cell/tissue", "/abs", ".hidden", "", *"56789")
    source = replace(federation.source, class_names=names)
    export_clients(replace(federation, source=source), tmp_path / "sub" / "sites")
    assert [path.name for path in tmp_path.iterdir()] == ["sub"]
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["sites"]
    site = tmp_path / "sub" / "sites" / "client-00"
    held = {path.name for path in site.iterdir()}
    assert held == {"%2E.%2Fup", "cell%2Ftissue", "%2Fabs", "%2Ehidden", "%00", *"56789"}
    assert len(list(site.rglob("*.png"))) == 60
    assert "class '../up' is in folders '%2E.%2Fup'" in caplog.text
