"""What ``regl doctor`` says of a machine that is to be a node."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from PIL import Image

from regl_app.cli.doctor import node as doctor_node
from regl_app.cli.doctor.finding import Finding
from regl_app.cli.doctor.node import Deployment, examine_deployment
from regl_app.config import RunConfig
from regl_app.core.ports import free_port
from regl_app.core.types import Scalar


def found(topic: str, wanted: Deployment, **flat: Scalar) -> Finding:
    config = RunConfig.from_flat({"method": "fedavg", **flat})
    (finding,) = [each for each in examine_deployment(wanted, config) if each.topic == topic]
    return finding


def test_only_what_is_asked_for_is_looked_at(tmp_path: Path) -> None:
    assert not Deployment() and Deployment(state_dir=tmp_path)
    config = RunConfig.from_flat({"method": "fedavg"})
    topics = {each.topic for each in examine_deployment(Deployment(state_dir=tmp_path), config)}
    assert topics == {"Python", "packages", "processor", "GPU", "state-dir"}


def test_a_taken_port_is_noted_and_a_free_one_is_not() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = found("local port", Deployment(port=port))
        assert finding.status == "note" and str(port) in finding.detail and finding.remedy
    assert found("local port", Deployment(port=free_port())).status == "ok"


def test_a_state_folder_may_be_made_later(tmp_path: Path) -> None:
    finding = found("state-dir", Deployment(state_dir=tmp_path / "to" / "come"))
    assert finding.status == "ok" and "(to be made)" in finding.detail
    assert not (tmp_path / "to").exists()


def test_a_state_folder_that_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    assert found("state-dir", Deployment(state_dir=tmp_path / "file")).status == "fail"
    relative = found("state-dir", Deployment(state_dir=Path("state")))
    assert relative.status == "fail" and "absolute" in relative.detail
    monkeypatch.setattr(doctor_node, "FREE_DISK_GB", 1e9)
    assert found("state-dir", Deployment(state_dir=tmp_path)).status == "note"
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "may write to" in found("state-dir", Deployment(state_dir=tmp_path)).detail


def test_a_sites_images_are_read_as_the_run_would(tmp_path: Path) -> None:
    site: dict[str, Scalar] = {"data.source": "site", "data.classes": "cat,dog"}
    for number in range(10):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.new("L", (8, 8), number).save(tmp_path / "cat" / f"{number}.png")
    wanted = Deployment(data_dir=tmp_path)
    finding = found("data-dir", wanted, **site)
    assert finding.status == "ok"
    assert finding.detail == "8 training and 2 test images: cat 8"
    assert found("data-dir", wanted).status == "note"  # for which classes?
    (tmp_path / "cat" / "3.png").write_bytes(b"no image")
    finding = found("data-dir", wanted, **site)
    assert finding.status == "fail" and "3.png" in finding.detail


def test_what_of_a_sites_folder_is_not_read_is_noted(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.new("L", (8, 8), number).save(tmp_path / "cat" / f"{number}.png")
    (tmp_path / "cat" / "RAW.CR2").write_bytes(b"x")
    (tmp_path / "cat" / "bad.png").write_bytes(b"x")
    site: dict[str, Scalar] = {"data.source": "site", "data.classes": "cat,dog"}
    wanted = Deployment(data_dir=tmp_path)
    assert found("data-dir", wanted, **site).status == "fail"
    finding = found("data-dir", wanted, **site, **{"data.unreadable": "skip"})
    assert finding.status == "note"
    assert "1 pictures cannot be read and are left out; not read: 1 .cr2" in finding.detail


def test_a_sites_images_may_lie_in_any_folder_of_its_data_root(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for label, place in (("cat", "archive"), ("dog", "scans")):
        (tmp_path / place / label).mkdir(parents=True)
        (tmp_path / "site" / label).symlink_to(tmp_path / place / label)
        Image.new("L", (8, 8), 9).save(tmp_path / place / label / "0.png")
    site: dict[str, Scalar] = {"data.source": "site", "data.classes": "cat,dog"}
    data_dir, roots = tmp_path / "site", [tmp_path / each for each in ("site", "archive", "scans")]

    def examined(*folders: Path) -> Finding:
        wanted = Deployment(data_dir=data_dir, data_root=":".join(map(str, folders)))
        return found("data-dir", wanted, **site)

    assert "data-root" in examined().detail and examined().status == "fail"
    assert examined(*roots).status == "ok"
    assert examined(*roots[:2]).status == "fail"
    absent = examined(*roots, tmp_path / "absent")
    assert absent.status == "fail" and "must be absolute paths of folders" in absent.detail
