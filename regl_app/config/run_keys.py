"""Every key of a run, each documented once, and what follows from several of them together."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from regl_app.config.choices import ADAPTERS, LABELS, METHODS, POLICIES, SAYS, SITES
from regl_app.config.external import collision, method_choice, offered
from regl_app.config.name_list import parse_names
from regl_app.config.one_of import OneOf
from regl_app.config.presets import PRESETS
from regl_app.config.section import MACHINE, RESULT, VIEW, Section
from regl_app.config.sections import (
    DataConfig,
    LongTailConfig,
    ModelConfig,
    PartitionConfig,
    TrainConfig,
)
from regl_app.config.server_section import ServerConfig
from regl_app.config.supplement_sections import (
    DpoConfig,
    GeneratorConfig,
    LoraConfig,
    PoolConfig,
    PrivacyConfig,
    ProbeConfig,
    SteeringConfig,
    SupplementConfig,
)
from regl_app.config.teaching_sections import LabelsConfig, TeachingConfig
from regl_app.config.validation_section import ValidationConfig


class RunKeys(Section):
    """The keys of a run, checked one by one; ``RunConfig`` checks them together."""

    method: Annotated[str, OneOf.of(PRESETS)] = Field(
        "regl-dpd",
        description="preset: a point in policy x adapter x site x objective",
        json_schema_extra=RESULT,
    )
    objective: Annotated[str, OneOf(("auto", *METHODS), offered, collision)] = Field(
        "auto",
        description="local learning rule; 'auto' = as the method says",
        json_schema_extra=RESULT,
    )
    rounds: int = Field(10, ge=1, description="federated rounds", json_schema_extra=RESULT)
    seed: int = Field(
        0,
        ge=0,
        description="seed of models, training, adapters and sampling",
        json_schema_extra=RESULT,
    )
    name: str = Field(
        "",
        description="run folder's name; '' = method-source-seed, numbered",
        json_schema_extra=VIEW,
    )
    out_dir: str = Field(
        "runs", description="folder that receives the run folder", json_schema_extra=VIEW
    )
    resume: str = Field(
        "",
        description="run folder of an interrupted run to go on with, from its last complete round; "
        "all keys that results depend on have to be that run's",
        json_schema_extra=VIEW,
    )
    cache_dir: str = Field(
        "",
        description="adapters and images shared by runs; '' = <user cache>/regl",
        json_schema_extra=MACHINE,
    )
    cache_limit: float = Field(
        10.0,
        gt=0,
        description="GB that images, adapters, pools and decoded pictures below cache-dir may "
        "take, each: the least recently used go first, adapters and pictures an hour after their "
        "last use at the earliest",
        json_schema_extra=VIEW,
    )
    device: str = Field(
        "auto", description="'auto', 'cpu', 'cuda' or 'cuda:N'", json_schema_extra=RESULT
    )
    threads: int = Field(
        1,
        ge=1,
        description="CPU threads per client; results depend on it, so it is part of a run",
        json_schema_extra=RESULT,
    )
    share_diagnostics: bool = Field(
        True,
        description="replies carry label histograms and clients write sample pictures into the "
        "run folder, for the report and for teaching.say='counts'; turn off where labels are "
        "private",
        json_schema_extra=MACHINE,
    )
    tensorboard: bool = Field(
        True, description="write TensorBoard scalars and images", json_schema_extra=VIEW
    )
    trackers: str = Field(
        "",
        description="where else the run is followed from: 'wandb', 'mlflow', or both, separated by "
        "commas; each needs its package at the server and takes its address and key from its own "
        "environment variables (docs/watch.md)",
        json_schema_extra=VIEW,
    )
    report: bool = Field(True, description="write report.html at the end", json_schema_extra=VIEW)
    log_format: Literal["auto", "plain", "full", "json"] = Field(
        "auto",
        description="log lines: 'full' = time, level, node, round and phase first, 'json' = one "
        "object per line, 'auto' = full in a deployment, else plain",
        json_schema_extra=VIEW,
    )
    metrics_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="port on which the server shows its metrics over HTTP during the run; 0 = none",
        json_schema_extra=VIEW,
    )
    metrics_address: str = Field(
        "127.0.0.1",
        description="address that metrics-port listens on; '0.0.0.0' = all",
        json_schema_extra=VIEW,
    )

    data: DataConfig = DataConfig()
    partition: PartitionConfig = PartitionConfig()
    long_tail: LongTailConfig = LongTailConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    validation: ValidationConfig = ValidationConfig()
    supplement: SupplementConfig = SupplementConfig()
    generator: GeneratorConfig = GeneratorConfig()
    lora: LoraConfig = LoraConfig()
    pool: PoolConfig = PoolConfig()
    dpo: DpoConfig = DpoConfig()
    steering: SteeringConfig = SteeringConfig()
    probe: ProbeConfig = ProbeConfig()
    labels: LabelsConfig = LabelsConfig()
    teaching: TeachingConfig = TeachingConfig()
    privacy: PrivacyConfig = PrivacyConfig()
    server: ServerConfig = ServerConfig()

    @property
    def tracker_names(self) -> tuple[str, ...]:
        """Return the trackers that the run is told to, each once."""
        asked = ("tensorboard",) * self.tensorboard + parse_names(self.trackers)
        return tuple(dict.fromkeys(asked))

    @property
    def central(self) -> bool:
        """Whether one model is trained on everybody's images."""
        return PRESETS[self.method].central

    @property
    def uses_generator(self) -> bool:
        """Whether clients' images are supplemented in this run."""
        return POLICIES[self.supplement.policy].generates and self.supplement.cap > 0

    @property
    def matches_images(self) -> bool:
        """Whether synthetic images take over the mean spectrum of the client's own."""
        return self.uses_generator and self.supplement.match == "spectrum"

    @property
    def distills(self) -> bool:
        """Whether the server trains the average on synthetic images."""
        return self.teaching.distill == "experts"

    @property
    def teaches_by_images(self) -> bool:
        """Whether the server trains on synthetic images: the average, or the first model."""
        return self.distills or self.teaching.first_steps > 0

    @property
    def teaches(self) -> bool:
        """Whether the server changes the average by who holds a class."""
        return self.distills or self.teaching.head != "average"

    @property
    def asks_experts(self) -> bool:
        """Whether it matters who holds how many images of a class."""
        return self.teaches or LABELS[self.labels.by].needs_uploads

    @property
    def say(self) -> str:
        """What tells who holds how many images of a class, where that matters: a key of SAYS."""
        if self.teaching.say != "auto":
            return self.teaching.say
        return "counts" if self.share_diagnostics else "updates"

    @property
    def tells_noisy_counts(self) -> bool:
        """Whether clients send their label counts under noise."""
        return self.asks_experts and SAYS[self.say].tells_noisy_counts

    @property
    def teaching_words(self) -> str:
        """What labels and averages are made by, and what leaves a client for it; '' if as usual."""
        labels = LABELS[self.labels.by]
        said = [f"soft labels by {labels.words}"] if labels.soft else []
        heads = {"average": [], "experts": ["expert head"], "bounded": ["bounded expert head"]}
        said += heads[self.teaching.head]
        said += [f"{self.teaching.steps} steps of distillation"] if self.distills else []
        first = self.teaching.first_steps
        said += [f"first model taught by {first} steps on synthetic images"] if first else []
        return ", ".join(said) + (f" ({SAYS[self.say].words})" if self.asks_experts else "")

    @property
    def needs_generator(self) -> bool:
        """Whether anybody in this run does: to supplement, or to teach by its images."""
        return self.uses_generator or self.teaches_by_images

    @property
    def generates_at_server(self) -> bool:
        """Whether the server needs a generator to make images."""
        return self.teaches_by_images or self.supplements_at_server

    @property
    def supplements_at_server(self) -> bool:
        """Whether it is the server who makes what supplements clients' images."""
        return self.uses_generator and not self.generates_at_client

    @property
    def needs_generator_at_server(self) -> bool:
        """Whether the server needs one at all: also to know what an adapter must look like."""
        return self.generates_at_server or self.shares_adapter

    @property
    def generates_at_client(self) -> bool:
        """Whether it is the clients who synthesize them."""
        return self.uses_generator and SITES[self.supplement.site].at_client

    @property
    def compares_models(self) -> bool:
        """Whether clients need their last local model, to compare it with the global one."""
        needed = ADAPTERS[self.supplement.adapter].compares_models
        return self.generates_at_client and (needed or self.supplement.selects)

    @property
    def adapts_to_client_images(self) -> bool:
        """Whether the adapter, or the one it goes on from, is tuned on the client's images."""
        adapter = ADAPTERS[self.supplement.adapter]
        start = ADAPTERS[self.dpo.start] if adapter.starts_as_told else adapter
        return start.needs_client_images

    @property
    def starts_from_pictures(self) -> bool:
        """Whether some of the clients' images start from their own pictures (img2img)."""
        adapter, generator = ADAPTERS[self.supplement.adapter], self.generator
        tuned = adapter.needs_client_images or adapter.uses_pool
        started = generator.image_conditioning and generator.image_share > 0
        return self.generates_at_client and tuned and started

    @property
    def image_encoder(self) -> str:
        """What reads clients' pictures, '' where that is not named or needed."""
        tells = self.uses_generator and self.adapts_to_client_images and self.lora.image_tokens > 0
        return self.generator.named_image_encoder if tells or self.ip_adapter else ""

    @property
    def ip_adapter(self) -> str:
        """The file of the IP-Adapter that clients' pictures are shown by, '' where none is."""
        return self.generator.ip_adapter if self.generates_at_client else ""

    @property
    def tells_of_synthetic(self) -> bool:
        """Whether clients tell statistics of synthetic images, for rounds that lack a class."""
        site = SITES[self.supplement.site]
        trains_on_images = self.uses_generator and (site.at_client or site.sends_images)
        tells = method_choice(self.objective).tells_statistics
        return tells and trains_on_images and self.server.fraction < 1

    @property
    def shares_adapter(self) -> bool:
        """Whether all clients tune one adapter together, which leaves them for that."""
        return self.uses_generator and ADAPTERS[self.supplement.adapter].for_all

    @property
    def sharing_words(self) -> str:
        """What leaves clients beside models, in a log's words; '' if nothing does."""
        said = []
        if self.shares_adapter:
            often = "once" if self.lora.rounds == 1 else f"{self.lora.rounds} times"
            said.append(
                f"an adapter tuned on its images leaves each client {often} before round 1, to be "
                "averaged"
            )
        if method_choice(self.objective).tells_statistics:
            said.append(
                "the number of each client's images of a class, and the mean and covariance of "
                "their features, leave it every round"
                + self.tells_of_synthetic
                * ", and those of synthetic ones of classes that it lacks"
            )
        return "; ".join(said)

    @property
    def generates_from_pool(self) -> bool:
        """Whether the server needs the shared pool: to tune on, or as candidates for everybody."""
        adapter = ADAPTERS[self.supplement.adapter]
        return adapter.uses_pool or (adapter.unchanged and self.supplement.selects)

    @property
    def measures_discrepancy(self) -> bool:
        """Whether quotas are planned from the discrepancy vector."""
        return POLICIES[self.supplement.policy].measures

    @property
    def hides_discrepancy(self) -> bool:
        """Whether the discrepancy vector is kept from the server, or perturbed."""
        return self.privacy.noise > 0 or self.privacy.vector == "client"

    @property
    def plans_at_client(self) -> bool:
        """Whether clients measure their discrepancy and plan by it without telling anyone."""
        return self.measures_discrepancy and self.privacy.vector == "client"
