"""A federation over hosts of their own: network namespaces with addresses, links and a NAT.

A link cut and mended, a slow one, the server's host and its process away for a minute.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from regl_app.config import RunConfig
from regl_app.core.types import Scalar
from regl_app.flower.engines.in_process import run_in_process
from regl_app.runs.folder import RunFolder

Deploy = Callable[..., Any]  # the fixture's Deployment
SERVER = "10.77.0.1"
SITES = ("near", "slow", "natted")
KEPT = ("metrics", "personalized", "discrepancy", "quotas", "real_counts", "synthetic_counts")

pytestmark = pytest.mark.timeout(1800)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Hosts:
    """A server's host and three sites', each with a link to the server and to nobody else.

    The third site's link leads to a router that hides its address.
    """

    def __init__(self) -> None:
        self.mark = f"regl{os.getpid()}"
        self.server, self.sites = self._host("server"), {name: self._host(name) for name in SITES}

    def build(self) -> None:
        """Make them, and their links."""
        router = self._host("router")
        for host in (self.server, router, *self.sites.values()):
            run("ip", "netns", "add", host)
            run("ip", "-n", host, "link", "set", "lo", "up")
        run("ip", "-n", self.server, "address", "add", f"{SERVER}/32", "dev", "lo")
        for number, name in enumerate(SITES, start=1):
            other = router if name == "natted" else self.sites[name]
            self._link(f"up{number}", self.server, other, f"10.77.{number}", SERVER)
        self._link("inner", router, self.sites["natted"], "192.168.77", SERVER)
        run("ip", "netns", "exec", router, "sysctl", "-qw", "net.ipv4.ip_forward=1")
        rules = (
            "add table ip nat; "
            "add chain ip nat out { type nat hook postrouting priority srcnat; }; "
            "add rule ip nat out oifname dn3 masquerade"
        )
        run("ip", "netns", "exec", router, "nft", rules)

    def _host(self, name: str) -> str:
        return f"{self.mark}-{name}"

    def _link(self, near: str, host: str, other: str, net: str, target: str) -> None:
        """Join ``host``, net.1, and ``other``, net.2, which gets a way to ``target``."""
        far = near.replace("up", "dn") if near != "inner" else "eth"
        run(
            *("ip", "link", "add", near, "netns", host, "type", "veth"),
            *("peer", "name", far, "netns", other),
        )
        for end, place, address in ((near, host, f"{net}.1/24"), (far, other, f"{net}.2/24")):
            run("ip", "-n", place, "address", "add", address, "dev", end)
            run("ip", "-n", place, "link", "set", end, "up")
        run("ip", "-n", other, "route", "add", f"{target}/32", "via", f"{net}.1")

    def cut(self, *sites: str) -> None:
        """Let nothing through on these sites' links to the server, in either direction."""
        self._drop("add", sites)

    def mend(self, *sites: str) -> None:
        """Let all through again."""
        self._drop("delete", sites)

    def _drop(self, what: str, sites: tuple[str, ...]) -> None:
        for site in sites:
            number = SITES.index(site) + 1
            if what == "delete":
                run("ip", "netns", "exec", self.server, "nft", f"delete table netdev cut{number}")
                continue
            # What is sent is lost on the way, as where a cable is out somewhere: no host is told.
            rules = (
                f"add table netdev cut{number}; "
                f"add chain netdev cut{number} in {{ type filter hook ingress device up{number} "
                f"priority 0; policy drop; }}; "
                f"add chain netdev cut{number} out {{ type filter hook egress device up{number} "
                f"priority 0; policy drop; }}"
            )
            run("ip", "netns", "exec", self.server, "nft", rules)

    def slow_down(self, site: str, rate: str) -> None:
        """Bound what the site sends, and what it is sent."""
        number = SITES.index(site) + 1
        for host, device in ((self.server, f"up{number}"), (self.sites[site], f"dn{number}")):
            run(
                *("tc", "-n", host, "qdisc", "add", "dev", device, "root", "tbf"),
                *("rate", rate, "burst", "16kb", "latency", "400ms"),
            )

    def sent(self, site: str) -> int:
        """Return the bytes that a site has sent."""
        host, device = self.sites[site], "eth" if site == "natted" else f"dn{SITES.index(site) + 1}"
        path = f"/sys/class/net/{device}/statistics/tx_bytes"
        return int(run("ip", "netns", "exec", host, "cat", path))

    def remove(self) -> None:
        """Remove every host."""
        for line in run("ip", "netns", "list").splitlines():
            if line.split()[0].startswith(f"{self.mark}-"):
                subprocess.run(["ip", "netns", "delete", line.split()[0]], capture_output=True)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    """Return the hosts; skip where this user or machine cannot make them."""
    missing = [name for name in ("ip", "tc", "nft") if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        why = f"no {', '.join(missing)} here" if missing else "only root makes namespaces"
        pytest.skip(f"HOSTS OF THEIR OWN WERE NOT TRIED: {why} (Debian: iproute2, nftables)")
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        owner = name.partition("-")[0].removeprefix("regl")
        if name.startswith("regl") and owner.isdigit() and not Path(f"/proc/{owner}").exists():
            subprocess.run(["ip", "netns", "delete", name], capture_output=True)
    made = Hosts()
    try:
        made.build()
        yield made
    finally:
        made.remove()


class Watch:
    """A run that is followed: what it has come to, and when."""

    def __init__(self, deployment: Any, follower: subprocess.Popen[bytes], out: Path) -> None:
        self.deployment, self.follower, self.out = deployment, follower, out

    @property
    def run(self) -> RunFolder:
        return RunFolder.open(next(self.out.glob("*/config.json")).parent)

    def until(self, what: str, seen: Callable[[], object], seconds: float = 600) -> None:
        """Wait until something is seen, while the run goes on."""
        deadline = time.monotonic() + seconds
        while not seen():
            late = self.follower.poll() is not None or time.monotonic() > deadline
            assert not late, f"not seen: {what}\n{self.deployment.log('run')}"
            time.sleep(0.05)

    def until_round(self, number: int) -> None:
        """Wait until a round is written down."""
        there = lambda: list(self.out.glob("*/history.jsonl"))  # noqa: E731
        self.until(f"round {number}", lambda: there() and len(self.run.read_history()) >= number)

    @contextlib.contextmanager
    def amid_training(self, number: int, *sites: str) -> Iterator[None]:
        """Wait until sites are amid the training of a round, and hold them there for the block.

        They begin together, whenever each has received what it is to train on: none is done before
        another has begun.
        """
        workers = [self.deployment.worker(site) for site in sites]
        with contextlib.ExitStack() as idle:
            for worker in workers:
                idle.enter_context(worker.held())
            for site in sites:
                self.until(f"round {number} at {site}", lambda site=site: self._got(site, number))
        workers[0].until_it_computed()
        with contextlib.ExitStack() as held:
            for worker in workers:
                held.enter_context(worker.held())
            for site in sites:
                assert f"{site} round {number} train: answered" not in self.deployment.log(site)
            yield

    def _got(self, site: str, number: int) -> bool:
        """Return whether a site has received what it is to train on in a round after the first."""
        before, _, last = self.deployment.log(site).rpartition("Receiving: train message")
        return f"round {number - 1} train: answered" in before and "Received successfully" in last


def test_links_that_go_and_come_back_cost_a_run_time_and_nothing_else(
    hosts: Hosts,
    deploy: Deploy,
    site_settings: dict[str, Scalar],
    site_folders: list[Path],
    tmp_path: Path,
) -> None:
    folders = site_folders[:3]
    settings = site_settings | {
        "rounds": 3,
        "method": "scaffold",  # what is kept on both sides has to come through as well
        "model.width": 16,
        "train.steps": 500,  # long enough to be cut amid it, if idle; short of a minute, if not
        "server.min-nodes": 3,
        "server.timeout": 400.0,
    }
    calm = {"out-dir": str(tmp_path / "calm"), "cache-dir": str(tmp_path / "calm-cache")}

    deployment = deploy(*SITES, address=SERVER, server=hosts.server, sites=hosts.sites)
    # The gate is all that a site reaches: no control, no other site.
    for site in SITES:
        assert deployment.reaches(site, SERVER, deployment.port)
        assert not deployment.reaches(site, SERVER, deployment.control_port)
        for other in ("10.77.1.2", "10.77.2.2", "10.77.3.2", "192.168.77.2"):
            assert not deployment.reaches(site, other, 22)
    hosts.slow_down("slow", "1mbit")
    deployment.register(*SITES)
    for index, name in enumerate(SITES):
        deployment.start_site(index, folders, name)
    out = deployment.folder / "runs"
    watch = Watch(deployment, deployment.submit(**settings, **{"out-dir": str(out)}), out)
    watch.until_round(1)
    before = hosts.sent("slow")

    hosts.cut("natted")  # between rounds, until others are amid the next
    with watch.amid_training(2, "near"):
        hosts.cut("near")  # for less than a minute, after which it would be given up
    hosts.mend("natted")
    answered = "slow round 2 train: answered"
    watch.until("its answer", lambda: answered in deployment.log("slow"))
    watch.until("its upload", lambda: hosts.sent("slow") > before + 80_000)
    with cut(hosts, 2, "slow"):
        pass
    hosts.mend("near")
    watch.until_round(2)

    # The server's host: Flower gives up every node after a minute.
    with contextlib.ExitStack() as away:
        with watch.amid_training(3, *SITES):
            away.enter_context(cut(hosts, 65, *SITES))
        whole = RunFolder.open(
            run_in_process(RunConfig.from_flat(settings | calm), sites=folders, workers=1)
        )
    assert watch.follower.wait(timeout=600) == 0, deployment.log("run")

    log, result, history = deployment.log("run"), watch.run.read_result(), watch.run.read_history()
    assert result is not None and result.status == "finished" and watch.run.report.is_file()
    assert "3 of 3 nodes were given up" in log
    assert not any(record.failures for record in history), [r.failures for r in history]
    for mine, theirs in zip(history, whole.read_history(), strict=True):
        for name in KEPT:
            assert getattr(mine, name) == getattr(theirs, name), (mine.round, name)
    expected = whole.load_model()
    assert all(torch.equal(value, expected[key]) for key, value in watch.run.load_model().items())


@contextlib.contextmanager
def cut(hosts: Hosts, seconds: float, *sites: str) -> Iterator[None]:
    """Cut links for a while, at the least, in which other things may be done."""
    hosts.cut(*sites)
    until = time.monotonic() + seconds
    yield
    time.sleep(max(0.0, until - time.monotonic()))
    hosts.mend(*sites)
