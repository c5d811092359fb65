from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from ranvier.cli.app import app
from ranvier.runtime.cores import parse_cpu_list

pytestmark = pytest.mark.needs("torch", "llvmlite")

MODELS = Path(__file__).with_name("tiny_models.py")
HASH = 64


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def document(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "classifier.rvr"
    result = run("compile", f"{MODELS}:classifier", "-o", path, "--target", "x86-64-v3")
    assert result.exit_code == 0, result.output
    assert "kernel calls after fusion" in result.stdout
    assert f"wrote {path}" in result.stdout
    return path


def test_compile_takes_several_targets_and_writes_the_stages(tmp_path: Path) -> None:
    found = document(
        "compile", f"{MODELS}:fixed", "-o", tmp_path / "m.rvr", "--target", "x86-64-v3,x86-64-v4",
        "--target", "x86-64-v3", "--precision", "bf16", "--name", "both",
        "--workdir", tmp_path / "work",
    )  # fmt: skip
    assert found["bytes"] == (tmp_path / "m.rvr").stat().st_size
    assert found["report"]["model"] == "both"
    assert found["report"]["native_percent"] == 100
    names = {path.name for path in (tmp_path / "work").iterdir()}
    assert names == {
        "graph.txt", "optimized.txt", "llvm.x86-64-v3.ll", "llvm.x86-64-v4.ll", "report.json"
    }  # fmt: skip
    shown = document("inspect", tmp_path / "m.rvr")
    assert [program["target"] for program in shown["programs"]] == ["x86-64-v3", "x86-64-v4"]


def test_compile_without_winograd(tmp_path: Path) -> None:
    source = tmp_path / "model.py"
    source.write_text(
        "import torch\n\ndef build():\n"
        "    return torch.nn.Conv2d(32, 32, 3, padding=1), (torch.zeros(1, 32, 24, 24),)\n"
    )
    arguments = ("compile", f"{source}:build", "-o", tmp_path / "m.rvr", "--target", "x86-64-v3")
    told = run(*arguments)
    assert "1 convolutions multiply less and round differently" in told.stdout
    counts = [
        document(*arguments, *more)["report"]["kernel_counts"] for more in ((), ("--no-winograd",))
    ]
    assert [(c.get("winograd"), c.get("contraction")) for c in counts] == [(1, None), (None, 1)]


def test_emit_prints_a_stage_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("compile", f"{MODELS}:fixed", "--emit", "graph", "--emit", "llvm.x86-64-v3",
                 "--target", "x86-64-v3")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith('graph "Classifier"')
    assert "@ranvier_run(" in result.stdout
    assert not list(tmp_path.iterdir())
    result = run("compile", f"{MODELS}:fixed", "--emit", "nothing")
    assert result.exit_code == 1
    assert "stages: graph, optimized, llvm." in result.stderr


def test_compile_tunes_with_the_example_inputs(tmp_path: Path) -> None:
    found = document("compile", f"{MODELS}:classifier", "-o", tmp_path / "m.rvr", "--tune")
    assert found["tuning"]["sizes"] == {"batch": 2}
    assert found["tuning"]["tuned_ms"] <= found["tuning"]["untuned_ms"]
    assert found["report"]["schedules"] == found["tuning"]["schedules"]
    result = run("compile", f"{MODELS}:fixed", "-o", tmp_path / "m.rvr", "--tune")
    assert "tuned" in result.stdout


def test_a_pt2_file_compiles_and_verifies_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tests.tiny_models import classifier

    module, args, kwargs, shapes = classifier()
    program = torch.export.export(module, args, kwargs, dynamic_shapes=shapes)
    torch.export.save(program, tmp_path / "saved.pt2")
    monkeypatch.chdir(tmp_path)
    assert run("compile", "saved.pt2").exit_code == 0
    found = document("verify", "saved.pt2", "saved.rvr", "--layers")
    assert found["passed"]
    assert found["cases"][0]["layers"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("nowhere.pt2", "neither a file nor FILE.py:FUNCTION"),
        ("nowhere.py:build", "nowhere.py is not a file"),
        ("no_such_module_here:build", "ModuleNotFoundError"),
        (f"{MODELS}:absent", "has no function 'absent'"),
        (f"{MODELS}:broken", "tiny_models.py:"),
        (f"{MODELS}:wrong", "expected (model, args)"),
        (f"{MODELS}:refused", "matrix_exp"),
        (f"{MODELS}", "no front end reads .py"),
    ],
)
def test_errors_are_messages_and_leave_no_file(model: str, message: str, tmp_path: Path) -> None:
    result = run("compile", model, "-o", tmp_path / "m.rvr")
    assert result.exit_code == 1
    assert result.stderr.startswith("ranvier: [RVR-E")
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


