"""Every logger writes what was solved to where its users look, read back here by the reader of that place."""

import csv
import sys
from contextvars import copy_context
from functools import partial
from threading import Thread

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchdiffeq")

from torchdiffeq import odeint, odeint_adjoint

import solvertap as tap
from solvertap import adapting
from solvertap.loggers.csv import CsvLog
from tests.faults import fault
from tests.running import run, script


class Field(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rate = torch.nn.Parameter(torch.tensor(3.0))

    def forward(self, t, y):
        return torch.sin(self.rate * t) - y


def _solve(field=None, solver=odeint):
    return solver(field or Field(), torch.ones(2), torch.tensor([0.0, 1.0]), rtol=1e-4, atol=1e-4)[-1].sum()


def test_csv_has_a_line_for_each_solve_as_soon_as_it_has_ended(tmp_path):
    path = tmp_path / "solves.csv"
    with CsvLog(path), tap.observe() as seen:
        loss = _solve(solver=odeint_adjoint)
        assert len(path.read_text().splitlines()) == 2
        loss.backward()
        _solve()
    with path.open() as file:
        forward, *adjoints, last = csv.DictReader(file)
    assert [row["phase"] for row in (forward, *adjoints, last)] == ["forward", "adjoint", "forward"]
    assert [row["solve"] for row in (forward, *adjoints, last)] == ["0", "1", "1"]
    assert int(forward["evaluations"]) + int(last["evaluations"]) == seen.stats.evaluations
    _solve()
    assert len(path.read_text().splitlines()) == 4  # it has ended


@fault("the disk fills up while a `CsvLog` writes", "one warning says so; the solves and the end of the block go on")
def test_csv_on_a_disk_that_fills_up_is_one_warning(tmp_path):
    text = (
        "import resource\nfrom solvertap.loggers.csv import CsvLog\n"
        "with CsvLog('solves.csv'), tap.observe() as seen:\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "    for _ in range(20):\n        solve()\nprint(seen.stats.solves)"
    )
    done = run(tmp_path, sys.executable, script(tmp_path, text))
    assert (done.returncode, done.stdout) == (0, "20\n"), done.stderr
    assert done.stderr.count("File too large") == 1


@pytest.mark.slow
def test_csv_of_a_compiled_and_mapped_solve_has_numbers(tmp_path):
    jax = pytest.importorskip("jax")
    diffrax = pytest.importorskip("diffrax")

    @jax.jit
    def solve(y0):
        with tap.observe():
            controller = diffrax.PIDController(rtol=1e-4, atol=1e-4)
            term = diffrax.ODETerm(lambda t, y, args: -y * y)
            solution = diffrax.diffeqsolve(term, diffrax.Tsit5(), 0.0, 1.0, None, y0, stepsize_controller=controller)
        return solution.stats["num_accepted_steps"]

    path = tmp_path / "solves.csv"
    with CsvLog(path):
        accepted = [int(solve(1.0)), int(solve(9.0)), *map(int, jax.vmap(solve)(jax.numpy.asarray([1.0, 9.0])))]
        jax.effects_barrier()
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(int(row["accepted"]) for row in rows) == sorted(accepted)
    assert {row["adapter"] for row in rows} == {"diffrax"}


def test_tensorboard_has_a_scalar_for_each_count(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    from solvertap.loggers.tensorboard import TensorBoardLog

    with SummaryWriter(tmp_path) as writer, TensorBoardLog(writer), tap.observe() as seen:
        _solve()
        _solve()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    points = events.Scalars("solvertap/forward/evaluations")
    assert [point.step for point in points] == [0, 1]
    assert sum(point.value for point in points) == seen.stats.evaluations


def _train_with_a_budget(field):
    """Two solves of a loop, and the state of the budget after them."""
    budget = tap.budget(steps=1)
    state = budget.init()
    for _ in range(2):
        with tap.observe(budget.at(state)) as seen:
            loss = _solve(field)
        state = budget.update(state, seen, loss, field.parameters())
        (loss + seen.penalty).backward()
    return state


def test_tensorboard_has_what_a_budget_has_found(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    from solvertap.loggers.tensorboard import TensorBoardLog

    with SummaryWriter(tmp_path) as writer, TensorBoardLog(writer):
        state = _train_with_a_budget(Field())
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    for name in ("weight", "ratio", "level"):
        points = events.Scalars(f"solvertap/budget/{name}")
        assert [point.step for point in points] == [1, 2]
        assert points[-1].value == pytest.approx(float(getattr(state, name)), rel=1e-6)
    assert points[-1].value > 1


@pytest.mark.slow
def test_wandb_gets_the_counts_with_the_next_step_of_the_training(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    from solvertap.loggers.wandb import WandbLog

    monkeypatch.setenv("WANDB_SILENT", "true")
    run = wandb.init(mode="offline", dir=tmp_path, project="solvertap")
    with WandbLog(run), tap.observe() as seen:
        _solve()
        run.log({"loss": 1.0})
        assert run.summary["solvertap/forward/evaluations"] == seen.stats.evaluations
        state = _train_with_a_budget(Field())
        run.log({"loss": 2.0})
    assert run.summary["solvertap/budget/weight"] == float(state.weight) > 0
    assert run.summary["loss"] == 2.0
    assert run.summary["_step"] == 1
    run.finish()


@pytest.mark.slow
def test_mlflow_has_a_metric_for_each_count(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    from solvertap.loggers.mlflow import MlflowLog

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # mlflow-skinny has no other
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow.set_tracking_uri((tmp_path / "store").as_uri())
    experiment = mlflow.create_experiment("solves")
    with mlflow.start_run(experiment_id=experiment) as run, MlflowLog(run), tap.observe() as seen:
        _solve()
        thread = Thread(target=partial(copy_context().run, _solve))  # which has no active run
        thread.start()
        thread.join()
        state = _train_with_a_budget(Field())

    def history(name):
        return mlflow.MlflowClient().get_metric_history(run.info.run_id, f"solvertap/{name}")

    points = history("forward/evaluations")
    assert [point.step for point in points] == [0, 1, 2, 3]
    assert sum(point.value for point in points) == seen.stats.evaluations
    assert history("budget/weight")[-1].value == pytest.approx(float(state.weight))


@pytest.mark.slow
def test_aim_has_a_metric_for_each_count(tmp_path):
    aim = pytest.importorskip("aim", reason="Aim, of the extra `aim`, is not installed")
    from aim.storage.context import Context

    from solvertap.loggers.aim import AimLog

    run = aim.Run(repo=str(tmp_path), system_tracking_interval=None, log_system_params=False)
    with AimLog(run), tap.observe() as seen:
        _solve()
        _solve()
        state = _train_with_a_budget(Field())

    def history(name):
        steps, (values, *_) = run.get_metric(f"solvertap/{name}", Context({})).data.items_list()
        return steps, values

    steps, values = history("forward/evaluations")
    assert steps == [0, 1, 2, 3]
    assert sum(values) == seen.stats.evaluations
    assert history("budget/weight")[1][-1] == pytest.approx(float(state.weight))
    run.close()


def test_bar_shows_the_last_solve():
    tqdm = pytest.importorskip("tqdm")
    from io import StringIO

    from solvertap.loggers.progress import Postfix

    shown = StringIO()
    with tqdm.tqdm(total=1, file=shown) as bar, Postfix(bar), tap.observe() as seen:
        _solve()
        bar.update()
        bar.refresh()
    assert f"evaluations={seen.stats.evaluations}, rejected={seen.stats.rejected}" in shown.getvalue()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lightning_logs_the_solves_of_a_batch_and_adds_the_penalty(tmp_path):
    lightning = pytest.importorskip("lightning")
    from solvertap.loggers.lightning import SolveCallback

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.field = Field()

        def training_step(self, batch):
            return _solve(self.field) + _solve(self.field)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

    def trained(*callbacks):
        model = Model()
        trainer = lightning.Trainer(
            max_epochs=1,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            accelerator="cpu",
        )
        trainer.fit(model, torch.utils.data.DataLoader(torch.zeros(2, 1)))
        return model.field.rate.item(), trainer.callback_metrics

    plain, _ = trained()
    counted, metrics = trained(SolveCallback())
    regularized, _ = trained(SolveCallback("100*local_error"))
    assert counted == plain
    assert regularized != plain
    with tap.observe() as seen:
        _solve()
    assert float(metrics["solvertap/forward/accepted"]) == pytest.approx(seen.stats.accepted, abs=1)
    assert "solvertap/budget/weight" not in metrics
    found, metrics = trained(SolveCallback(tap.budget(steps=1)))
    assert found != plain
    assert float(metrics["solvertap/budget/weight"]) > 0
    assert float(metrics["solvertap/budget/level"]) > 1
    assert adapting.regularizing() is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_hugging_face_logs_the_solves_beside_the_loss_and_adds_the_penalty(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from solvertap.loggers.huggingface import SolveCallback

    class Model(torch.nn.Module):
        def __init__(self, fails=False):
            super().__init__()
            self.field, self.fails = Field(), fails

        def forward(self, x):
            if self.fails:
                raise FloatingPointError
            return {"loss": _solve(self.field) + _solve(self.field)}

    settings = transformers.TrainingArguments(
        tmp_path, max_steps=2, logging_steps=1, per_device_train_batch_size=1, report_to=[], use_cpu=True
    )

    def trained(*callbacks, fails=False):
        model = Model(fails)
        data = [{"x": torch.zeros(1)} for _ in range(2)]
        trainer = transformers.Trainer(model, settings, train_dataset=data, callbacks=list(callbacks))
        trainer.train()
        return model.field.rate.item(), trainer.state.log_history

    plain, _ = trained()
    counted, history = trained(SolveCallback())
    assert counted == plain
    steps = [logs for logs in history if "loss" in logs]
    with tap.observe() as seen:
        _solve()
    assert len(steps) == 2
    for logs in steps:
        assert logs["solvertap/forward/accepted"] == pytest.approx(seen.stats.accepted, abs=1)
    assert "solvertap/forward/accepted" not in history[-1]  # of the whole training
    regularized, _ = trained(SolveCallback("100*local_error"))
    assert regularized != plain
    assert adapting.regularizing() is None

    # Of a training that raises it is not told.
    callback = SolveCallback()
    with pytest.raises(FloatingPointError):
        trained(callback, fails=True)
    assert adapting.regularizing() is not None
    trained(callback)
    assert adapting.regularizing() is None
    with pytest.raises(FloatingPointError):
        trained(callback, fails=True)
    callback.close()
    assert adapting.regularizing() is None


@pytest.mark.slow  # imports lightning
@pytest.mark.filterwarnings("ignore")
def test_lightning_callback_begins_whole_or_not_at_all(monkeypatch):
    pytest.importorskip("lightning")
    from solvertap.loggers.lightning import SolveCallback

    def interrupted(log):
        raise KeyboardInterrupt

    callback = SolveCallback("local_error")
    monkeypatch.setattr(type(callback._log), "__enter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        callback.on_fit_start(None, None)
    assert adapting.regularizing() is None
