"""Step `deploy`: what can be known about the files in `deploy/` without running a container or a service manager.

The sample configuration starts a real gateway; the image's health check runs against it, up and down. The rest is read:
the Dockerfile, the compose file, the proxy's, the unit. Checks that need a program this machine lacks are skipped by name.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gate import gateway, installs, processes, rows  # noqa: E402
from gate.places import GATEWAY, LOGS, ROOT  # noqa: E402

DEPLOY = ROOT / "deploy"
INSTALLED_AT = "/usr/local/bin/switchyard"
CONFIGURED_AT = "/etc/switchyard/gateway.yaml"

# systemd-analyze's exposure, in tenths of a point: 0 is closed, 100 is open.
MOST_EXPOSURE = 20


def that(name: str, check: Callable[[], None]) -> None:
    """Runs one check; an assertion's message is the row's detail."""
    try:
        check()
    except Skipped as skipped:
        rows.tell(name, None, str(skipped))
    except Exception as error:  # noqa: BLE001: the row says what went wrong, and the other checks go on
        rows.tell(name, False, f"{type(error).__name__}: {error}"[:600])
    else:
        rows.tell(name, True)


class Skipped(Exception):
    """A program that this check needs is not here."""


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile as instructions: continued lines joined, comments left out."""
    text = re.sub(r"(?m)^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text())
    lines = [line.strip() for line in re.sub(r"\\\n", " ", text).splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The Dockerfile's named stages, in order."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            named = re.match(r"(\S+) AS (\w+)$", rest)
            assert named, f"a stage without a name: {rest}"
            found[named[2]] = []
        last = list(found)[-1]
        found[last].append((word, rest))
    return found


def dockerfile_is_sound() -> None:
    known = set("FROM WORKDIR COPY RUN USER ENV STOPSIGNAL HEALTHCHECK ENTRYPOINT CMD".split())
    seen: list[str] = []
    for name, steps in stages().items():
        for word, rest in steps:
            assert word in known, f"{word}: not expected here (ADD fetches, EXPOSE promises what loopback cannot keep)"
            if word == "FROM":
                image = rest.split()[0]
                assert re.search(r":[\w.-]*\d|:bookworm-slim$", image), f"{image} has no fixed tag"
            if word == "COPY" and not rest.startswith("--from="):
                source = rest.split()[0]
                assert source == "." or (ROOT / source).exists(), f"{source} is not in the tree"
            origin = re.search(r"--from=(\S+)", rest)
            assert not origin or origin[1] in seen, f"--from={origin and origin[1]} names no earlier stage"
        seen.append(name)
    for name in ("node", "gateway"):
        last = dict(stages()[name])
        assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"]), f"{name} runs as {last['USER']}"
        for word in ("ENTRYPOINT", "CMD"):
            assert all(isinstance(part, str) for part in json.loads(last[word])), f"{word} needs a shell"
        assert last["STOPSIGNAL"] == "SIGTERM"
    assert list(stages())[-1] == "gateway", "the default image is not the last stage"


def context_holds_what_the_build_reads() -> None:
    """Everything Cargo reads must be let through by the ignore file, which starts by refusing all."""
    lines = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    allowed = {line.removeprefix("!") for line in lines[1:]}
    metadata = subprocess.run(
        ["cargo", "metadata", "--no-deps", "--offline", "--format-version", "1"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )
    sources = [Path(target["src_path"]) for target in json.loads(metadata.stdout)["packages"][0]["targets"]]
    needed = {source.relative_to(ROOT).parts[0] for source in sources} | {"Cargo.toml", "Cargo.lock", "deploy/gateway.yaml"}
    assert needed <= allowed, f"left out: {needed - allowed}"
    assert not allowed & {"target", ".git"}


def read_yaml(file: Path) -> dict:
    """A YAML file through the reader of the conformance packages; Python's library has none."""
    modules = installs.npm("conformance") / "node_modules"
    code = (
        "const {parse} = require(process.argv[1]); const fs = require('fs');"
        "console.log(JSON.stringify(parse(fs.readFileSync(process.argv[2], 'utf8'), {merge: true})))"
    )
    command = ["node", "-e", code, str(modules / "yaml"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.strip()[:300]
    return json.loads(done.stdout)


def compose_is_sound() -> None:
    compose = read_yaml(DEPLOY / "compose.yaml")
    services, kept = compose["services"], compose.get("volumes", {})
    for name in ("gateway", "behind-proxy"):
        service = services[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"], f"{name} is not confined"
        assert "no-new-privileges:true" in service["security_opt"]
        build = service["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file() and build["target"] in stages()
        # A drain that compose cuts short would lose calls in flight.
        assert int(service["stop_grace_period"].removesuffix("s")) > 30
    # Loopback only: the host's network, or a proxy inside the same one. Published ports of the gateway lead nowhere.
    assert services["gateway"]["network_mode"] == "host" and "ports" not in services["gateway"]
    assert services["proxy"]["network_mode"] == "service:behind-proxy"
    listened = re.search(r"listen (\d+);", (DEPLOY / "proxy.conf").read_text())[1]
    assert services["behind-proxy"]["ports"] == [f"127.0.0.1:{listened}:{listened}"], "not what the proxy listens on"
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in kept or (DEPLOY / source).is_file(), f"{volume}: no such file and no volume"


def compose_agrees() -> None:
    program = ["docker", "compose"]
    if not shutil.which("docker") or subprocess.run([*program, "version"], capture_output=True, check=False).returncode != 0:
        raise Skipped("needs docker compose")
    command = [*program, "-f", str(DEPLOY / "compose.yaml"), "--profile", "proxy", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[:400]


def proxy_agrees() -> None:
    if not shutil.which("nginx"):
        raise Skipped("needs nginx")
    with tempfile.TemporaryDirectory() as folder:
        whole = f"pid {folder}/pid; error_log stderr; events {{}} http {{ access_log off; include {DEPLOY / 'proxy.conf'}; }}"
        (Path(folder) / "nginx.conf").write_text(whole)
        done = subprocess.run(
            ["nginx", "-t", "-p", folder, "-c", f"{folder}/nginx.conf"], capture_output=True, text=True, timeout=30, check=False
        )
    assert done.returncode == 0, done.stderr[:400]


def proxy_reaches_the_listener() -> None:
    listen = read_yaml(DEPLOY / "gateway.yaml")["listen"]
    assert f"proxy_pass http://{listen};" in (DEPLOY / "proxy.conf").read_text()


def unit_settings() -> dict[str, list[str]]:
    """The unit's `Key=value` lines."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "switchyard.service").read_text().splitlines():
        if not line or line[0] in "#[":
            continue
        key, equals, value = line.partition("=")
        assert equals and re.fullmatch(r"[A-Za-z]+", key), f"not a setting: {line}"
        found.setdefault(key, []).append(value)
    return found


def unit_is_sound() -> None:
    unit = unit_settings()
    for key in ("ExecStart", "ExecStartPre"):
        assert unit[key][0].startswith(INSTALLED_AT) and unit[key][0].endswith(CONFIGURED_AT)
    for key, value in {"DynamicUser": "yes", "NoNewPrivileges": "yes", "ProtectSystem": "strict", "KillMode": "mixed"}.items():
        assert unit[key] == [value], f"{key} is {unit.get(key)}"
    assert unit["CapabilityBoundingSet"] == [""]
    assert int(unit["TimeoutStopSec"][0]) > 30, "the manager would kill before the drain is over"


def unit_agrees() -> None:
    if not shutil.which("systemd-analyze"):
        raise Skipped("needs systemd-analyze")
    with tempfile.TemporaryDirectory() as folder:
        # The program is looked for, so it must be the one that was built.
        copy = Path(folder) / "switchyard.service"
        copy.write_text((DEPLOY / "switchyard.service").read_text().replace(INSTALLED_AT, str(GATEWAY)))
        command = ["systemd-analyze", "verify", "--man=no", str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        said = [line for line in done.stderr.splitlines() if "switchyard" in line]
        assert done.returncode == 0 and not said, f"code {done.returncode}: {' '.join(said) or done.stderr[:300]}"
        command = ["systemd-analyze", "security", "--offline=true", f"--threshold={MOST_EXPOSURE}", "--no-pager", str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        overall = [line for line in done.stdout.splitlines() if "Overall exposure" in line]
        print(done.stdout)
        assert done.returncode == 0, " ".join(overall) or done.stderr[:300]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def sample_runs(logs: Path) -> None:
    """The sample file, with free ports in place of its own: it checks, serves, and the health check sees it."""
    with tempfile.TemporaryDirectory(prefix="switchyard-deploy-") as folder:
        file = Path(folder) / "gateway.yaml"
        ports = {"8080": str(free_port()), "9090": str(free_port())}
        text = (DEPLOY / "gateway.yaml").read_text()
        for key, port in (("listen", "8080"), ("admin", "9090")):
            assert re.search(rf"(?m)^{key}: 127\.0\.0\.1:{port}$", text), f"{key} is not loopback:{port}"
            text = re.sub(rf"(?m)^{key}: .*$", f"{key}: 127.0.0.1:{ports[port]}", text)
        file.write_text(text)
        done = subprocess.run([GATEWAY, "check", "-c", file], capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, f"check: code {done.returncode}: {(done.stdout + done.stderr)[:300]}"
        healthy = health_command(file)
        server = processes.Server([str(GATEWAY), "serve", "-c", str(file)], logs / "gateway.log", cwd=Path(folder))
        try:
            server.expect(r"^endpoint (http://\S+)", 20)
            server.expect(r"^admin (http://\S+)", 10)
            done = subprocess.run(healthy, capture_output=True, text=True, timeout=10, check=False)
            assert done.returncode == 0, f"health check while serving: code {done.returncode}: {done.stderr[:300]}"
        finally:
            ended = server.stop(40)
        assert ended == 0, f"ended with code {ended}"
        done = subprocess.run(healthy, capture_output=True, text=True, timeout=10, check=False)
        assert done.returncode != 0, "the health check passes with no gateway running"


def health_command(file: Path) -> list[str]:
    """The image's HEALTHCHECK, with this machine's paths."""
    lines = {rest for word, rest in instructions() if word == "HEALTHCHECK"}
    assert len(lines) == 1, "the images disagree"
    command = json.loads(re.search(r"CMD (\[.*\])$", lines.pop())[1])
    return [{INSTALLED_AT: str(GATEWAY), CONFIGURED_AT: str(file)}.get(word, word) for word in command]


def main() -> None:
    processes.stop_on_signals()
    logs = gateway.fresh(LOGS / "deploy")
    that("Dockerfile: stages, users, commands", dockerfile_is_sound)
    that("Dockerfile: the context holds what the build reads", context_holds_what_the_build_reads)
    that("compose.yaml: confined, reachable, files exist", compose_is_sound)
    that("compose.yaml: docker compose accepts it", compose_agrees)
    that("proxy.conf: nginx accepts it", proxy_agrees)
    that("proxy.conf: points at the sample's listener", proxy_reaches_the_listener)
    that("switchyard.service: account, confinement, stop", unit_is_sound)
    that("switchyard.service: systemd accepts it, exposure within bounds", unit_agrees)
    that("gateway.yaml: checks, serves, is seen by the health check", lambda: sample_runs(logs))


if __name__ == "__main__":
    main()
