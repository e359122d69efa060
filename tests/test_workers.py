"""How workers and the service are started somewhere: files that load, and say what is true of this project."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from autopeft.cli import main

ROOT = Path(__file__).parents[1]
MANIFESTS = ("kuberay.yaml", "service.yaml")


def documents(name: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all((ROOT / "workers" / name).read_text(encoding="utf-8")) if each]


def containers(value: Any) -> list[dict[str, Any]]:
    """All containers of a manifest, wherever they stand."""
    if isinstance(value, dict):
        return [*value.get("containers", ()), *(each for inner in value.values() for each in containers(inner))]
    return [each for inner in value for each in containers(inner)] if isinstance(value, list) else []


def options_of(command: str) -> set[str]:
    return {name for parameter in main.commands[command].params for name in parameter.opts}


def test_compose_starts_the_service_with_options_that_there_are_behind_tls_and_with_its_database() -> None:
    (whole,) = documents("compose.yaml")
    services = whole["services"]
    program, verb, *given = services["service"]["command"]
    assert (program, verb) == ("autopeft", "serve")
    assert {each.split("=")[0] for each in given} <= options_of("serve")
    assert "ports" not in services["service"]  # Only the proxy is reached.
    assert "--spider" not in services["service"]["healthcheck"]["test"]  # It asks by HEAD, which no path answers.
    assert "443:443" in services["proxy"]["ports"]
    assert "AUTOPEFT_PASSWORD:?" in services["postgres"]["environment"]["POSTGRES_PASSWORD"]
    named = {mount.split(":")[0] for each in services.values() for mount in each.get("volumes", ())}
    assert {each for each in named if re.fullmatch(r"[a-z]+", each)} == set(whole["volumes"])


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_mount_what_they_claim_and_claim_what_they_mount(name: str) -> None:
    whole = documents(name)
    claims = {each["metadata"]["name"] for each in whole if each["kind"] == "PersistentVolumeClaim"}
    assert claims == set(re.findall(r"claimName: ([a-z-]+)", (ROOT / "workers" / name).read_text(encoding="utf-8")))
    for each in containers(whole):
        assert each["image"] in ("autopeft-worker:latest", "postgres:17")
        assert each["volumeMounts"]


def test_the_service_of_a_cluster_is_its_head_and_has_a_database_of_its_own() -> None:
    whole = documents("service.yaml")
    head = next(each for each in containers(whole) if each["name"] == "ray-head")
    assert set(re.findall(r"(--[a-z-]+) ", head["args"][0])) <= options_of("serve")
    values = {each["name"]: each.get("value") for each in head["env"]}
    assert values["AUTOPEFT_STORAGE"].startswith("postgresql+psycopg://")
    kinds = [(each["kind"], each["metadata"]["name"]) for each in whole]
    assert {("Service", "autopeft"), ("StatefulSet", "autopeft-postgres"), ("RayCluster", "autopeft")} <= set(kinds)
    assert len(kinds) == len(set(kinds))


def test_nothing_puts_sqlite_on_the_shared_folder() -> None:
    for file in (ROOT / "workers").iterdir():
        assert not re.search(r"sqlite:/+(\$shared|shared)\b", file.read_text(encoding="utf-8")), file.name
    slurm = (ROOT / "workers" / "slurm.sh").read_text(encoding="utf-8")
    assert "AUTOPEFT_STORAGE:?" in slurm
    image = (ROOT / "workers" / "Dockerfile").read_text(encoding="utf-8")
    assert "psycopg[binary]" in image
    assert ".[service]" in image


def test_the_script_for_slurm_can_be_read_by_bash() -> None:
    subprocess.run(["bash", "-n", str(ROOT / "workers" / "slurm.sh")], check=True)


def test_every_file_is_told_of_and_every_migration() -> None:
    told = (ROOT / "workers" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{file.name}`" in told for file in (ROOT / "workers").iterdir() if file.name != "README.md")
    versions = sorted(file.name[:4] for file in (ROOT / "storage" / "migrations" / "versions").glob("0*.py"))
    of_storage = (ROOT / "storage" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (\d{4}) \|", of_storage, re.MULTILINE) == versions
    assert f'rev_id="{int(versions[-1]) + 1:04d}"' in of_storage
