"""What probes found: its values, as JSON, and as a table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapt.display import Rendered, counted, one_line, shows_fields
from adapt.extraction.linear import MEASURES
from adapt.spec import AdaptError
from adapt.stats import Interval, mean_interval, paired_difference
from adapt.tables.cells import escape, grid, heading, interval, machine, unit_of

if TYPE_CHECKING:
    import pandas

_SCHEMA = 2


@dataclass(frozen=True)
class LayerProbe:
    """The probes of one layer, a value for each seed."""

    layer: int
    """0 are the embeddings."""
    scores: tuple[float, ...]
    """Test score by the task's metric."""
    accuracies: tuple[float, ...]
    """What the control is compared with: the metric of `adapt.extraction.linear.MEASURES`, by which both are chosen."""
    controls: tuple[float, ...]
    """The same on the control task; empty where it was not asked for."""
    penalties: tuple[float, ...]
    """Chosen on validation by the task's metric."""

    @property
    def selectivities(self) -> list[float]:
        """Accuracy minus that on the control task (Hewitt & Liang 2019, section 2.2)."""
        return [a - b for a, b in zip(self.accuracies, self.controls, strict=True)] if self.controls else []


@dataclass(frozen=True)
class Probed:
    """The layers of one model."""

    name: str
    origin: Mapping[str, str]
    """`backbone`, the hash of its content, `run`, the key of the run that adapted it, and `precision`."""
    layers: tuple[LayerProbe, ...]


