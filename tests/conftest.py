"""Fixtures shared by all packages' tests."""

from __future__ import annotations

import datetime
import hashlib
import io
import ipaddress
import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import settings

from regl_app.core.app_root import APP_ROOT
from regl_app.core.types import Scalar
from regl_app.flower.deployment.credentials import Credentials

torch.set_num_threads(1)
settings.register_profile("any machine", deadline=None)  # a busy one is slow now and then
settings.load_profile("any machine")

# What else takes half a minute or more on a worker. Begun at last, it would hold all others up.
_LONG = (
    "server_app/test_supplement_runs.py",
    "docs/test_notebooks.py",
    "rounds/test_federate.py",
    "server_app/test_resume.py",
    "generator/families/test_families.py",
    "generator/adaptation/test_lora.py",
    "server_app/test_who_sees_what.py",
    "test_trust.py",
    "client_app/worker/test_worker.py",
    "test_benchmarks.py",
)

# Deployments of many processes, in two turns of about the same length: files of a turn go to one
# worker. More than two at once on two cores starve each other's nodes.
_TURNS = {
    "e2e/test_flwr_run.py": "turn 1",
    "deployment/test_server_faults.py": "turn 1",
    "deployment/test_operations.py": "turn 1",
    "deployment/test_confined_site.py": "turn 1",
    "deployment/test_node_faults.py": "turn 2",
    "deployment/test_loopback.py": "turn 2",
    "deployment/test_lost_connection.py": "turn 2",
    "deployment/test_gate.py": "turn 2",
    "deployment/test_hosts.py": "turn 2",
}


