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
# # Your own images, three sites
#
# Three sites, each with a folder of pictures that it does not hand over. They agree on the names
# of the classes and train one classifier. This page draws such folders, looks at them as a site's
# operator would, runs the federation, and uses the model on new pictures. Put your own folders in
# their place.

# %%
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regl_app import (
    RunConfig,
    RunFolder,
    TrainedModel,
    build_report,
    run_in_process,
)
from regl_app.runs.trained.pictures import find_pictures, named_pictures

HERE = Path("runs/own-images")
EACH, SETTINGS = 40, {"rounds": 5, "train.steps": 30, "tensorboard": False}
if "REGL_NOTEBOOK_QUICK" in os.environ:  # how the tests run this page: nothing is learned
    HERE, EACH = Path("quick-own"), 6
    SETTINGS |= {"rounds": 1, "train.steps": 2, "lora.steps": 2, "generator.steps": 2}
    SETTINGS |= {"supplement.ratio": 0.2, "cache-dir": "quick-own/cache"}
shutil.rmtree(HERE / "sites", ignore_errors=True)

# %% [markdown]
# ## Three folders
#
# One subfolder per class, whose name says what is on the pictures. A site need not have all of
# them, and they need not look alike: north writes on a blackboard, south on blue paper, west in
# yellow chalk; each lacks two of the five classes.

# %%
CLASSES = ("zero", "one", "two", "three", "four")
SITES = {
    "north": (("zero", "one", "two"), "black", "white"),
    "south": (("two", "three", "four"), "midnightblue", "white"),
    "west": (("zero", "three", "four"), "#2b1d0e", "khaki"),
}
rng = np.random.default_rng(0)


def draw(name, paper, ink):
    """Return a picture of one digit as somebody might write it, 64 pixels wide."""
    picture = Image.new("RGB", (64, 64), paper)
    font = ImageFont.load_default(size=int(rng.integers(38, 52)))
    place = tuple(rng.integers(28, 37, 2))
    ImageDraw.Draw(picture).text(place, str(CLASSES.index(name)), ink, font, anchor="mm")
    return picture.rotate(rng.normal(0, 12), Image.Resampling.BICUBIC, fillcolor=paper)


def fill(folder, names, paper, ink, each):
    """Write `each` pictures of every class of `names`, a subfolder a class."""
    for name in names:
        (folder / name).mkdir(parents=True)
        for number in range(each):
            draw(name, paper, ink).save(folder / name / f"{number:03}.png")


for site, (names, paper, ink) in SITES.items():
    fill(HERE / "sites" / site, names, paper, ink, EACH)
fill(HERE / "sites" / "held-out", CLASSES, "darkgreen", "white", max(4, EACH // 4))

fig, axes = plt.subplots(3, 3, figsize=(4, 4.4))
for row, site in zip(axes, SITES, strict=True):
    for ax, folder in zip(row, sorted((HERE / "sites" / site).iterdir()), strict=True):
        ax.imshow(Image.open(folder / "000.png"))
        ax.set(xticks=[], yticks=[], title=folder.name)
    row[0].set_ylabel(site)
plt.show()

# %% [markdown]
# ## What a site's operator looks at
#
# `regl doctor` says what would be read of the folder, and what would not: classes that nobody
# agreed on, files that are no pictures (`docs/data.md` has the rules).

# %%
SITE = {"data.source": "site", "data.classes": ",".join(CLASSES)}


def regl(*arguments):
    """Run `regl` with `arguments`, as in a terminal, and return what it says."""
    command = [sys.executable, "-m", "regl_app.cli", *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "110", "NO_COLOR": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    return (done.stdout + done.stderr).strip()


keys = [f"{key}={value}" for key, value in SITE.items()]
print(regl("doctor", "--data-dir", HERE / "sites" / "north", *keys))

# %% [markdown]
# A folder that does not fit is refused, by name:

# %%
misspelt = shutil.copytree(HERE / "sites" / "north", HERE / "sites" / "misspelt")
(misspelt / "two").rename(misspelt / "tow")
print(regl("doctor", "--data-dir", misspelt, *keys).splitlines()[-1])

# %% [markdown]
# ## The run
#
# On one machine the three folders are given as a list; on three, each node has its own as
# `data-dir` and the command is `regl run --superlink ...` (`docs/deploy.md`): the same apps, the
# same keys, the same result. The generator that ships draws digits; for other classes set
# `generator.path` to a text-to-image checkpoint, or take a method that generates nothing
# (`fedavg`, `fedlc`).

# %%
config = RunConfig.from_flat(
    {
        **SITE,
        **SETTINGS,
        "method": "regl",
        "data.path": str(HERE / "sites" / "held-out"),  # what the server tests on, if it has any
        "out-dir": str(HERE / "runs"),
    }
)
folder = RunFolder.open(run_in_process(config, sites=[HERE / "sites" / site for site in SITES]))
history = folder.read_history()
print(*(f"{record.metrics.accuracy:.2f}" for record in history))

# %% [markdown]
# ## What came of it

# %%
fig, ax = plt.subplots(figsize=(5, 3))
ax.plot([r.round for r in history], [r.metrics.accuracy for r in history], "o-")
ax.set(xlabel="round", ylabel="held-out accuracy", ylim=(0, 1))
plt.show()
print("report:", build_report([folder.path], folder.report))

# %% [markdown]
# Each site's pictures, one column a class: what it has; what the generator draws as it ships; what
# it draws once it has been adapted to the site, also of the classes that the site lacks. Look here
# first when a supplement brings nothing: this generator has seen light digits on a dark ground
# alone, and what it draws for a site with dark ink on white paper cannot be read after so few
# steps (try it above, then `lora.steps`, or another checkpoint). The log's "read as meant" is the
# same as a number.

# %%
fig, axes = plt.subplots(1, len(SITES), figsize=(9, 6))
for ax, site, path in zip(axes, SITES, sorted(folder.samples.glob("client-*.png")), strict=True):
    ax.imshow(Image.open(path))
    ax.set(title=site)
    ax.axis("off")
plt.show()

# %% [markdown]
# ## The model in your hands
#
# The run folder has the weights as `model.safetensors`. New pictures go the way of the training
# ones. At a terminal this is `regl predict`, and `regl export --to onnx` is for other programs.

# %%
trained = TrainedModel.of(folder)

new = HERE / "new"
new.mkdir(exist_ok=True)
for name in CLASSES:
    draw(name, "#3a0a2a", "mistyrose").save(new / f"{name}.png")
pictures = named_pictures(find_pictures([new]), trained)
shares = trained.log_probs(pictures.images).exp()

fig, axes = plt.subplots(1, len(pictures.files), figsize=(8, 2))
for ax, path, row in zip(axes, pictures.files, shares, strict=True):
    ax.imshow(Image.open(path))
    ax.set(xticks=[], yticks=[], title=f"{trained.class_names[row.argmax()]} {row.max():.0%}")
plt.show()

# %% [markdown]
# Your own: put three folders of class folders in the place of `HERE / "sites"`, their names into
# `CLASSES`, and leave `data.path` out if the server has nothing to test on: the sites' own test
# sets remain. `regl doctor` first.