@shows_fields
@dataclass(frozen=True)
class Probing(Rendered):
    """What probes of one or several models found about one data set."""

    name: str
    """Of the data."""
    sha256: str
    """Content hash of the data."""
    settings: Mapping[str, Any]
    """`kind`, `problem`, `metric`, `pooling`, `max_length`, `seeds`, `max_train`, `max_held_out`, `classes`,
    `penalties`."""
    counts: Mapping[str, Any]
    """`vectors` and `rows` of `train` (a list, by seed), `validation` and `test`."""
    models: tuple[Probed, ...]
    baseline: tuple[tuple[str, float], ...]
    """Name and test score of a prediction made without a model, for each seed."""
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` makes the same of them."""
        return {"schema": _SCHEMA, **dataclasses.asdict(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Probing:
        """What `to_json` gave.

        Raises:
            AdaptError: It is something else.
        """
        try:
            if content["schema"] != _SCHEMA:
                raise KeyError("schema")
            models = tuple(
                Probed(m["name"], m["origin"], tuple(_layer(one) for one in m["layers"])) for m in content["models"]
            )
            rest = {n: content[n] for n in ("name", "sha256", "settings", "counts", "environment")}
            baseline = tuple((str(name), float(score)) for name, score in content["baseline"])
            found = cls(models=models, baseline=baseline, notes=tuple(content["notes"]), **rest)
            seeds = {len(layer.scores) for model in models for layer in model.layers}
            if seeds != {found.settings["seeds"]}:
                raise ValueError(f"scores of {sorted(seeds)} seeds")
            found.table()  # which needs all the rest
            return found
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise AdaptError(f"This is no result of probes ({error!r}); probe again.") from error

    def to_frame(self) -> pandas.DataFrame:
        """A row for each model, layer and seed, with the values of `LayerProbe`; None where there is no control."""
        import pandas

        return pandas.DataFrame([
            {
                "model": model.name, "layer": layer.layer, "seed": seed, "score": layer.scores[seed],
                "accuracy": layer.accuracies[seed], "control": layer.controls[seed] if layer.controls else None,
                "penalty": layer.penalties[seed],
            }
            for model in self.models for layer in model.layers for seed in range(len(layer.scores))
        ])  # fmt: skip

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        models = ", ".join(f"{counted(len(model.layers), 'layer')} of {model.name}" for model in self.models)
        return one_line(f"<Probing: {self.settings['metric']} on {self.name}, {models}>")

    def table(self) -> str:
        """Markdown: a row for each layer of each model, and the facts below."""
        metric, measure = self.settings["metric"], MEASURES[self.settings["problem"]]
        control = any(layer.controls for model in self.models for layer in model.layers)
        first, several = self.models[0], len(self.models) > 1
        own = None if measure == metric else f"{measure.replace('_', ' ')}{unit_of(measure)}"
        if control and any(layer.accuracies != layer.scores for model in self.models for layer in model.layers):
            own = own or f"of words that have tokens{unit_of(measure)}"
        head = ["model", "layer", heading(metric)]
        head += [f"difference to {escape(first.name)}"] if several else []
        head += [own] if control and own else []
        head += [f"control{unit_of(measure)}", "selectivity"] if control else []
        rows = []
        base = {layer.layer: layer for layer in first.layers}
        for model in self.models:
            for layer in model.layers:
                cells = [escape(model.name), str(layer.layer), _shown(mean_interval(layer.scores), metric)]
                if several:
                    other = base.get(layer.layer) if model is not first else None
                    found = paired_difference(layer.scores, other.scores) if other else None
                    cells.append(_shown(found, metric, signed=True))
                if control and own:
                    cells.append(_shown(mean_interval(layer.accuracies), measure))
                if control:
                    cells.append(_shown(mean_interval(layer.controls), measure))
                    cells.append(_shown(mean_interval(layer.selectivities), measure, signed=True))
                rows.append(cells)
        if self.baseline:
            simple = mean_interval([score for _, score in self.baseline])
            rows.append([self.baseline[0][0], "", _shown(simple, metric), *[""] * (len(head) - 3)])
        title = f"### {escape(self.name)}, probes of layers"
        return "\n".join([title, "", *grid(head, rows), "", *self._facts(control, several), ""])

    def _facts(self, control: bool, several: bool) -> list[str]:
        """What a reader must know: data, models, probe, control, seeds, hardware."""
        settings, counts = self.settings, self.counts
        words = settings["kind"] == "token_classification"
        unit = "words" if words else "rows"
        sizes = sorted({one["vectors"] for one in counts["train"]})
        train = f"{sizes[0]:,} to {sizes[-1]:,}" if len(sizes) > 1 else f"{sizes[0]:,}"
        held = ", ".join(f"{counts[split]['vectors']:,} {split}" for split in ("validation", "test"))
        models = ", ".join(f"{escape(model.name)} ({_origin(model.origin)})" for model in self.models)
        read = "at their first token" if words else f"by {settings['pooling']} pooling"
        how = "ridge regression" if settings["problem"] == "regression" else "logistic regression"
        seeds = settings["seeds"]
        depths = {tuple(layer.layer for layer in model.layers) for model in self.models}
        metric, measure = (m.replace("_", " ") for m in (settings["metric"], MEASURES[settings["problem"]]))
        penalties = ", ".join(f"{penalty:g}" for penalty in sorted(settings["penalties"]))
        otherwise = f" (by {measure} for what selectivity compares)" if control and metric != measure else ""
        return [
            f"- Data: {escape(self.name)} (content {self.sha256[:12]}), {unit}: {train} train (at most "
            f"{settings['max_train']:,}), {held} (at most {settings['max_held_out']:,}); texts "
            f"{'read in windows of at most' if words else 'cut to'} {settings['max_length']} tokens; scored on test.",
            f"- Models: {models}; layer 0 are the embeddings, the last is what the model hands on.",
            f"- Probe: {how} on frozen, standardised vectors, {unit} read {read}; penalty of {penalties} chosen on "
            f"validation by {metric}{otherwise}.",
            *([
                f"- Control: targets drawn for each word type{'' if words else ' that a row begins with'} (Hewitt & "
                f"Liang 2019); selectivity is the probe's {measure} minus that on them."
            ] if control else []),
            f"- Seeds: {', '.join(map(str, range(seeds)))}; a seed draws the training rows, where there are more, and "
            f"the control, alike for every model; intervals are Student's t over seeds"
            f"{', differences paired by seed' if several else ''}; the choice of rows scored is not in them.",
            *(["- Layers: differences are between those of one number, which models of other depths have elsewhere."]
              if len(depths) > 1 else []),
            f"- Hardware: {machine(self.environment)}.",
            *(f"- Note: {escape(note)}" for note in self.notes),
        ]  # fmt: skip


def _origin(origin: Mapping[str, str]) -> str:
    """Where a model came from and how it was read."""
    known = {"backbone": "backbone's content", "run": "run", "precision": "read in"}
    return ", ".join(f"{words} {origin[name][:12]}" for name, words in known.items() if name in origin)


def _layer(content: Mapping[str, Any]) -> LayerProbe:
    values = {name: tuple(map(float, content[name])) for name in ("scores", "accuracies", "controls", "penalties")}
    return LayerProbe(layer=int(content["layer"]), **values)


def _shown(found: Interval | None, metric: str, signed: bool = False) -> str:
    return "" if found is None else interval(found, metric, signed)


def tables(results: Sequence[Probing]) -> str:
    """The tables of several data sets, one below the other."""
    return "\n".join(result.table() for result in results)