def pytest_configure(config: pytest.Config) -> None:
    """Keep what runs leave out of the user's own cache: all workers' is in this tree."""
    if getattr(config, "cache", None):  # not with -p no:cacheprovider
        os.environ["XDG_CACHE_HOME"] = str(config.cache.mkdir("runs"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """Give a file's tests to one worker, and a turn's files: ``--dist loadfile``."""
    from xdist.scheduler import LoadFileScheduling

    class _Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return _TURNS.get(file.removeprefix("tests/"), file)

    return _Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let those begin first that may take longest: what waits then does so beside all others."""
    here = Path(__file__).parent

    def order(item: pytest.Item) -> tuple[float, int]:
        mark = item.get_closest_marker("timeout")
        allowed = float(mark.args[0]) if mark and mark.args else 0.0
        name = item.path.relative_to(here).as_posix()
        return -allowed, _LONG.index(name) if name in _LONG else len(_LONG)

    items.sort(key=order)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Compute with one thread as a client does, whatever the test before has set."""
    yield
    torch.set_num_threads(1)


def _tiny_tokenizer(folder: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    tokens = [*letters, *(f"{letter}</w>" for letter in letters)]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32).save_pretrained(folder)


def _build_pipeline(
    folder: Path, *, latent: int, blocks: tuple[int, ...], depth: int, width: int, heads: int
) -> Path:
    """Write an untrained Stable Diffusion pipeline and return its folder.

    Latents (4, latent, latent) of images ``2 ** (depth - 1)`` as large, a UNet of ``blocks`` whose
    last listens to a text of ``width``, DDIM with epsilon prediction.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    _tiny_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    plain = len(blocks) - 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        unet = UNet2DConditionModel(
            sample_size=latent,
            block_out_channels=blocks,
            down_block_types=(*("DownBlock2D",) * plain, "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", *("UpBlock2D",) * plain),
            layers_per_block=1,
            cross_attention_dim=width,
            attention_head_dim=heads,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=(8,) * depth,
            down_block_types=("DownEncoderBlock2D",) * depth,
            up_block_types=("UpDecoderBlock2D",) * depth,
            norm_num_groups=4,
            sample_size=latent * 2 ** (depth - 1),
            scaling_factor=0.5,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=width,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=heads,
                max_position_embeddings=32,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(prediction_type="epsilon", clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def second_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an untrained pipeline that shares no shape with the bundled one.

    48 x 48 RGB, latents (4, 12, 12), cross-attention width 24, DDIM with epsilon prediction.
    """
    folder = tmp_path_factory.mktemp("second-pipeline")
    return _build_pipeline(folder, latent=12, blocks=(16, 32), depth=3, width=24, heads=4)


@pytest.fixture(scope="session")
def quick_generator(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scalar]:
    """Return keys of the cheapest generator there is, for runs of which images are not the point.

    Untrained, 16 x 16 pixels, in fp32: bf16 is slower where matrices are this small.
    """
    folder = tmp_path_factory.mktemp("quick-generator")
    _build_pipeline(folder, latent=8, blocks=(8,), depth=2, width=8, heads=2)
    return {"generator.path": str(folder), "generator.precision": "fp32"}


def _save_ip_adapter(pipeline: Path, folder: Path, features: int = 8) -> Path:
    """Write a random IP-Adapter for the UNet in a pipeline's folder, and return its file."""
    from safetensors.torch import save_file

    file = folder / "ip-adapter_tiny.safetensors"
    save_file(_ip_adapter(pipeline, features), file)
    return file


def _ip_adapter(pipeline: Path, features: int) -> dict[str, torch.Tensor]:
    """Return the tensors of an IP-Adapter in the official layout, in half precision as those."""
    from diffusers import UNet2DConditionModel

    config = json.loads((pipeline / "unet" / "config.json").read_text())
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    width = unet.config.cross_attention_dim
    random = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    made = {
        "image_proj.proj.weight": drawn(4 * width, features),
        "image_proj.proj.bias": drawn(4 * width) / 10,
        "image_proj.norm.weight": torch.ones(width),
        "image_proj.norm.bias": torch.zeros(width),
    }
    listening = [name for name in unet.attn_processors if ".attn2." in name]
    for place, name in enumerate(listening):
        own = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape
        for kind in ("k", "v"):
            made[f"ip_adapter.{2 * place + 1}.to_{kind}_ip.weight"] = drawn(*own)
    return {name: tensor.half() for name, tensor in made.items()}


def _save_clip(folder: Path, features: int = 8) -> Path:
    """Write a random CLIP as IP-Adapters come with, without preprocessor; return its folder."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    shape: Mapping[str, int] = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 16,
        "patch_size": 8,
        "projection_dim": features,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape))
        torch.nn.init.normal_(model.visual_projection.weight)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def save_ip_adapter() -> Callable[..., Path]:
    """Return what writes an IP-Adapter for a pipeline's folder into a folder: returns its file.

    It is shown as many ``features`` a picture, 8, as the CLIP of ``save_clip`` makes.
    """
    return _save_ip_adapter


@pytest.fixture(scope="session")
def save_clip() -> Callable[..., Path]:
    """Return what writes a tiny CLIP of ``features``, 8, into a folder, and returns that."""
    return _save_clip


def _photos(folder: Path, counts: Mapping[str, int], *, width: int, height: int) -> Path:
    from PIL import Image

    random = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            # Not seen in small: what a thumbnail has lost cannot come back.
            grain = random.integers(0, 100, (height, width, 3))
            pixels = (grain + (number * 40 + index) % 150).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03}.png", compress_level=1)
    return folder


@pytest.fixture(scope="session")
def photos() -> Callable[..., Path]:
    """Return what fills a folder with one subfolder a class: folder, pictures by class, sides.

    Coarse grain in colour, and no two of a class alike.
    """
    return _photos


@pytest.fixture(scope="session")
def small_settings() -> dict[str, Scalar]:
    """Return keys that make a run of two rounds take seconds, whatever runs it."""
    return {
        "rounds": 2,
        "train.steps": 3,
        "train.batch-size": 8,
        "model.width": 4,
        "data.max-train": 200,
        "data.max-test": 60,
        "data.image-size": 16,
        "partition.beta": 0.5,
        "generator.steps": 2,
        "lora.steps": 2,
        "lora.batch-size": 4,
        "lora.rank": 2,
        "supplement.cap": 4,
        "supplement.ratio": 0.2,
        "probe.per-class": 2,
        "teaching.steps": 3,
        "tensorboard": False,
    }


@pytest.fixture(scope="module")
def short_calibration() -> Iterator[None]:
    """Let CCVR's head take 20 steps of its 1,000: for runs whose accuracy is not the point."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("regl_app.learning.methods.ccvr._STEPS", 20)
        yield


def _issue(
    keys: Credentials, *, days: tuple[int, int], hosts: Sequence[str] = ("localhost",)
) -> x509.Certificate:
    authority = x509.load_pem_x509_certificate(keys.ca.read_bytes())
    signer = serialization.load_pem_private_key(keys.ca_key.read_bytes(), None)
    own = serialization.load_pem_private_key(keys.server_key.read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    assert isinstance(own, ec.EllipticCurvePrivateKey)
    now = datetime.datetime.now(datetime.UTC)
    names: list[x509.GeneralName] = []
    for host in hosts:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")]))
        .issuer_name(authority.subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days=days[0]))
        .not_valid_after(now + datetime.timedelta(days=days[1]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(signer, hashes.SHA384())
    )
    keys.server.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate


@pytest.fixture
def issue() -> Callable[..., x509.Certificate]:
    """Return what replaces a federation's SuperLink certificate by one of other days and hosts.

    Arguments: the credentials, ``days`` = first and last day from now, ``hosts``.
    """
    return _issue


NOBODY = 65534


def _confined(folders: Mapping[str, tuple[Path, bool]]) -> list[str]:
    """Return the beginning of a command line that runs the rest as a site's unit would.

    Another user without capabilities, everything read-only, a /tmp of its own; of this machine's
    /tmp and /srv it sees ``folders`` alone: where it finds each, what it is, whether it may write.
    """
    script = ["set -e", "mount --make-rprivate /", "mount -t tmpfs -o mode=755 none /srv"]

    def bind(source: str, target: str, options: str) -> None:
        script.append(f"mkdir -p {target} && mount --bind {source} {target}")
        script.append(f"mount -o remount,bind,{options} {target}")

    # Python and the code, where only root can enter what is above them.
    needed = {Path(path).resolve() for path in (sys.base_prefix, sys.prefix, APP_ROOT)}
    hidden: dict[Path, list[Path]] = {}
    for path in sorted(needed):
        shut = [above for above in path.parents if not above.stat().st_mode & 0o001]
        if shut:
            hidden.setdefault(shut[-1], []).append(path)
    staged = [path for paths in hidden.values() for path in paths]
    for number, path in enumerate(staged):
        bind(shlex.quote(str(path)), f"/srv/.stage/{number}", "ro")
    for target, (source, writable) in folders.items():
        bind(shlex.quote(str(source)), target, "rw" if writable else "ro")
    for folder in hidden:
        script.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(folder))}")
    for number, path in enumerate(staged):
        bind(f"/srv/.stage/{number}", shlex.quote(str(path)), "ro")
    script += [
        "mount -t tmpfs -o mode=1777 none /tmp",
        "mount -o remount,bind,ro /",
        "mount -o remount,ro /srv",
        "cd /",
        f"exec setpriv --reuid={NOBODY} --regid={NOBODY} --clear-groups --no-new-privs"
        ' --inh-caps=-all --bounding-set=-all -- "$@"',
    ]
    return ["unshare", "--mount", "sh", "-c", "\n".join(script), "sh"]


@pytest.fixture(scope="session")
def confined() -> Callable[..., list[str]]:
    """Return :func:`_confined`, where it can be had."""
    if os.getuid() != 0 or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("NOT TESTED: only root can run a node as another user in a namespace")
    tried = subprocess.run([*_confined({}), "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"NOT TESTED: no mount namespace here: {tried.stderr.strip()}")
    return _confined


def _bundle_of(publisher: str, name: str, version: str, files: Mapping[str, str]) -> bytes:
    """Return an app bundle that Flower's nodes accept, also one that ``flwr build`` would not make.

    ``files``: the code, whose apps are ``any.server:app`` and ``any.client:app``.
    """
    about = (
        f"[project]\nname = {json.dumps(name)}\nversion = {json.dumps(version)}\n"
        f"[tool.flwr.app]\npublisher = {json.dumps(publisher)}\n[tool.flwr.app.components]\n"
        'serverapp = "any.server:app"\nclientapp = "any.client:app"\n'
    )
    texts = {"pyproject.toml": about, "any/__init__.py": "", **files}
    digests = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
    manifest = "\n".join(f"{path},{digest},0" for path, digest in digests.items())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in {**texts, ".info/CONTENT": manifest}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return packed.getvalue()


@pytest.fixture(scope="session")
def bundle_of() -> Callable[..., bytes]:
    """Return :func:`_bundle_of`."""
    return _bundle_of


# The server asks every node there once, and says what came back.
_FOREIGN_CODE = {
    "any/server.py": """import time
from flwr.app import Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()
@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(0.2)
    messages = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in nodes]
    for reply in grid.send_and_receive(messages, timeout=120):
        print("ANSWER", reply.error.reason if reply.has_error() else "the code ran", flush=True)
""",
    "any/client.py": """from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
print("FOREIGN CODE RUNS", flush=True)
app = ClientApp()
@app.query()
def query(message, context):
    return Message(RecordDict(), reply_to=message)
""",
}
# BUNDLE CONNECTION. `flwr run` refuses to build such bundles: a submitter who means harm would not
# use it, so it is given an innocent app and sends the bundle.
_SUBMIT = """import sys, tempfile
from pathlib import Path
from flwr.cli.app import app as flwr
bundle, connection = Path(sys.argv[1]).read_bytes(), sys.argv[2]
innocent = Path(tempfile.mkdtemp())
(innocent / "pyproject.toml").write_text(
    '[project]\\nname = "any"\\nversion = "1"\\n[tool.flwr.app]\\npublisher = "any"\\n'
    '[tool.flwr.app.components]\\nserverapp = "any.a:app"\\nclientapp = "any.a:app"\\n'
)
(innocent / "any").mkdir()
(innocent / "any" / "__init__.py").touch()
(innocent / "any" / "a.py").write_text("app = 1\\n")
sys.modules["flwr.cli.run.run"].build_fab_from_disk = lambda _: bundle
sys.argv[1:] = ["run", str(innocent), connection, "--stream"]
flwr()
"""


@pytest.fixture(scope="session")
def foreign_code() -> dict[str, str]:
    """Return the files of an app that tells whether it ran, for :func:`bundle_of`."""
    return dict(_FOREIGN_CODE)


@pytest.fixture(scope="session")
def submit_script() -> str:
    """Return a script that submits any bundle and follows its run: file, connection."""
    return _SUBMIT