def test_unknown_targets_and_folders_are_errors(tmp_path: Path) -> None:
    result = run("compile", f"{MODELS}:fixed", "--target", "z80", "-o", tmp_path / "m.rvr")
    assert (result.exit_code, "RVR-E201" in result.stderr) == (1, True)
    result = run("compile", f"{MODELS}:fixed", "-o", tmp_path / "absent" / "m.rvr")
    assert (result.exit_code, "absent" in result.stderr) == (1, True)


def test_usage_errors_exit_with_2(artifact: Path) -> None:
    for arguments in (
        ("compile",),
        ("nothing",),
        ("inspect", artifact, "--set", "batch"),
        ("bench", artifact, "--batch", "one"),
        ("operators", "--frontend", "abacus"),
        ("run", artifact, "--input", "image"),
        ("run", artifact, "--input", "a=b.npy", "--random", "batch=1"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2, (arguments, result.output)


def test_an_interrupted_compile_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ranvier.artifact.writer.os.replace", interrupt)
    result = run("compile", f"{MODELS}:fixed", "-o", tmp_path / "m.rvr")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert not list(tmp_path.iterdir())


def test_run_reads_and_writes_arrays(artifact: Path, tmp_path: Path) -> None:
    image = np.random.default_rng(0).standard_normal((3, 3, 8, 8), np.float32)
    np.save(tmp_path / "image.npy", image)
    found = document("run", artifact, "--input", f"image={tmp_path / 'image.npy'}",
                     "--output-dir", tmp_path / "out", "--cores", "1")  # fmt: skip
    assert [tensor["shape"] for tensor in found["tensors"]] == [[3, 3, 8, 8], [3, 10], [3, 10]]
    probabilities = np.load(tmp_path / "out" / "probabilities.npy")
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    np.save(tmp_path / "narrow.npy", image[0])
    result = run("run", artifact, "--input", f"image={tmp_path / 'narrow.npy'}")
    assert (result.exit_code, "RVR-E401" in result.stderr) == (1, True)


def test_run_makes_up_inputs(artifact: Path) -> None:
    result = run("run", artifact, "--random", "batch=5")
    assert result.exit_code == 0, result.output
    assert "5×10" in result.stdout
    result = run("run", artifact, "--random", "batch=65")
    assert (result.exit_code, "batch (1 to 64)" in result.stderr) == (1, True)


def test_run_refuses_files_that_hold_no_array(artifact: Path, tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"no array")
    result = run("run", artifact, "--input", f"image={tmp_path / 'x.npy'}")
    assert (result.exit_code, "is not a .npy file" in result.stderr) == (1, True)


def test_analyze_names_what_is_missing() -> None:
    assert document("analyze", f"{MODELS}:classifier")["native_percent"] == 100
    found = document("analyze", f"{MODELS}:refused")
    assert found["native_percent"] < 100
    (missing,) = [use for use in found["operators"] if not use["native"]]
    assert "matrix_exp" in missing["operator"]
    assert "tiny_models.py:" in missing["sources"][0]


def test_operators_lists_each_front_end() -> None:
    assert "aten.conv2d.default" in document("operators")["torch"]
    assert "aten.conv2d.default" in run("operators", "--frontend", "torch").stdout


def test_inspect_shows_signature_memory_and_hashes(artifact: Path) -> None:
    found = document("inspect", artifact, "--set", "batch=4", "--cores", "1")
    assert found["inputs"] == ["image: f32[batch, 3, 8, 8]"]
    assert found["symbols"] == [{"name": "batch", "minimum": 1, "maximum": 64}]
    assert found["memory"]["sizes"] == {"batch": 4}
    assert found["memory"]["inputs"] == 4 * 3 * 8 * 8 * 4
    assert found["memory"]["temporaries"] > 0
    assert found["operators"]["conv"] == 1
    assert all(len(entry["sha256"]) == HASH for entry in found["entries"].values())
    text = run("inspect", artifact).stdout
    for part in ("image: f32[batch, 3, 8, 8]", "batch: 1 to 64", "llvmlite", "temporaries"):
        assert part in text
    assert 'graph "Classifier"' in run("inspect", artifact, "--graph").stdout
    assert "tiny_models.py" in run("inspect", artifact, "--steps").stdout
    assert run("inspect", artifact, "--target", "z80").exit_code == 1
    assert run("inspect", artifact, "--set", "width=4").exit_code == 1


def test_verify_passes_fails_and_names_the_first_layer(artifact: Path) -> None:
    model = f"{MODELS}:classifier"
    result = run("verify", model, artifact, "--set", "batch=1,5", "--layers")
    assert result.exit_code == 0, result.output
    assert "batch=5" in result.stdout
    assert result.stdout.rstrip().endswith("passed")
    result = run("verify", model, artifact, "--layers", "--tolerance", "0")
    assert result.exit_code == 1
    layers = ("relu", "mean")  # the first that rounds otherwise than PyTorch, which the CPU decides
    assert any(f"first layer beyond the tolerance: {name}" in result.stdout for name in layers)
    assert "FAILED" in result.stdout
    result = run("verify", f"{MODELS}:lookup", artifact)
    assert (result.exit_code, "RVR-E401" in result.stderr) == (1, True)


def test_bench_measures_every_batch(artifact: Path) -> None:
    found = document("bench", artifact, "--batch", "1,4", "--seconds", "0.05", "--cores", "1")
    assert [m["batch"] for m in found["measurements"]] == [1, 4]
    result = run("bench", artifact, "--batch", "1,2", "--seconds", "0.05")
    assert result.exit_code == 0, result.output
    assert "highest throughput" in result.stdout


def test_profile_writes_a_trace_and_a_page(artifact: Path, tmp_path: Path) -> None:
    trace, html = tmp_path / "trace.json", tmp_path / "profile.html"
    found = document("profile", artifact, "--set", "batch=2", "--sort", "execution",
                     "--repeat", "2", "--trace", trace, "--html", html)  # fmt: skip
    assert [step["index"] for step in found["steps"]] == list(range(len(found["steps"])))
    assert found["roofline"]["levels"][-1]["name"] == "memory"
    events = json.loads(trace.read_text())["traceEvents"]
    work = [event for event in events if event["ph"] == "X" and event["cat"] != "wait"]
    assert len(work) == len(found["steps"]) * found["cores"]
    assert all(event["dur"] >= 0 and event["ts"] >= 0 for event in work)
    assert "<!doctype html>" in html.read_text()
    assert len(document("profile", artifact, "--top", "1", "--repeat", "2")["steps"]) == 1


def test_profile_prints_a_table(artifact: Path) -> None:
    text = run("profile", artifact, "--repeat", "2").stdout
    for part in ("tiny_models.py", "GFLOP/s", "balance", "roofs: f32", "memory"):
        assert part in text
    lines = run("profile", artifact, "--repeat", "2", "--by", "source", "--top", "1").stdout
    assert lines.count("tiny_models.py") == 1
    assert "calls" in run("profile", artifact, "--repeat", "2", "--by", "operators").stdout


def test_ls_shows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    found = document("ls")
    assert found["cores"] <= len(found["cpus"])
    assert {target["name"] for target in found["targets"]} >= {"x86-64-v3", "x86-64-v4"}
    first = found["cpus"][0]
    monkeypatch.setenv("RANVIER_VISIBLE_CORES", str(first))
    text = run("ls").stdout
    assert f"1 of CPUs {first}" in text
    assert f"RANVIER_VISIBLE_CORES={first}" in text
    assert parse_cpu_list(str(first)) == (first,)


def test_deployment_needs_neither_torch_nor_llvmlite(artifact: Path, tmp_path: Path) -> None:
    """What a machine has that got `ranvier[cli]` only."""
    script = (
        "import sys\n"
        "for name in ('torch', 'llvmlite', 'onnx'): sys.modules[name] = None\n"
        "from ranvier.cli import main\n"
        "main()\n"
    )

    def deployed(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    for arguments in (
        ("run", artifact),
        ("inspect", artifact),
        ("bench", artifact, "--seconds", "0.01"),
        ("profile", artifact, "--repeat", "1", "--html", tmp_path / "profile.html"),
        ("ls",),
    ):
        result = deployed(*arguments)
        assert result.returncode == 0, result.stderr
    assert "peak unknown" in deployed("bench", artifact, "--seconds", "0.01").stdout
    result = deployed("compile", f"{MODELS}:fixed", "-o", tmp_path / "m.rvr")
    assert result.returncode == 1
    assert "pip install 'ranvier[compile]'" in result.stderr


def test_without_its_libraries_the_command_says_what_to_install() -> None:
    script = "import sys\nsys.modules['typer'] = None\nfrom ranvier.cli import main\nmain()\n"
    result = subprocess.run(
        [sys.executable, "-c", script, "ls"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert "the command line needs typer" in result.stderr
    assert "Traceback" not in result.stderr
