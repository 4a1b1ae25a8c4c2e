"""`cuma chat | serve | export | resolve` as commands, over an adapter's folder alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.client import HTTPConnection
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from cuma.answering.adapter_files import save_adapter
from cuma.cli import EXIT_ERROR, app
from helpers.served import encoder, tokenizer
from helpers.tiny import adapted, llama

SHORT = ["--temperature", "0", "--max-tokens", "4"]


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter whose router looks at the person alone, over a base in a folder."""
    folder = tmp_path_factory.mktemp("adapter")
    base = llama(vocab_size=len(tokenizer()), pad_token_id=None, bos_token_id=None)
    base.save_pretrained(folder / "base")
    tokenizer().save_pretrained(folder / "base")
    options = {"profile_dim": encoder().dim, "profile_encoder": dict(encoder().spec), "router_input": "profile"}
    made = adapted(base, **options)
    made.peft_config["default"].base_model_name_or_path = str(folder / "base")
    save_adapter(made, folder / "mine")
    return folder / "mine"


def test_chat_reads_lines_and_ends_with_them(adapter: Path) -> None:
    typed = "Hello?\n/profile country=Japan\nHello?\n"
    done = CliRunner().invoke(app, ["chat", str(adapter), "--profile", "country=Peru", *SHORT], input=typed)
    assert done.exit_code == 0, done.output
    assert "A person living in Japan" in done.stdout
    assert done.stdout.count("experts") == 2


def test_serve_says_where_and_stops_on_ctrl_c(adapter: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "cuma", "serve", f"mine={adapter}", "--port", "0"]
    environment = os.environ | {"CUMA_API_KEY": "a-key-of-the-test-suite"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("Serving mine at http://127.0.0.1:")
            url = line.split()[3]
            assert httpx2.get(f"{url}/health").json()["status"] == "ok"
            assert httpx2.get(f"{url}/v1/models").status_code == 401
            keyed = {"Authorization": "Bearer a-key-of-the-test-suite"}
            assert httpx2.get(f"{url}/v1/models", headers=keyed).json()["data"][0]["id"] == "mine"
            assert _is_kept_open(url, 6), "clients close an idle connection after 5 seconds: the server must not then"
        finally:
            server.send_signal(signal.SIGINT)
        _, errors = server.communicate(timeout=30)
    assert server.returncode in (0, 130)
    assert "GET /v1/models 401" in errors
    assert "Traceback" not in errors


def _is_kept_open(url: str, seconds: float) -> bool:
    """Whether a connection that was idle for so long still answers."""
    connection = HTTPConnection(url.removeprefix("http://"), timeout=30)
    connection.connect()
    socket = connection.sock
    for pause in (0.0, seconds):
        time.sleep(pause)
        connection.request("GET", "/health")
        connection.getresponse().read()
    return connection.sock is socket


def test_serve_refuses_an_open_address_and_two_of_a_name(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUMA_API_KEY", raising=False)
    done = CliRunner().invoke(app, ["serve", str(adapter), "--host", "0.0.0.0"])
    assert (done.exit_code, "API key is required" in done.stderr) == (EXIT_ERROR, True)
    done = CliRunner().invoke(app, ["serve", str(adapter), str(adapter), "--port", "0"])
    assert (done.exit_code, "Give them names" in done.stderr) == (EXIT_ERROR, True)


def test_export_and_resolve(adapter: Path, tmp_path: Path) -> None:
    words = ["export", str(adapter), "--output"]
    done = CliRunner().invoke(app, [*words, str(tmp_path / "one"), "--profile", "country=Peru"])
    assert "Exact" in done.stdout, done.output
    assert json.loads((tmp_path / "one" / "adapter_config.json").read_text())["peft_type"] == "LORA"
    again = CliRunner().invoke(app, [*words, str(tmp_path / "one"), "--profile", "country=Peru"])
    assert (again.exit_code, "not an empty folder" in again.stderr) == (EXIT_ERROR, True)
    (tmp_path / "people.csv").write_text("country,age\nPeru,30\nJapan,60\n", encoding="utf-8")
    done = CliRunner().invoke(app, [*words, str(tmp_path / "many"), "--profiles", str(tmp_path / "people.csv")])
    assert "2 people" in done.stdout, done.output
    found = CliRunner().invoke(app, ["resolve", str(tmp_path / "many"), "--profile", "country=Peru age=31"])
    folder, distance = found.stdout.split("\t")
    assert (Path(folder) / "adapter_model.safetensors").is_file()
    assert 0 < float(distance) < 0.5
