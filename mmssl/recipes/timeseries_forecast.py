"""Forecast your series from TS2Vec's embeddings, and say whether that beats simple forecasts.

    python -m mmssl.recipes.timeseries_forecast                # arterial pressure, about a minute on two cores
    python -m mmssl.recipes.timeseries_forecast data.path=plant.csv data.time=t horizons=[24,168]
    python -m mmssl.recipes.timeseries_forecast data.path=plant.csv data.time=t run=<run of TS2Vec>
    python -m mmssl.recipes.timeseries_forecast --config-dir recipes/timeseries_forecast --config-name etth1 data.path=x

TS2Vec is pretrained on the training part of time only. Measured results stand in recipes/timeseries_forecast/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lightning_fabric import Fabric

from mmssl.core.health import Diagnosis
from mmssl.eval.forecast_results import forecast_records, forecast_table, forecast_verdict, unit_table
from mmssl.eval.records import Subjects, to_json
from mmssl.eval.report import Report, Section, write_report
from mmssl.eval.table import as_html, as_text
from mmssl.recipes import session
from mmssl.recipes.command import command_line
from mmssl.recipes.forecasting import (
    LAST,
    LINEAR,
    METHOD,
    SEASONAL,
    ForecastDataConfig,
    Forecasts,
    ForecastTask,
    load_task,
    subject_names,
)
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.timeline import (
    EncoderConfig,
    TS2VecConfig,
    causal_features,
    pretrain_early,
    settle_training,
    shown_to,
    taken_from,
)
from mmssl.recipes.training import HealthConfig, TrainConfig
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.train.export import save_embedder, versions
from mmssl.train.fit import setup_fabric
from mmssl.train.run import Run, read_metrics

RECIPE = "timeseries_forecast"
MAX_TABLED = 12  # channels in the table of errors in units


@dataclass
class Config:
    """All of the recipe's settings."""

    horizons: list[int] = field(default_factory=lambda: [24, 168])  # rows ahead
    context: int = 201  # rows that a forecast looks back at, the present one included
    season: int | None = None  # rows, for the seasonal control; None: looked for in the training part
    run: str | None = None  # take the encoder of this run instead of pretraining one
    data: ForecastDataConfig = field(default_factory=ForecastDataConfig)
    model: EncoderConfig = field(default_factory=EncoderConfig)
    method: TS2VecConfig = field(default_factory=TS2VecConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


def main(cfg: Config) -> Path:
    """Pretrain on the early part, forecast the late one, report; returns the run folder."""
    fabric = setup_fabric(device=cfg.train.device, precision=cfg.train.precision)  # type: ignore[arg-type]
    cfg = session.configuration(cfg)
    task = load_task(cfg.data, horizons=cfg.horizons, context=cfg.context, season=cfg.season)
    cfg = settle_training(cfg, task.early)
    given = taken_from(cfg.run, task.series, device=str(fabric.device), seed=cfg.train.seed) if cfg.run else None
    run = session.open_run(cfg, recipe=RECIPE, fabric=fabric)
    with session.resume_hint(run, RECIPE, show=fabric.global_rank == 0):
        forecast(cfg, task, given, run, fabric)
    return run.path


def forecast(
    cfg: Config, task: ForecastTask, given: tuple[SeriesEmbedder, SeriesEmbedder] | None, run: Run, fabric: Fabric
) -> None:
    """All seeds, or the encoders that are ``given``, into ``run``, then the report."""
    main_rank = fabric.global_rank == 0
    forecasts = Forecasts(task, horizons=cfg.horizons, context=cfg.context)
    if main_rank:
        print(f"{task.name}\n{task.description}\nrun: {run.path}", flush=True)
        forecasts.controls()
    assert cfg.train.seeds is not None
    seeds = 1 if given else cfg.train.seeds
    diagnoses = []
    for seed in range(cfg.train.seed, cfg.train.seed + seeds):
        if given:
            untrained, trained = given
        else:
            untrained, trained, diagnosis = pretrain_early(
                cfg.model, cfg.method, cfg.train, cfg.health, task.early,
                context=cfg.context, seed=seed, run=run, fabric=fabric,
            )  # fmt: skip
            diagnoses.append(diagnosis)
        if not main_rank:
            continue
        series = shown_to(trained, task.series)
        for subject, embedder in ((UNTRAINED, untrained), (METHOD, trained)):
            forecasts.features(subject, seed, causal_features(embedder, series, context=cfg.context))
        if seed == cfg.train.seed:
            save_embedder(run.path, trained)
    if main_rank:
        _write(cfg, task, forecasts, diagnoses, run)
    fabric.barrier()


def _write(cfg: Config, task: ForecastTask, forecasts: Forecasts, diagnoses: list[Diagnosis], run: Run) -> None:
    """results.json, report.html, and the same in the terminal."""
    names = subject_names(task, cfg.context)
    controls = tuple(c for c in (LINEAR, SEASONAL, LAST) if any(r.subject == c for r in forecasts.results))
    subjects = Subjects(METHOD, UNTRAINED, controls, names)
    answer = forecast_verdict(forecasts.results, subjects, season=task.season)
    table = forecast_table(forecasts.results, subjects)
    units = unit_table(forecasts.results, subjects, task.channels[:MAX_TABLED], task.std)
    health = list(dict.fromkeys(finding for diagnosis in diagnoses for finding in diagnosis.findings))
    print("\n" + as_text(table))
    print("\n" + "\n".join([answer.headline, *answer.details, *health]))
    notes = list(task.notes)
    if cfg.run:
        notes.append(f"The encoder is that of {cfg.run}; whether it has seen the test part, only you know.")
    report = Report(
        title=f"{names[METHOD]} forecasts of {task.name}",
        dataset=task.description,
        verdict=answer,
        subjects=subjects,
        curves=read_metrics(run.metrics) if run.metrics.exists() else (),
        health=health,
        results=(
            Section("Errors against the controls", as_html(table) + as_html(units)),
            Section(
                "Forecasts",
                forecasts.pictures(names),
                "Made at rows of the test part that are spread evenly over it, not chosen by their errors.",
            ),
        ),
        config_yaml=session.config_yaml(cfg),
        command=session.command(cfg, RECIPE),
        versions=versions(),
        notes=notes,
    )
    write_report(run.report, report)
    records = forecast_records(
        forecasts.results, dataset=task.name, split=task.split, channels=task.channels, std=task.std
    )
    run.results.write_text(to_json(records))  # last: a run with results is done
    print(f"\nreport:  {run.report}")
    print(f"encoder: mmssl.load({str(run.path)!r})")


if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE}")
