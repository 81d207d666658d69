"""The tables and the report show what results.json holds, and nothing else comes in."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from mmssl.eval.charts import budget_chart, dot_chart, line_chart
from mmssl.eval.evaluate import Evaluation
from mmssl.eval.interval import Interval
from mmssl.eval.projection import neighbours, project
from mmssl.eval.records import Record, Subjects, read_results, to_json
from mmssl.eval.report import Embedding, Report, Section, write_report
from mmssl.eval.table import as_text, tables
from mmssl.eval.verdict import verdict, without_labels

VOID = {"meta", "br", "img", "path", "use", "polyline", "rect"}


class Page(HTMLParser):
    """The tables and the text of a page; fails on tags that do not close."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1].append(data.replace("\xa0", " "))
        elif self.open and self.open[-1] == "style":
            assert "url(" not in data


@pytest.fixture
def report(evaluations: list[Evaluation], subjects: Subjects, classes: Callable) -> Report:
    x, y, *_ = classes()
    rng = np.random.default_rng(0)
    curves = [
        {
            "step": i,
            "loss": 3 - i / 50 + rng.random(),
            "collapse_loss": 4.1,
            "effective_rank": "",
            "spread": float("nan"),
        }
        for i in range(50)
    ]
    return Report(
        title="TS2Vec on demo",
        dataset="60 windows",
        verdict=verdict(evaluations, subjects),
        subjects=subjects,
        records=[r for e in evaluations for r in e.records],
        curves=curves,
        health=["The embeddings are well spread."],
        embedding=Embedding(x, [f"window {i}" for i in range(60)], np.array([f"class {c}" for c in y], dtype=object)),
        config_yaml="train:\n  lr: 0.001\n",
        command="python -m mmssl.recipes.timeseries_ts2vec",
        versions={"torch": "2.11"},
    )


def write(report: Report, tmp_path: Path) -> str:
    write_report(tmp_path / "report.html", report)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def changed(report: Report, **fields: object) -> Report:
    return Report(**{**vars(report), **fields})


def expected_cell(records: list[Record], subject: str, protocol: str, metric: str, n_labels: int | str) -> str:
    """Average without the code under test: seeds, or the draws of a single seed."""
    key = (subject, protocol, metric, n_labels)
    found = [r for r in records if (r.subject, r.protocol, r.metric, r.n_labels) == key]
    seeds = sorted({r.seed for r in found})
    values = [float(np.mean([r.value for r in found if r.seed == s])) for s in seeds]
    if len(seeds) == 1:
        values = [r.value for r in found]
    mean = round(100 * sum(values) / len(values), 6)
    if len(values) == 1:
        return f"{mean:.1f} (1 {'seed' if n_labels == 'all' else 'draw'})"
    half = t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{mean:.1f} ± {round(100 * half, 6):.1f}"


def expected_tables(records: list[Record], subjects: Subjects) -> list[list[list[str]]]:
    protocols = ["svm-rbf/1", "knn-1/1", "logistic/1"]
    out = []
    for metric in ("accuracy", "macro_f1"):
        rows = [
            [subjects.name(s), *(expected_cell(records, s, p, metric, "all") for p in protocols)]
            for s in subjects.order
        ]
        out.append([["SVM", "1-NN", "logistic"], *rows])
    budgets = sorted({r.n_labels for r in records if r.n_labels != "all"}, key=int)
    rows = [
        [subjects.name(s), *(expected_cell(records, s, "fewshot-logistic/1", "accuracy", k) for k in budgets)]
        for s in subjects.order
    ]
    out.append([["labels a class", *map(str, budgets)], *rows])
    return out


