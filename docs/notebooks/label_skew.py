# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Label skew and its repair in ten minutes
#
# Ten clients hold a data set together, but each holds two or three of its ten classes. Federated
# averaging then learns slowly and unsteadily: every client pulls the global model towards the
# classes it has. This page shows the skew, what it costs, and what happens when each client
# *generates* the classes it lacks (ReGL). Two processor cores are enough; nothing is downloaded.

# %%
import os
import time

import matplotlib.pyplot as plt
import numpy as np

from regl_app import Federation, RunConfig, RunFolder, build_report, run_in_process
from regl_app.runs.samples import load_samples

CLIENTS = 10
SETTINGS = {
    "partition.beta": 0.01,  # Dirichlet: the smaller, the more skewed
    "rounds": 6,
    "train.steps": 30,
    "tensorboard": False,
    "out-dir": "runs/notebook",
}
if "REGL_NOTEBOOK_QUICK" in os.environ:  # how the tests run this page: nothing is learned
    CLIENTS = 3
    SETTINGS |= {"rounds": 1, "train.steps": 2, "lora.steps": 2, "generator.steps": 2}
    SETTINGS |= {"data.max-train": 120, "data.max-test": 60, "supplement.ratio": 0.1}
    SETTINGS |= {"out-dir": "quick", "cache-dir": "quick/cache"}

# %% [markdown]
# ## Who holds what
#
# The same keys always give the same split. A column without a number is a class that the client
# has never seen.

# %%
config = RunConfig.from_flat({**SETTINGS, "method": "fedavg"})
federation = Federation.load(config, CLIENTS)
counts = federation.counts()  # (clients, classes)

fig, ax = plt.subplots(figsize=(6, 4))
ax.imshow(counts, cmap="Blues", aspect="auto")
for client, label in zip(*np.nonzero(counts), strict=True):
    dark = counts[client, label] > counts.max() / 2
    ax.text(label, client, counts[client, label], ha="center", va="center", color="wk"[not dark])
ax.set(
    xlabel="class", ylabel="client", title="training images",
    xticks=range(federation.num_classes), yticks=range(CLIENTS),
)  # fmt: skip
plt.show()
print(f"{(counts > 0).sum(axis=1).mean():.1f} of {federation.num_classes} classes at a client")

# %% [markdown]
# ## What that costs: federated averaging
#
# `run_in_process` runs Flower's two apps without its runtime: the same rounds, the same result,
# and a run folder with all of it.


# %%
def run(method):
    """Run `method` on this split, and return its folder and minutes."""
    began = time.monotonic()
    config = RunConfig.from_flat(
        {**SETTINGS, "method": method, "name": f"{method}-{time.time():.0f}"}
    )
    return RunFolder.open(run_in_process(config, clients=CLIENTS)), (time.monotonic() - began) / 60


fedavg, minutes = run("fedavg")
accuracy = [record.metrics.accuracy for record in fedavg.read_history()]
print(f"{minutes:.1f} minutes; accuracy by round:", *(f"{each:.2f}" for each in accuracy))

# %% [markdown]
# ## The repair: each client generates what it lacks
#
# `regl` gives each client a diffusion model (the one that ships has learned printed digits, never
# handwriting), adapts it to the client's own images, and tops up rare classes. The synthetic
# images are labelled softly by the global model, and each class's row of the last layer is spoken
# for by those who hold it (`docs/teaching.md`).
#
# No image is sent: beside models and measurements a client tells how many images of each class it
# has. Samples, real images among them, are written into the run folder where that is on the
# client's machine, as here. Neither is with `share-diagnostics=false` (`docs/secure.md`).

# %%
regl, minutes = run("regl")
history = regl.read_history()
print(f"{minutes:.1f} minutes")

fig, ax = plt.subplots(figsize=(6, 3.5))
for name, folder in (("fedavg", fedavg), ("regl", regl)):
    records = folder.read_history()
    ax.plot([r.round for r in records], [r.metrics.accuracy for r in records], "o-", label=name)
ax.set(xlabel="round", ylabel="accuracy, all classes", ylim=(0, 1))
ax.legend()
plt.show()

# %% [markdown]
# ## What they drew
#
# Samples of one client, by kind: what it has, what the generator draws as it ships, what it draws
# once it has been adapted to this client. Adapted images take the client's handwriting into
# classes it does not hold.

# %%
poorest = int((counts > 0).sum(axis=1).argmin())
files = sorted(regl.samples.glob("client-*.npz"))
samples = load_samples(files[min(poorest, len(files) - 1)])
fig, axes = plt.subplots(
    len(samples.sets), len(samples.class_names), figsize=(8, 2.6), squeeze=False
)
for row, kind in zip(axes, samples.sets, strict=True):
    row[0].set_ylabel(kind)
    for label, ax in enumerate(row):
        ax.set(xticks=[], yticks=[])
        pictures = samples.of_class(kind, label)
        if len(pictures):
            ax.imshow(pictures[0].transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=255)
        if row is axes[0]:
            ax.set_title(samples.class_names[label], fontsize=8)
fig.suptitle(f"client {samples.partition_id}")
plt.show()

# %% [markdown]
# ## What is still lacking
#
# The *discrepancy* of a class is how much surer the global model is of it than the client's own, on
# synthetic probe images. In round 1 the global model knows nothing yet, and nobody lacks what it
# has. In the last round little is left but for those with next to no images. The default method,
# `regl-dpd`, gives the clients their quotas by this matrix instead of by label counts.

# %%
dpd, minutes = run("regl-dpd")
print(f"{minutes:.1f} minutes")
records = dpd.read_history()
fig, axes = plt.subplots(1, 3, figsize=(10, 3.2), sharey=True)
axes[0].imshow(counts > 0, cmap="Blues", aspect="auto", vmax=2)
axes[0].set(title="holds the class", xlabel="class", ylabel="client")
for ax, record in zip(axes[1:], (records[1], records[-1]), strict=True):
    nobody = [np.nan] * federation.num_classes  # a client whose reply could not be used
    matrix = np.array([row or nobody for row in record.discrepancy], dtype=float)
    shown = ax.imshow(matrix, cmap="RdBu_r", aspect="auto", vmin=-1, vmax=1)
    ax.set(title=f"discrepancy, round {record.round}", xlabel="class")
fig.colorbar(shown, ax=axes)
plt.show()

# %% [markdown]
# ## Side by side
#
# The same as a page: every figure, the keys, what travelled, how long it took.

# %%
page = build_report([fedavg.path, regl.path, dpd.path], regl.path.parent / "side-by-side.html")
for folder in (fedavg, regl, dpd):
    final = folder.read_history()[-1].metrics.accuracy
    print(f"{folder.read_config().method:10} {final:.3f}")
print(page)

# %% [markdown]
# One split and one seed show how it works, not how much it brings: `docs/results.md` has the
# means over several. Next: set `partition.beta` to 0.5 and see how little is left to repair; put
# `"fedlc"` or `"ccvr"` in `run(...)`; or take your own images (`own_images.ipynb`).
