"""Checkpoints by hub id, without a network: the cache first, then what stands for the hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import httpx
import huggingface_hub
import pytest
from huggingface_hub import errors

from regl_app.core.errors import GeneratorError
from regl_app.generator import hub_checkpoint
from regl_app.generator.checkpoint import generator_digest, generator_identity, resolve_generator
from regl_app.generator.encoder_files import (
    image_encoder_digest,
    image_encoder_identity,
    resolve_image_encoder,
)
from regl_app.generator.hub_checkpoint import HubId, fetch_configs

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REQUEST = httpx.Request("GET", "https://hub.invalid/api/models/owner/name")


class Hub:
    """A repository that is "fetched" into the cache by copying, and counts how often it is asked.

    ``failure``: what it raises in place of an answer.
    """

    def __init__(self, content: Path, cache: Path) -> None:
        self.content = content
        self.repository = cache / "models--owner--name"
        self.asked: list[str | None] = []
        self.fetched: set[str] = set()
        self.failure: Exception | None = None

    @property
    def snapshot(self) -> Path:
        return self.repository / "snapshots" / COMMIT

    def names(self) -> list[str]:
        return [p.relative_to(self.content).as_posix() for p in self.content.rglob("*.*")]

    def info(self, _: object, repository: str, *, revision: str | None, timeout: float) -> object:
        assert repository == "owner/name" and timeout > 0
        self.asked.append(revision)
        if self.failure:
            raise self.failure
        siblings = [SimpleNamespace(rfilename=name) for name in self.names()]
        return SimpleNamespace(siblings=siblings, sha=COMMIT)

    def put(self, name: str, revision: str | None = None) -> None:
        self.fetched.add(name)
        target = self.snapshot / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.content / name, target)
        ref = self.repository / "refs" / (revision or "main")
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(COMMIT)

    def file(self, _: str, name: str, *, revision: str | None, **keys: bool) -> str:
        if keys.get("local_files_only"):
            return str(self.local(_, name, revision=revision, local_files_only=True))
        if self.failure:
            raise self.failure
        self.put(name, revision)
        return str(self.snapshot / name)

    def all(self, _: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        if self.failure:
            raise self.failure
        for name in huggingface_hub.utils.filter_repo_objects(
            self.names(), allow_patterns=allow_patterns
        ):
            self.put(name, revision)
        return str(self.snapshot)

    local: Callable[..., str] = staticmethod(huggingface_hub.hf_hub_download)


@pytest.fixture
def hub(second_pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    content = Path(shutil.copytree(second_pipeline, tmp_path / "remote"))
    (content / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle")
    found = Hub(content, tmp_path / "cache")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda *a, **k: found.info(*a, **k))
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", found.file)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", found.all)
    monkeypatch.setattr(hub_checkpoint, "_failed", {})

    def no_network(*_: object, **__: object) -> None:
        raise AssertionError("a test went to the network")

    monkeypatch.setattr(httpx.Client, "send", no_network)
    return found


def test_it_is_fetched_once_and_then_found_without_asking(hub: Hub, second_pipeline: Path) -> None:
    with pytest.raises(GeneratorError, match=r"is not in this machine's hub cache$"):
        resolve_generator("owner/name", fetch=False)
    folder = resolve_generator("owner/name")
    assert hub.asked == [None] and "unet/diffusion_pytorch_model.bin" not in hub.fetched
    assert generator_digest(folder) == generator_digest(second_pipeline)
    hub.failure = AssertionError("the hub was asked though all is in the cache")
    assert resolve_generator("owner/name") == resolve_generator("owner/name", fetch=False) == folder


def test_what_is_only_there_in_fp16_is_fetched_in_fp16(hub: Hub) -> None:
    for file in list(hub.content.rglob("*.safetensors")):
        file.rename(file.with_suffix(".fp16.safetensors"))
    resolve_generator("owner/name")
    assert "vae/diffusion_pytorch_model.fp16.safetensors" in hub.fetched


def test_a_download_that_was_broken_off_is_gone_on_with(hub: Hub) -> None:
    folder = resolve_generator("owner/name")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(GeneratorError, match=r"hub cache .*lacks scheduler"):
        resolve_generator("owner/name", fetch=False)
    resolve_generator("owner/name")
    assert len(hub.asked) == 2
    hub.failure = httpx.ReadTimeout("x")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(GeneratorError, match=r"'vae' has no safetensors .* could not be fetched"):
        resolve_generator("owner/name")


def test_what_reads_pictures_a_repository_may_lack(hub: Hub) -> None:
    named: dict[str, object] = {
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
    }
    edit(hub.content / "model_index.json", named)
    folder = resolve_generator("owner/name")
    assert resolve_generator("owner/name", fetch=False) == fetch_configs(HubId("owner/name"))
    t5: dict[str, object] = {"text_encoder_3": ["transformers", "T5EncoderModel"]}
    edit(folder / "model_index.json", t5)
    with pytest.raises(GeneratorError, match=r"lacks text_encoder_3\)"):
        resolve_generator("owner/name", fetch=False)


@pytest.mark.parametrize("revision", ["v1.0", "refs/pr/3", COMMIT])
def test_a_revision_is_asked_for(hub: Hub, revision: str) -> None:
    folder = resolve_generator(f"owner/name@{revision}")
    assert hub.asked == [revision]
    assert resolve_generator(f"owner/name@{revision}", fetch=False) == folder
    assert HubId.parse(f"owner/name@{revision}") == HubId("owner/name", revision)


@pytest.mark.parametrize("text", ["name", "a/b/c", "a/b@", "a/b@x y", "/a/b", "../b", "~/b", ""])
def test_what_is_no_hub_id_is_refused_without_asking(hub: Hub, text: str) -> None:
    with pytest.raises(GeneratorError, match=r"(no folder|no model_index).*"):
        resolve_generator(text)
    assert hub.asked == []


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectTimeout("x"),
        httpx.ReadTimeout("x"),
        httpx.ProxyError("x"),
        httpx.RemoteProtocolError("x"),
        httpx.InvalidURL("x"),
        ConnectionError("x"),
        errors.OfflineModeIsEnabled("x"),
        errors.LocalEntryNotFoundError("x"),
        errors.HfHubHTTPError("x", response=httpx.Response(503, request=REQUEST)),
        RuntimeError("x"),
    ],
    ids=lambda failure: type(failure).__name__,
)
def test_whatever_goes_wrong_on_the_way_becomes_our_error(hub: Hub, failure: Exception) -> None:
    hub.failure = failure
    says = r"'owner/name' is no local folder, is not in this .* could not be fetched .*{}.*folder"
    for _ in range(3):  # an answer is not waited for again and again
        with pytest.raises(GeneratorError, match=says.format(type(failure).__name__)):
            resolve_generator("owner/name")
    assert len(hub.asked) == 1
    assert generator_identity("owner/name") == "unknown"


def test_a_server_that_only_names_it_fetches_nothing(hub: Hub) -> None:
    before = generator_identity("owner/name")
    assert COMMIT in before and hub.fetched == set() and hub.asked == [None]
    resolve_generator("owner/name")
    hub.failure = AssertionError("the hub was asked though all is in the cache")
    assert generator_identity("owner/name") == before, "a comparison would run all again"


def test_at_a_revision_it_is_that_one_s(hub: Hub) -> None:
    assert COMMIT in generator_identity("owner/name@v1.0")
    assert hub.asked == ["v1.0"] and hub.fetched == set()


def test_a_folder_is_known_by_its_content(hub: Hub, second_pipeline: Path) -> None:
    assert generator_identity(str(second_pipeline)) == generator_digest(second_pipeline)
    assert hub.asked == []


def test_after_a_while_the_hub_is_asked_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.failure = httpx.ConnectTimeout("x")
    with pytest.raises(GeneratorError):
        resolve_generator("owner/name")
    hub.failure = None
    monkeypatch.setattr(hub_checkpoint, "_SECONDS_UNTIL_ASKED_AGAIN", 0.0)
    assert resolve_generator("owner/name").is_dir()


@pytest.mark.parametrize(
    ("kind", "status", "says"),
    [
        (errors.GatedRepoError, 403, "is gated: accept its licence .* log in"),
        (errors.RepositoryNotFoundError, 401, "check the name, and log in if it is private"),
        (errors.RevisionNotFoundError, 404, "has no revision 'v9' of it"),
    ],
)
def test_who_may_not_or_asks_for_what_is_not_there_is_told(
    hub: Hub, kind: type[errors.HfHubHTTPError], status: int, says: str
) -> None:
    hub.failure = kind("x", response=httpx.Response(status, request=REQUEST))
    with pytest.raises(GeneratorError, match=rf"'owner/name@v9'.*{says}"):
        resolve_generator("owner/name@v9")


@pytest.mark.parametrize(
    "failure",
    [
        errors.RepositoryNotFoundError("x", response=httpx.Response(401, request=REQUEST)),
        httpx.ConnectTimeout("x"),
    ],
)
def test_a_folder_of_the_first_part_s_name_is_named(
    hub: Hub, failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.failure = failure
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "names").mkdir(parents=True)
    says = r"'owner' is a folder here that holds no 'name' \(did you mean 'owner/names'\?\)"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator("owner/name")


@pytest.mark.parametrize("at", ["", "v1.0"])
def test_what_is_to_be_fetched_elsewhere_is_that_revision(hub: Hub, at: str) -> None:
    hub.failure = httpx.ConnectTimeout("x")
    says = rf"\(hf download owner/name{at and f' --revision {at}'} --local-dir FOLDER\)"
    with pytest.raises(GeneratorError, match=says):
        resolve_generator(f"owner/name{at and f'@{at}'}")


def test_a_repository_without_a_pipeline_is_refused(hub: Hub) -> None:
    (hub.content / "model_index.json").unlink()
    with pytest.raises(GeneratorError, match=r"'owner/name' holds no model_index\.json"):
        resolve_generator("owner/name")


def edit(file: Path, changes: dict[str, object]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes), encoding="utf-8")


def test_of_another_kind_of_pipeline_the_index_alone_is_fetched(hub: Hub) -> None:
    edit(hub.content / "model_index.json", {"_class_name": "FluxControlPipeline"})
    with pytest.raises(GeneratorError, match="is a FluxControlPipeline, which is no text-to-image"):
        resolve_generator("owner/name")
    assert hub.fetched == {"model_index.json"}


def test_of_what_needs_more_than_text_no_weights_are_fetched(hub: Hub) -> None:
    edit(hub.content / "unet" / "config.json", {"in_channels": 9})
    with pytest.raises(GeneratorError, match=r"takes 9 channels.* for inpainting"):
        resolve_generator("owner/name")
    assert "unet/config.json" in hub.fetched
    assert {Path(name).name for name in hub.fetched} == {"model_index.json", "config.json"}


def test_an_image_encoder_is_fetched_without_what_is_not_read_and_found_again(hub: Hub) -> None:
    shutil.rmtree(hub.content)
    hub.content.mkdir()
    read = {"config.json", "preprocessor_config.json", "model.safetensors"}
    for name in (*read, "open_clip_model.safetensors", "vocab.json", "pytorch_model.bin"):
        (hub.content / name).write_text("{}")
    with pytest.raises(GeneratorError, match=r"^generator.image-encoder 'owner/name' is not in"):
        resolve_image_encoder("owner/name", fetch=False)
    assert image_encoder_identity("owner/name") == f"owner/name@{COMMIT}" and hub.fetched == set()
    folder = resolve_image_encoder("owner/name")
    assert hub.fetched == read and folder == hub.snapshot
    hub.failure = httpx.ConnectTimeout("x")
    assert resolve_image_encoder("owner/name") == folder
    assert image_encoder_digest(folder) == image_encoder_digest(hub.content)
    (folder / "model.safetensors").unlink()
    lacking = r"image-encoder 'owner/name' .*no safetensors weights .*could not be fetched"
    with pytest.raises(GeneratorError, match=lacking):
        resolve_image_encoder("owner/name")


def test_an_encoder_in_a_folder_of_a_repository_is_found_by_what_the_error_says(hub: Hub) -> None:
    (hub.content / "models" / "image_encoder").mkdir(parents=True)
    (hub.content / "models" / "image_encoder" / "config.json").write_text("{}")
    for part in ("unet", "vae", "text_encoder"):
        shutil.rmtree(hub.content / part)
    says = r"hf download owner/name --revision v2 --include 'models/image_encoder/\*'"
    with pytest.raises(GeneratorError, match=says):
        resolve_image_encoder("owner/name@v2")
