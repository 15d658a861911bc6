"""Weights that a run starts from: a library's, an earlier run's, the hub's; nothing pickled."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import mobilenet_v3_small, resnet18, vit_b_32

from regl_app.config.sections import ModelConfig
from regl_app.core.errors import ConfigError
from regl_app.core.tensor_files import save_weights
from regl_app.learning.models import build_model
from regl_app.learning.models.classifier import Classifier
from regl_app.learning.models.foreign import ForeignClassifier
from regl_app.learning.models.pretrained import check_weights, load_pretrained

MOBILE = "torchvision:mobilenet_v3_small"


def _saved(module: nn.Module, path: Path) -> str:
    save_file({name: value.clone() for name, value in module.state_dict().items()}, path)
    return str(path)


def _start(name: str, weights: str, *, side: int = 32, **keys: object) -> tuple[Classifier, str]:
    config = ModelConfig.model_validate({"name": name, "weights": weights, **keys})
    model = build_model(config, 7, 3, side, 0)
    return model, load_pretrained(model, config)


@pytest.fixture
def trained() -> nn.Module:
    """Return a network of 1,000 classes whose batch statistics are no longer 0 and 1."""
    torch.manual_seed(0)
    network = mobilenet_v3_small()
    for _ in range(20):
        network(torch.rand(4, 3, 32, 32))
    return network.eval()


@torch.no_grad()
def test_features_are_those_of_the_librarys_network(trained: nn.Module, tmp_path: Path) -> None:
    model, said = _start(MOBILE, _saved(trained, tmp_path / "m.safetensors"))
    assert said.endswith("with a new head for 7 classes")
    assert "keeps the running statistics" in model.words
    x = torch.rand(2, 3, 32, 32)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    trained.get_submodule("classifier")[3] = nn.Identity()
    for mode in (model.eval(), model.train()):
        mode.body.get_submodule("classifier.2").eval()  # dropout
        assert torch.allclose(mode.features(2 * x - 1), trained((x - mean) / std), atol=1e-4)


def test_with_group_norm_the_statistics_are_left(trained: nn.Module, tmp_path: Path) -> None:
    path = _saved(trained, tmp_path / "m.safetensors")
    model, _ = _start(MOBILE, path, norm="group")
    state = model.state_dict()
    assert not [name for name in state if "running" in name]
    assert torch.equal(
        state["body.features.0.0.weight"], trained.state_dict()["features.0.0.weight"]
    )


def test_statistics_that_are_not_finite_are_told_where_they_are_kept(
    trained: nn.Module, tmp_path: Path
) -> None:
    trained.get_buffer("features.0.1.running_var")[1] = torch.nan
    odd = _saved(trained, tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match=r"holds NaN or infinity in 'body.*running_var'"):
        _start(MOBILE, odd)
    _start(MOBILE, odd, norm="group")  # has none


@pytest.mark.parametrize("name", ["cnn", MOBILE])
def test_a_run_goes_on_from_an_earlier_ones_model(name: str, tmp_path: Path) -> None:
    keys = {} if name == "cnn" else {"norm": "frozen"}
    earlier = build_model(ModelConfig.model_validate({"name": name, **keys}), 7, 3, 32, 9)
    save_weights(tmp_path / "model.safetensors", earlier.state_dict())
    model, said = _start(name, str(tmp_path / "model.safetensors"), **keys)
    assert said.endswith("head included")
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in earlier.state_dict().items())


def test_names_as_dataparallel_saves_them_are_the_networks(
    trained: nn.Module, tmp_path: Path
) -> None:
    module = nn.DataParallel(trained)
    model, _ = _start(MOBILE, _saved(module, tmp_path / "m.safetensors"))
    plain, _ = _start(MOBILE, _saved(trained, tmp_path / "n.safetensors"))
    state = model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in plain.state_dict().items())


def test_torchvisions_weights_for_ours_of_that_name_say_where_they_fit(tmp_path: Path) -> None:
    path = _saved(resnet18(), tmp_path / "r.safetensors")
    with pytest.raises(ConfigError, match=r"resnet18\? model\.name=torchvision:resnet18\)$"):
        _start("resnet18", path)


def test_weights_of_another_model_are_told_by_name(tmp_path: Path) -> None:
    path = _saved(resnet18(), tmp_path / "r.safetensors")
    with pytest.raises(ConfigError, match=r"does not fit model\.name='torchvision:mob.*lacks"):
        _start(MOBILE, path)
    with pytest.raises(ConfigError, match=r"holds no 'cnn' of this run's classes.*lacks"):
        _start("cnn", path)


def test_learnt_positions_of_another_size_are_told(tmp_path: Path) -> None:
    path = _saved(vit_b_32(image_size=96, num_classes=2), tmp_path / "v.safetensors")
    with pytest.raises(ConfigError, match=r"pos_embedding.*shape.*model\.input-size"):
        _start("torchvision:vit_b_32", path, side=64)
    model, _ = _start("torchvision:vit_b_32", path, side=64, input_size=96)
    assert isinstance(model, ForeignClassifier)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "resnet.pth"
    torch.save(resnet18().state_dict(), path)
    with pytest.raises(ConfigError, match=r"no safetensors file.*can run code.*docs/models\.md"):
        _start("torchvision:resnet18", str(path))


def test_a_pointer_in_the_weights_place_is_told_as_one(tmp_path: Path) -> None:
    file = tmp_path / "resnet.safetensors"
    file.write_text("version https://git-lfs.example/spec/v1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"cannot be read: .*git lfs pull.*hf download"):
        _start("torchvision:resnet18", str(file))
    with pytest.raises(ConfigError, match=r"cannot be read: .*git lfs pull.*hf download"):
        check_weights(ModelConfig(name="torchvision:resnet18", weights=str(file)))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    for weights in (str(tmp_path / "none.safetensors"), "none.safetensors", str(tmp_path)):
        with pytest.raises(ConfigError, match=r"model\.weights=.* is no file"):
            _start(MOBILE, weights)
    with pytest.raises(ConfigError, match=r"must be a \.safetensors file, or 'owner/name'"):
        _start(MOBILE, "nonsense")


def test_the_hubs_cache_comes_first_then_the_hub(
    trained: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked = _saved(trained, tmp_path / "m.safetensors"), []
    cached = True

    def download(
        repository: str, name: str, *, revision: str | None, local_files_only: bool = False
    ) -> str:
        asked.append((repository, name, revision, local_files_only))
        if local_files_only and not cached:
            raise FileNotFoundError
        if not cached:
            raise OSError("no network")
        return path

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    _, said = _start(MOBILE, "timm/net@v1")
    assert asked == [("timm/net", "model.safetensors", "v1", True)] and path in said
    cached = False
    with pytest.raises(ConfigError, match=r"no network.*hf download timm/net model\.safetensors"):
        _start(MOBILE, "timm/net")
    assert asked[-1] == ("timm/net", "model.safetensors", None, False)
    with pytest.raises(ConfigError, match=r"\(hf download timm/net \S+ --revision v1\) and give"):
        _start(MOBILE, "timm/net@v1")


def test_a_run_that_began_without_weights_is_gone_on_from_by_its_own_norm(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    config = ModelConfig(name=MOBILE)
    save_weights(path, build_model(config, 7, 3, 32, 1).state_dict())
    with pytest.raises(ConfigError, match=r"if that run began without weights: model.norm=group"):
        _start(MOBILE, str(path))
    assert _start(MOBILE, str(path), norm="group")[1].endswith("head included")