def test_printed_table_report_and_results_file_agree(report: Report, subjects: Subjects, tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(to_json(report.records), encoding="utf-8")
    expected = expected_tables(read_results(tmp_path / "results.json"), subjects)
    assert Page(write(report, tmp_path)).tables == expected
    printed = []
    for table in tables(report.records, subjects):
        lines = as_text(table).splitlines()
        body = [line for line in lines[1:] if "─" not in line]
        printed.append([[cell for cell in re.split(r"\s{2,}", line.strip()) if cell] for line in body])
        assert len({len(line) for line in lines[1:]}) == 1
    assert printed == expected


def test_a_table_of_two_data_sets_is_refused(report: Report, subjects: Subjects) -> None:
    other = Record("other", "ts2vec", "svm-rbf/1", "accuracy", "all", 0, "test", 0.5, 10, 10)
    with pytest.raises(ValueError, match="several data sets"):
        tables([*report.records, other], subjects)


def test_what_was_not_measured_is_a_dash_or_absent(subjects: Subjects) -> None:
    record = Record("demo", "ts2vec", "svm-rbf/1", "accuracy", "all", 0, "test", 0.5, 10, 10)
    other = Record("demo", "statistics", "new/1", "accuracy", "all", 0, "test", 0.25, 10, 10)
    (table,) = tables([record, other], subjects)
    assert table.columns == ("", "SVM", "new/1")
    assert table.rows == (("TS2Vec", "50.0 (1 seed)", "–"), ("statistics", "–", "25.0 (1 seed)"))


def test_the_verdict_comes_first_and_the_sections_in_order(report: Report, tmp_path: Path) -> None:
    html = write(report, tmp_path)
    positions = [
        html.index(text)
        for text in (
            "<h1>Pretraining helped",
            "Scores against",
            "How many labels",
            "Health of",
            "Map of",
            "To get this",
        )
    ]
    assert positions == sorted(positions)
    assert "Nearest neighbours" not in html


def test_nothing_is_loaded_and_nothing_runs(report: Report, tmp_path: Path) -> None:
    html = write(report, tmp_path)
    page = Page(html)
    assert "http" not in html
    assert "<script" not in html
    names = {name for name, _ in page.attributes}
    assert not {name for name in names if name.startswith("on")} | (names & {"src", "href"})
    assert all(value.startswith("#") for name, value in page.attributes if name == "xlink:href")
    ids = {value for name, value in page.attributes if name == "id"}
    assert ids >= {value[1:] for name, value in page.attributes if name == "xlink:href"}


def test_colours_are_those_of_the_page(report: Report, tmp_path: Path) -> None:
    html = write(report, tmp_path)
    assert not re.search(r"#01020\d|#0301", html)
    drawings = html[html.index("<svg") :]
    assert not re.search(r"(fill|stroke): #(?!ffffff)", drawings)  # a colour of its own would vanish in light or dark


def test_equal_reports_are_equal_files(report: Report, tmp_path: Path) -> None:
    assert write(report, tmp_path) == write(report, tmp_path)


def test_text_of_the_user_is_escaped(report: Report, subjects: Subjects, tmp_path: Path) -> None:
    evil = "<script>alert('x & y')</script> $\\alpha$ 数"
    labels = np.array([evil, *["a"] * 58, None], dtype=object)
    assert report.embedding is not None
    named = Subjects("ts2vec", "random-encoder", subjects.controls, {"ts2vec": evil})
    embedding = Embedding(report.embedding.values, [evil] * 60, labels)
    texts = dict.fromkeys(("title", "dataset", "config_yaml", "command"), evil)
    lists = {"notes": [evil], "health": [evil], "versions": {evil: evil}}
    html = write(changed(report, subjects=named, embedding=embedding, **texts, **lists), tmp_path)
    assert "<script" not in html
    assert "".join(Page(html).text).count(evil) >= 10


@pytest.mark.parametrize("labels", [None, np.full(60, None, dtype=object)])
def test_without_labels_there_are_neighbours_with_pictures(
    report: Report, labels: np.ndarray | None, tmp_path: Path
) -> None:
    assert report.embedding is not None
    embedding = Embedding(
        report.embedding.values,
        report.embedding.names,
        labels,
        picture=lambda i: f'<svg aria-label="picture {i}"></svg>',
    )
    html = write(changed(report, verdict=without_labels(), records=(), embedding=embedding), tmp_path)
    Page(html)
    assert html.count('aria-label="picture') == 8 * 5
    assert "cosine" in html
    assert "<table" not in html


def test_sixty_classes_have_a_legend_of_twenty(report: Report, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.array([f"class {i % 60}" for i in range(300)], dtype=object)
    html = write(changed(report, embedding=Embedding(rng.normal(size=(300, 5)), ["w"] * 300, labels)), tmp_path)
    legend = html[html.index("Map of the embeddings") :]
    assert re.findall(r"</span> (class \d+)<", legend) == [f"class {i}" for i in range(20)]
    assert "40 other classes" in legend


def test_sections_follow_the_map_with_their_html_as_it_is_and_the_rest_escaped(report: Report, tmp_path: Path) -> None:
    gallery = '<div class="gallery"><figure><img alt="a view" src="data:image/png;base64,AA=="></figure></div>'
    sections = [Section("Views <of> an image", gallery, "What 2 < 3 views show."), Section("Attention", "<p>none</p>")]
    html = write(changed(report, sections=sections), tmp_path)
    page = Page(html)
    assert gallery in html
    assert "<h2>Views &lt;of&gt; an image</h2>" in html
    assert "<p>What 2 &lt; 3 views show.</p>" in html
    order = ["Map of the embeddings", "Views &lt;of", "<h2>Attention", "To get this again"]
    assert sorted(order, key=html.index) == order
    assert [value for name, value in page.attributes if name == "src"] == ["data:image/png;base64,AA=="]
    assert ".gallery {" in html


def test_neighbours_come_from_other_groups_in_the_words_of_the_data(report: Report, tmp_path: Path) -> None:
    assert report.embedding is not None
    values, names = report.embedding.values, report.embedding.names
    embedding = Embedding(values, names, groups=np.arange(60) // 2, entities="patients")
    html = write(changed(report, verdict=without_labels(), records=(), embedding=embedding), tmp_path)
    assert "taken from other patients than its own" in html


def test_fine_tuning_has_a_column_of_its_own(report: Report, tmp_path: Path) -> None:
    tuned = [
        Record("demo", "ts2vec", "finetune-full/1", metric, "all", seed, "test", 0.9, 60, 60)
        for metric in ("accuracy", "macro_f1")
        for seed in range(3)
    ]
    page = Page(write(changed(report, records=[*report.records, *tuned]), tmp_path))
    assert page.tables[0][0] == ["SVM", "1-NN", "logistic", "fine-tuned"]
    assert page.tables[0][1][-1] == "90.0 ± 0.0"
    assert page.tables[0][2][-1] == "–"
    assert "".join(page.text).count("fine-tuned") == 3  # both tables and the chart


def test_an_almost_empty_report_is_a_report(subjects: Subjects, tmp_path: Path) -> None:
    html = write(Report("run", "", without_labels(), subjects), tmp_path)
    assert "<h1>No labels" in html
    assert "<h2>" not in html


def test_the_collapse_value_is_drawn_where_it_is_known() -> None:
    steps = np.array([0.0, 1, 2, 3, 4])
    line = [(steps, steps)]
    assert "collapsed" in line_chart(line, "loss", reference=4.0)
    assert "collapsed" not in line_chart(line, "loss")


def test_charts_write_the_numbers_of_the_table() -> None:
    svg = dot_chart({"SVM": [(0, Interval(0.9675, 0.01, 3)), (1, Interval(0.5, float("nan"), 1))]}, "scores")
    assert ">96.8<" in svg
    assert ">50.0<" in svg
    curve = budget_chart([(0, [(1, Interval(0.3, 0.1, 5)), (10, Interval(0.6, float("nan"), 1))])], "budget")
    assert {">1<", ">10<", ">labels a class<"} <= set(re.findall(r">[\w ]+<", curve))


def test_the_map_keeps_clusters_apart_and_repeats(classes: Callable) -> None:
    x, y, *_ = classes(n=90, distance=6)
    first, second = project(x), project(x)
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first.points, second.points)
    assert first.method == "t-SNE"
    distance = np.linalg.norm(first.points[:, None] - first.points[None], axis=-1) + 1e9 * np.eye(90)
    assert (y[distance.argmin(axis=1)] == y).mean() > 0.95


def test_few_many_equal_and_broken_embeddings_are_mapped_sensibly(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    few = project(rng.normal(size=(9, 4)))
    assert few is not None
    assert few.method == "PCA"
    assert project(np.ones((50, 4), np.float32)) is None
    assert project(np.ones((1, 4))) is None
    broken = rng.normal(size=(30, 4))
    broken[3, 1] = np.nan
    mapped = project(broken)
    assert mapped is not None
    assert 3 not in mapped.rows
    monkeypatch.setattr("mmssl.eval.projection.MAX_POINTS", 40)
    many = project(rng.normal(size=(100, 4)))
    assert many is not None
    assert len(np.unique(many.rows)) == 40


def test_one_feature_can_be_mapped() -> None:
    mapped = project(np.random.default_rng(0).normal(size=(20, 1)))
    assert mapped is not None
    assert np.isfinite(mapped.points).all()


def test_neighbours_are_the_largest_cosines_and_queries_lie_apart() -> None:
    x = np.random.default_rng(0).normal(size=(50, 6))
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T - 10 * np.eye(50)
    found = neighbours(x)
    assert len({query for query, _ in found}) == 8
    for query, nearest in found:
        assert [row for row, _ in nearest] == np.argsort(-cosine[query])[:4].tolist()
        assert [value for _, value in nearest] == pytest.approx(np.sort(cosine[query])[::-1][:4].tolist(), abs=1e-5)


def test_neighbours_come_from_other_groups_where_there_are_some() -> None:
    x, groups = np.random.default_rng(0).normal(size=(50, 6)), np.arange(50) // 5
    assert all(groups[row] != groups[query] for query, nearest in neighbours(x, groups) for row, _ in nearest)
    assert len(neighbours(x, np.zeros(50))[0][1]) == 4


def test_two_thousand_points_stay_below_three_megabytes(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The layout takes seconds and says nothing about the size.
    monkeypatch.setattr("mmssl.eval.projection._tsne", lambda x, seed: x[:, :2])
    rng = np.random.default_rng(0)
    labels = np.array([f"class {i % 20}" for i in range(2000)], dtype=object)
    embedding = Embedding(rng.normal(size=(2000, 320)), ["w"] * 2000, labels)
    assert len(write(changed(report, embedding=embedding), tmp_path).encode()) < 3_000_000
