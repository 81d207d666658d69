"""Find anomalies with TS2Vec's embeddings; where there are labels, say whether that beats simple detectors.

    python -m mmssl.recipes.timeseries_anomaly                 # a recording that aeon carries, some minutes
    python -m mmssl.recipes.timeseries_anomaly data.path=pump.csv data.time=t           # no labels: what stands out
    python -m mmssl.recipes.timeseries_anomaly data.path=pump.csv data.time=t data.label=fault
    python -m mmssl.recipes.timeseries_anomaly --config-dir recipes/timeseries_anomaly --config-name nab data.root=x

TS2Vec is pretrained on the early part of every recording, which also sets the thresholds; labels are only looked at to
score the late part. Measured results stand in recipes/timeseries_anomaly/README.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lightning_fabric import Fabric

from mmssl.core.health import Diagnosis
from mmssl.eval.records import to_json
from mmssl.eval.report import Report, Section, write_report
from mmssl.eval.table import as_text
from mmssl.recipes import session
from mmssl.recipes.anomaly_report import SUBJECTS, anomaly_records, anomaly_sections, anomaly_tables, anomaly_verdict
from mmssl.recipes.command import command_line
from mmssl.recipes.detectors import DETECTORS, METHOD, AnomalyDataConfig, AnomalyTask, Detectors, load_recordings
from mmssl.recipes.scores import UNTRAINED
from mmssl.recipes.timeline import EncoderConfig, TS2VecConfig, pretrain_early, settle_training, taken_from
from mmssl.recipes.training import HealthConfig, TrainConfig
from mmssl.timeseries.embedder import SeriesEmbedder
from mmssl.train.export import save_embedder, versions
from mmssl.train.fit import setup_fabric
from mmssl.train.run import Run, read_metrics

RECIPE = "timeseries_anomaly"
DEFAULT_DATA = "KDD-TSAD_135"


@dataclass
class AnomalyEvaluateConfig:
    """What looks for anomalies, and from when on it is an alarm."""

    detectors: list[str] = field(default_factory=lambda: list(DETECTORS))  # the first one decides
    threshold: str = "evt"  # extreme values of the training part, quantile, or sigma (mean + 4 standard deviations)
    rate: float = 0.001  # false alarms a row that the threshold aims at
    delay: int = 7  # rows within which the delay-adjusted F1 wants an alarm; the paper's for hourly data is 3
    shown: int = 5  # episodes in the report
    width: int = 20  # rows that count as one episode


@dataclass
class Config:
    """All of the recipe's settings."""

    context: int = 201  # rows that an embedding sees, the present one included
    run: str | None = None  # take the encoder of this run instead of pretraining one
    data: AnomalyDataConfig = field(default_factory=AnomalyDataConfig)
    evaluate: AnomalyEvaluateConfig = field(default_factory=AnomalyEvaluateConfig)
    model: EncoderConfig = field(default_factory=EncoderConfig)
    method: TS2VecConfig = field(default_factory=TS2VecConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    root: str = "runs"  # folder of all runs
    resume: str | None = None  # a run folder to go on with


def main(cfg: Config) -> Path:
    """Pretrain on the early part, look for anomalies in the late one, report; returns the run folder."""
    fabric = setup_fabric(device=cfg.train.device, precision=cfg.train.precision)  # type: ignore[arg-type]
    cfg = session.configuration(cfg)
    if cfg.data.name is None and cfg.data.root is None and cfg.data.path is None:
        cfg = replace(cfg, data=replace(cfg.data, name=DEFAULT_DATA))
    task = load_recordings(cfg.data, context=cfg.context, how=cfg.evaluate.threshold, rate=cfg.evaluate.rate)
    cfg = settle_training(cfg, task.early)
    detectors = Detectors(
        task,
        names=cfg.evaluate.detectors,
        context=cfg.context,
        how=cfg.evaluate.threshold,
        rate=cfg.evaluate.rate,
        fabric=fabric,
    )
    given = taken_from(cfg.run, task.raw, device=str(fabric.device), seed=cfg.train.seed) if cfg.run else None
    run = session.open_run(cfg, recipe=RECIPE, fabric=fabric)
    with session.resume_hint(run, RECIPE, show=fabric.global_rank == 0):
        detect(cfg, task, detectors, given, run, fabric)
    return run.path


def detect(
    cfg: Config,
    task: AnomalyTask,
    detectors: Detectors,
    given: tuple[SeriesEmbedder, SeriesEmbedder] | None,
    run: Run,
    fabric: Fabric,
) -> None:
    """All seeds, or the encoders that are ``given``, into ``run``, then the report."""
    main_rank = fabric.global_rank == 0
    if main_rank:
        print(f"{task.name}\n{task.description}\nrun: {run.path}", flush=True)
        detectors.controls()
    assert cfg.train.seeds is not None
    seeds = 1 if given else cfg.train.seeds
    diagnoses = []
    first: SeriesEmbedder | None = None
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
        detectors.embedder(UNTRAINED, seed, untrained)
        features = detectors.embedder(METHOD, seed, trained)
        if first is None:
            first, first_features = trained, features
            save_embedder(run.path, trained)
    if main_rank:
        assert first is not None
        _write(cfg, task, detectors, diagnoses, anomaly_sections(cfg, task, detectors, first, first_features), run)
    fabric.barrier()


def _write(
    cfg: Config,
    task: AnomalyTask,
    detectors: Detectors,
    diagnoses: list[Diagnosis],
    sections: Sequence[Section],
    run: Run,
) -> None:
    """results.json, report.html, and the same in the terminal."""
    answer = anomaly_verdict(task, detectors)
    health = list(dict.fromkeys(finding for diagnosis in diagnoses for finding in diagnosis.findings))
    for table in anomaly_tables(task, detectors, delay=cfg.evaluate.delay):
        print("\n" + as_text(table))
    print("\n" + "\n".join([answer.headline, *answer.details, *health]))
    notes = list(task.notes)
    if cfg.run:
        notes.append(f"The encoder is that of {cfg.run}; whether it has seen the test part, only you know.")
    report = Report(
        title=f"Anomalies in {task.name}, by TS2Vec",
        dataset=task.description,
        verdict=answer,
        subjects=SUBJECTS,
        curves=read_metrics(run.metrics) if run.metrics.exists() else (),
        health=health,
        results=sections,
        config_yaml=session.config_yaml(cfg),
        command=session.command(cfg, RECIPE),
        versions=versions(),
        notes=notes,
    )
    write_report(run.report, report)
    run.results.write_text(to_json(anomaly_records(task, detectors, delay=cfg.evaluate.delay)))  # last: it is done
    print(f"\nreport:  {run.report}")
    print(f"encoder: mmssl.load({str(run.path)!r})")


if __name__ == "__main__":
    command_line(main, Config, prog=f"python -m mmssl.recipes.{RECIPE}")
