"""Dashboards as JSON for Grafana (schema 39: Grafana 11 and newer)."""

import json
from collections.abc import Sequence

from kldrift.provisioning.dashboards.panel import (
    Annotation,
    Board,
    Json,
    Need,
    Panel,
    Query,
    Section,
    Variable,
    filled,
    is_met,
)

SCHEMA_VERSION = 39

COLUMNS = 24

#: Cells in a row of a heat map; few enough to be visible.
CELLS = 60

#: Every query goes to the data source chosen in the variable of this name.
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}

REF_IDS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def dashboard_text(board: Board, has: frozenset[Need] | None, datasource: str | None = None) -> str:
    """Return a dashboard as a file for provisioning or import.

    Parameters
    ----------
    has : what the configuration fulfils; None: everything
    datasource : name of the data source selected initially; None: the default of Grafana
    """
    return json.dumps(dashboard_json(board, has, datasource), indent=2, ensure_ascii=False) + "\n"


def dashboard_json(board: Board, has: frozenset[Need] | None, datasource: str | None = None) -> Json:
    """Return a dashboard as the model of Grafana; with `id` null, Grafana assigns one."""
    return {
        "id": None,
        "uid": board.uid,
        "title": board.title,
        "description": board.description,
        "tags": ["kldrift"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timepicker": {},
        "timezone": "",
        "links": [
            {
                "type": "dashboards",
                "title": "kldrift",
                "tags": ["kldrift"],
                "asDropdown": True,
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "icon": "external link",
                "tooltip": "",
                "url": "",
            }
        ],
        "annotations": {"list": [_annotation(annotation) for annotation in board.annotations]},
        "templating": {
            "list": [
                _datasource(datasource),
                *(_variable(variable) for variable in board.variables if is_met(variable.needs, has)),
            ]
        },
        "panels": _panels(board.sections, has),
    }


def _panels(sections: Sequence[Section], has: frozenset[Need] | None) -> list[Json]:
    """Lay out headings and panels from left to right and top to bottom."""
    panels: list[Json] = []
    y = 0
    for section in sections:
        shown = [
            panel
            for panel in section.panels
            if is_met(section.needs, has) and is_met(panel.needs, has) and filled(panel.queries, has)
        ]
        if not shown:
            continue
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": section.title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1},
                "panels": [],
            }
        )
        y += 1
        x = height = 0
        for panel in shown:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            place = {"x": x, "y": y, "w": panel.width, "h": panel.height}
            panels.append(_panel(len(panels) + 1, panel, place, has))
            x, height = x + panel.width, max(height, panel.height)
        y += height
    return panels


def _panel(panel_id: int, panel: Panel, place: Json, has: frozenset[Need] | None) -> Json:
    queries = filled(panel.queries, has)
    made: Json = {
        "id": panel_id,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "targets": [_target(ref, query, panel) for ref, query in zip(REF_IDS, queries, strict=False)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": _overrides(panel)},
        "options": _options(panel),
    }
    if panel.kind == "table":
        made["transformations"] = _table_shape(panel, queries)
    if panel.kind == "status-history":
        made["maxDataPoints"] = CELLS
    if panel.repeat is not None:
        made |= {"repeat": panel.repeat, "repeatDirection": "h", "maxPerRow": 2}
    return made


def _target(ref: str, query: Query, panel: Panel) -> Json:
    instant = panel.kind in ("stat", "table")
    return {
        "refId": ref,
        "datasource": DATASOURCE,
        "editorMode": "code",
        "expr": query.expr,
        "legendFormat": query.name or "__auto",
        "instant": instant,
        "range": not instant,
        "format": "table" if panel.kind == "table" else "time_series",
    }


def _defaults(panel: Panel) -> Json:
    steps = panel.steps or ((None, "green" if panel.kind != "stat" else "text"),)
    defaults: Json = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]},
        "color": {"mode": "thresholds" if panel.kind != "timeseries" else "palette-classic"},
        "mappings": [],
        "custom": {},
    }
    if panel.words:
        options = {
            value: {"text": text, "color": colour, "index": i} for i, (value, text, colour) in enumerate(panel.words)
        }
        defaults["mappings"] = [{"type": "value", "options": options}]
    if panel.minimum is not None:
        defaults["min"] = panel.minimum
    if panel.maximum is not None:
        defaults["max"] = panel.maximum
    if panel.kind == "timeseries":
        # an absent series is a gap, so there is no line where there was no verdict
        defaults["custom"] = {
            "drawStyle": "line",
            "lineWidth": 1,
            "fillOpacity": 0,
            "showPoints": "auto",
            "spanNulls": False,
        }
    elif panel.kind == "status-history":
        defaults["custom"] = {"fillOpacity": 80, "lineWidth": 0}
    elif panel.kind == "table":
        defaults["custom"] = {"align": "auto", "filterable": True}
    return defaults


