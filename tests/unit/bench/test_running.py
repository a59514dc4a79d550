"""Turns as processes: what they say, what they hold, and what becomes of those that fail."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench import running
from bench.checkpoint import Checkpoint
from bench.contenders import Environment
from bench.environments import Installed, NotInstalledError, installed, is_ready, last_line
from bench.machine import busy, load
from bench.measures import Measure, Pair, against
from bench.processes import Ended, Watch, memory_of, run
from bench.running import Bench, answer_in, said
from bench.worker import Setting, Steps, median, serve, timed

MEASURE = Measure(name="m", title="", task="step", pairs=against("sfumato", "diffusers", "openvino"), rounds=2, size=64)


def ended(output: str = "", errors: str = "", code: int = 0) -> Ended:
    return Ended(code=code, seconds=1.0, rss=100.0, anonymous=50.0, output=output, errors=errors)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, Ended]], tuple[Bench, list[str]]]:
    """A bench whose contenders say what they are told to, by player, and the players in order."""

    def made(answers: Mapping[str, Ended], **options: Any) -> tuple[Bench, list[str]]:
        played: list[str] = []

        def fake(command: Sequence[str], **_: object) -> Ended:
            player = command[2].removeprefix("bench.peers.")
            task = json.loads(command[3])["task"]
            played.append(player if task == "step" else f"{player} {task}")
            return answers[player]

        monkeypatch.setattr(running, "run", fake)
        monkeypatch.setattr(running, "load", lambda: 0.0)
        monkeypatch.setattr(running, "checkpoint", lambda cache: Checkpoint(cache / "file", cache / "folder"))
        monkeypatch.setattr(running, "installed", lambda *_, **__: Installed("python", {"python": "3"}))
        return Bench(cache=tmp_path, threads=1, say=lambda _: None, **options), played

    return made


STEP = ended('{"seconds": 2.0}')


def test_a_measure_takes_its_turns_and_keeps_what_was_said(bench: Any) -> None:
    one, played = bench({"sfumato": STEP, "diffusers": STEP, "openvino": STEP})
    entry = one.measured(MEASURE)
    assert played == [
        "openvino convert", "sfumato", "diffusers", "sfumato", "openvino",
        "diffusers", "sfumato", "openvino", "sfumato",
    ]  # fmt: skip
    assert entry.runs[0].figures == {"seconds": 2.0, "wall": 1.0, "rss": 100.0, "anonymous": 50.0}
    one.measured(MEASURE)
    assert played.count("openvino convert") == 1
    assert (entry.missing, entry.setting["size"], entry.setting["threads"]) == ({}, 64, 1)


def test_everyone_is_made_ready_without_a_turn(bench: Any) -> None:
    one, played = bench({"openvino": STEP}, without=frozenset({"diffusers"}))
    assert one.prepared(MEASURE) == {"diffusers": "it was left out"}
    assert played == ["openvino convert"]


def test_one_that_fails_is_missing_with_its_reason_and_is_not_run_again(bench: Any) -> None:
    one, played = bench(
        {"sfumato": STEP, "diffusers": ended(errors="Traceback\nMemoryError: no\n", code=1), "openvino": STEP}
    )
    entry = one.measured(MEASURE)
    assert entry.missing == {"diffusers": "it failed: MemoryError: no"}
    assert played.count("diffusers") == 1


def test_one_that_says_it_can_not_is_missing(bench: Any) -> None:
    one, played = bench(
        {"sfumato": STEP, "diffusers": ended('{"absent": "no task"}'), "openvino": STEP},
        without=frozenset({"openvino"}),
    )
    entry = one.measured(MEASURE)
    assert entry.missing == {"diffusers": "no task", "openvino": "it was left out"}
    assert played == ["sfumato", "diffusers", "sfumato"]


def test_one_that_can_not_be_prepared_is_missing(bench: Any) -> None:
    one, _ = bench({"sfumato": STEP, "diffusers": STEP, "openvino": ended(errors="killed", code=-9)})
    assert one.measured(MEASURE).missing == {"openvino": "convert: it failed: killed"}


def test_a_missing_environment_is_no_error(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = bench({"sfumato": STEP})

    def none(environment: Environment, *_: object, **__: object) -> Installed:
        if environment.installs:
            raise NotInstalledError("no network")
        return Installed("python", {})

    monkeypatch.setattr(running, "installed", none)
    entry = one.measured(MEASURE)
    assert entry.missing == {"diffusers": "no network", "openvino": "no network"}
    assert [run.contender for run in entry.runs] == ["sfumato", "sfumato"]


def test_a_command_that_is_refused_is_not_measured(tmp_path: Path, bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = bench({})
    commands: list[Sequence[str]] = []

    def fake(command: Sequence[str], **_: object) -> Ended:
        commands.append(command)
        return ended(errors="No such option: --memory\n", code=2)

    monkeypatch.setattr(running, "run", fake)
    entry = one.measured(
        Measure(name="m", title="", command=("-m", "x", "{file}", "--out", "{out}"), pairs=(Pair("sfumato"),))
    )
    assert entry.missing == {"sfumato": "No such option: --memory"}
    assert commands[0][:4] == ["python", "-m", "x", str(tmp_path / "file")]
    assert list(tmp_path.iterdir()) == []


def test_answers_are_found_among_what_libraries_print() -> None:
    assert answer_in('loading\n{"seconds": 1}\nbye\n') == {"seconds": 1}
    assert answer_in("nothing") is None
    with pytest.raises(running.AbsentError, match="without an answer: boom"):
        said(ended("text", "boom"))


def test_environments_are_not_made_where_that_is_not_allowed(tmp_path: Path) -> None:
    with pytest.raises(NotInstalledError, match="not installed"):
        installed(Environment(name="x", installs=(("y",),), told=()), tmp_path, install=False)
    assert installed(Environment(name="own", told=("pytest",)), tmp_path).versions["pytest"] == pytest.__version__
    made = Environment(name="z", installs=(("y",),), told=())
    (tmp_path / "peers" / "z").mkdir(parents=True)
    (tmp_path / "peers" / "z" / "ready.json").write_text('[["y"]]')
    assert is_ready(made, tmp_path)
    assert not is_ready(Environment(name="z", installs=(("y", "x"),), told=()), tmp_path)
    assert last_line("a\n\n b \n\n") == "b"


def test_a_process_is_told_when_it_began(tmp_path: Path) -> None:
    one = run([sys.executable, "-c", "import os; print(os.environ['BENCH_STARTED'], os.getcwd())"], folder=tmp_path)
    started, folder = one.output.split()
    assert float(started) > 0
    assert (Path(folder), one.code) == (tmp_path.resolve(), 0)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_memory_of_a_process_is_seen() -> None:
    data = bytearray(64 << 20)
    watch = Watch(os.getpid())
    watch.stop()
    assert watch.rss is not None
    assert watch.anonymous is not None
    assert len(data) >> 20 < watch.anonymous <= watch.rss


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    one = run([sys.executable, "-c", "import signal; signal.pause()"], folder=tmp_path, limit=0.01)
    assert (one.code, one.errors.strip()) == (-9, "it was ended after 0 s")


def test_busy_cores_are_told_from_idle_ticks() -> None:
    assert busy((1000, 400), (1200, 450), 2) == 1.5
    assert busy((1000, 400), (1000, 400), 2) == 0.0
    assert load(0.0) >= 0.0


def test_memory_is_read_in_mebibytes() -> None:
    assert memory_of("Name:\tx\nVmHWM:\t  2048 kB\nRssAnon:\t1024 kB\nThreads:\t3\n") == {"VmHWM": 2.0, "RssAnon": 1.0}


def test_a_worker_answers_with_figures_or_with_why_there_are_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: Setting) -> dict[str, Any]:
        import no_such_module  # noqa: F401  # pyright: ignore

        return {}

    for task, answer in (
        ("twice", {"seconds": 2}),
        ("missing", {"absent": "No module named 'no_such_module'"}),
        ("other", {"absent": "it has no task 'other'"}),
    ):
        monkeypatch.setattr(sys, "argv", ["worker", json.dumps(Setting(task=task, size=1)._asdict())])
        serve({"twice": lambda setting: {"seconds": 2 * setting.size}, "missing": missing})
        assert answer_in(capsys.readouterr().out) == answer


def test_the_first_times_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 10.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    done: list[int] = []
    assert timed(lambda: done.append(1), Setting(task="", warm=2, repeats=2)) == {"seconds": 2.0, "each": [1.0, 3.0]}
    assert len(done) == 4


def test_steps_are_timed_between_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 101.0, 103.0, 109.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    steps = Steps(Setting(task="", warm=1, repeats=3))
    assert steps.count == 4
    for _ in range(steps.count):
        steps.mark()
    assert steps.figures() == {"seconds": 2.0, "each": [1.0, 2.0, 6.0]}
    assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