def _overrides(panel: Panel) -> list[Json]:
    overrides = []
    for name, unit in (panel.units or {}).items():
        overrides.append(_override(name, ("unit", unit)))
    for name, colour in (panel.dashed or {}).items():
        overrides.append(
            _override(
                name,
                ("color", {"mode": "fixed", "fixedColor": colour}),
                ("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
            )
        )
    if panel.band is not None:
        low, high = panel.band
        overrides.append(_override(high, ("custom.fillBelowTo", low), ("custom.fillOpacity", 12)))
    if panel.kind == "table" and panel.steps and panel.sorted_by is not None:
        overrides.append(_override(panel.sorted_by, ("custom.cellOptions", {"type": "color-text"})))
    if panel.link is not None:
        title, uid, variables = panel.link
        chosen = "&".join(f"var-{name}=${{__data.fields.{name}:percentencode}}" for name in variables)
        link = {"title": title, "url": f"/d/{uid}?${{datasource:queryparam}}&{chosen}&${{__url_time_range}}"}
        overrides.append(_override(variables[-1], ("links", [link])))
    return overrides


def _override(name: str, *properties: tuple[str, object]) -> Json:
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": key, "value": value} for key, value in properties],
    }


def _options(panel: Panel) -> Json:
    if panel.kind == "stat":
        return {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": "value_and_name" if len(panel.queries) > 1 else "auto",
            "justifyMode": "auto",
            "orientation": "auto",
        }
    if panel.kind == "table":
        return {"showHeader": True, "cellHeight": "sm", "footer": {"show": False}}
    if panel.kind == "status-history":
        return {
            "showValue": "never",
            "rowHeight": 0.9,
            "legend": {"showLegend": False, "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "single"},
        }
    return {
        "legend": {"showLegend": True, "displayMode": "table", "placement": "right", "calcs": ["lastNotNull", "max"]}
        if panel.width >= 12 and len(panel.queries) == 1
        else {"showLegend": True, "displayMode": "list", "placement": "bottom", "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


def _table_shape(panel: Panel, queries: Sequence[Query]) -> list[Json]:
    """Shape the results into a row for each set of labels and a column for each query."""
    names = {f"Value #{ref}": query.name for ref, query in zip(REF_IDS, queries, strict=False)}
    if len(queries) == 1:
        names = {"Value": queries[0].name, **names}
    shape: list[Json] = [
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": True}, "renameByName": names, "indexByName": {}}},
    ]
    if panel.sorted_by is not None:
        shape.append({"id": "sortBy", "options": {"fields": {}, "sort": [{"field": panel.sorted_by, "desc": True}]}})
    return shape


def _datasource(name: str | None) -> Json:
    return {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
        "current": {} if name is None else {"selected": True, "text": name, "value": name},
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "options": [],
        "refresh": 1,
        "regex": "",
        "skipUrlSync": False,
    }


def _variable(variable: Variable) -> Json:
    several = variable.all_value is not None
    query = f"label_values({variable.selector}, {variable.name})"
    made: Json = {
        "name": variable.name,
        "label": variable.title,
        "type": "query",
        "datasource": DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": f"{variable.name}-values"},
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]} if several else {},
        "hide": 0,
        "includeAll": several,
        "multi": several,
        "options": [],
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
    }
    if several:
        made["allValue"] = variable.all_value
    return made


def _annotation(annotation: Annotation) -> Json:
    return {
        "name": annotation.name,
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": annotation.colour,
        "expr": annotation.expr,
        "step": "60s",
        "titleFormat": annotation.title,
        "textFormat": annotation.text,
        "tagKeys": "",
        "useValueForTime": annotation.value_is_time,
    }
