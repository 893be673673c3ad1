# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The page, a marimo app; ``mpnn-arch explore`` serves it."""

import marimo

app = marimo.App(width="full", app_title="mpnn-arch explore", css_file="page.css")

with app.setup:
    import tempfile
    from html import escape
    from pathlib import Path

    import marimo as mo

    from mpnn_arch.errors import InputError
    from mpnn_arch.explorer.choice import (
        CHANNELS,
        DATASETS,
        NETWORKS,
        SUBJECTS,
        Choice,
        kept_file,
    )
    from mpnn_arch.explorer.drawing import curves, plane
    from mpnn_arch.explorer.families import about, families, label, on_sliders, parameters, spec
    from mpnn_arch.explorer.mark import INTRO, title_mark
    from mpnn_arch.explorer.measured import RESULTS
    from mpnn_arch.graphs.connectomes import CONNECTOMES

    # What needs torch is imported in the cells that use it, so that the controls and the plane are
    # on screen before.

    def message(text, kind):
        """A sentence on the page, on as many lines as it takes."""
        said = f'<div style="overflow-wrap: anywhere">{escape(str(text))}</div>'
        return mo.callout(mo.Html(said), kind=kind)

    def refusal(error):
        """What cannot be, as a message on the page."""
        return message(error, "danger")

    def keep_in_address(choice):
        """A reload and a link show what was chosen; the defaults need no address."""
        asked, default = mo.query_params(), Choice().address()
        for name, value in choice.address().items():
            if asked.get(name, default[name]) != value:
                asked[name] = value


@app.cell
def _():
    _title = mo.hstack(
        [mo.Html(title_mark()), mo.md("# A layer is a round of message exchange")],
        justify="start",
        align="center",
    )
    mo.vstack([_title, mo.md(INTRO)])
    return


@app.cell
def _():
    first = Choice.from_address(mo.query_params().to_dict())
    first_sliders = on_sliders(first.graph)
    brain = next((name for name in CONNECTOMES if first.graph == f"connectome:{name}"), None)
    return brain, first, first_sliders


@app.cell
def _(brain, first, first_sliders):
    _sources = {
        "a family, by sliders": "sliders",
        "any graph or published list, by name": "text",
        "a connectome": "connectome",
        "a file of my own": "file",
    }
    _first = [bool(first_sliders), not (first_sliders or brain), bool(brain)].index(True)
    source = mo.ui.dropdown(_sources, value=list(_sources)[_first], label="Graph")
    family = mo.ui.dropdown(
        families(), value=first_sliders[0] if first_sliders else families()[0], label="Family"
    )
    subject = mo.ui.dropdown(
        {said: name for name, said in SUBJECTS.items()}, value=SUBJECTS[first.subject], label="See"
    )
    channels = mo.ui.dropdown(CHANNELS, value=str(first.channels), label="Channels")
    digits = mo.ui.dropdown(DATASETS, value=first.dataset, label="Digits of")
    return channels, digits, family, source, subject


@app.cell
def _(family, first_sliders):
    _known = first_sliders[1] if first_sliders and first_sliders[0] == family.value else {}
    sliders = mo.ui.dictionary(
        {
            name: mo.ui.slider(
                *given[:3],
                value=_known.get(name, given.value),
                label=label(name),
                show_value=True,
            )
            for name, given in parameters(family.value).items()
        }
    )
    return (sliders,)


@app.cell
def _(brain, first, first_sliders):
    text = mo.ui.text(
        value="ba:16,4,0" if first_sliders or brain else first.graph,
        label="as `complete:16`, `ring:64,8`, `published:64/52/7`",
    )
    connectome = mo.ui.dropdown(
        list(CONNECTOMES), value=brain or next(iter(CONNECTOMES)), label="of the"
    )
    upload = mo.ui.file(
        filetypes=[".csv", ".txt", ".tsv", ".npy", ".edges", ".edgelist", ".graphml", ".gexf"],
        max_size=5_000_000,
        label="a matrix, an edge list, GraphML or GEXF",
    )
    uploads = Path(tempfile.mkdtemp(prefix="mpnn-arch-"))
    return connectome, text, upload, uploads


@app.cell
def _(connectome, family, sliders, source, text, upload, uploads):
    def _uploaded():
        if not upload.value:
            return None
        return kept_file(uploads, upload.value[0].name, upload.value[0].contents)

    chosen = {
        "sliders": lambda: spec(family.value, sliders.value),
        "text": lambda: text.value,
        "connectome": lambda: f"connectome:{connectome.value}",
        "file": _uploaded,
    }[source.value]()
    control = {
        "sliders": mo.vstack(
            [family, mo.Html(f"<div>{escape(about(family.value))}</div>"), sliders.vstack()]
        ),
        "text": text,
        "connectome": connectome,
        "file": upload,
    }
    return chosen, control


@app.cell
def _():
    # What was changed on the widget since it was made, for the plane, the code and the training.
    get_shown, set_shown = mo.state({})
    # Where in the round the reader is, for the code alone.
    get_place, set_place = mo.state({})
    get_job, set_job = mo.state(None)
    # Why what is on screen is not trained; forgotten when that changes.
    get_untrained, set_untrained = mo.state(None)
    return (
        get_job,
        get_place,
        get_shown,
        get_untrained,
        set_job,
        set_place,
        set_shown,
        set_untrained,
    )


@app.cell
def _(channels, chosen, digits, set_place, set_shown, set_untrained, source, subject):
    choice, graph, refused = None, None, None
    try:
        if chosen is None:
            refused = message("Choose a file of up to 5 MB.", "info")
        else:
            choice = Choice(
                graph=chosen,
                subject=subject.value,
                channels=int(channels.value),
                dataset=digits.value,
                uploaded=source.value == "file",
            )
            graph = choice.make_graph()
            if source.value != "file":  # which is this page's alone
                keep_in_address(choice)
    except InputError as _error:
        choice, refused = None, refusal(_error)
    set_shown({})
    set_place({})
    set_untrained(None)
    return choice, graph, refused


@app.cell
def _(channels, control, digits, get_shown, graph, refused, source, subject):
    def _plane():
        pairs = get_shown().get("toggled")
        drawn = graph
        if pairs:
            from mpnn_arch.widget.toggled import toggled_graph

            drawn = toggled_graph(graph, pairs)
        return mo.Html(plane(drawn, RESULTS.get(drawn.num_nodes, wait=0.1)))

    _figure = _plane() if graph is not None else refused
    # A network has its own widths, and is shown what it was made for.
    _third = digits if subject.value in NETWORKS else channels
    _controls = mo.vstack([source, control[source.value], subject, _third])
    # Beside each other, or below where there is no room.
    mo.Html(
        '<div style="display: grid; gap: 1rem; '
        'grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr))">'
        f"<div>{_controls.text}</div><div>{_figure.text}</div></div>"
    )
    return


@app.cell
def _(choice, set_place, set_shown, set_untrained):
    widget, unbuilt = None, None
    if choice is not None:
        from mpnn_arch.widget import RoundWidget

        try:
            widget = RoundWidget(*choice.build())
        except InputError as _error:
            unbuilt = refusal(_error)
    if widget is not None:
        _first = {name: getattr(widget, name) for name in ("aggr", "message", "toggled")}
        _first |= {"round_index": 0, "sample": 0}

        def _changed(_):
            now = {name: getattr(widget, name) for name in _first}
            set_shown({name: value for name, value in now.items() if value != _first[name]})
            set_untrained(None)

        def _moved(_):
            now = {}
            if widget.step != widget.num_steps:
                now["step"] = widget.step
            if widget.selected:
                now["selected"] = widget.selected
            if len(widget.views) < 3:
                now["views"] = list(widget.views)
            set_place(now)

        widget.observe(_changed, names=list(_first))
        widget.observe(_moved, names=["step", "selected", "views"])
    return unbuilt, widget


@app.cell
def _(unbuilt, widget):
    RESULTS.start()  # only now: what is on screen comes first
    mo.stop(widget is None, unbuilt)
    mo.ui.anywidget(widget)
    return


@app.cell
def _(choice, get_place, get_shown, widget):
    mo.stop(widget is None)
    _lines = escape(choice.code(get_shown() | get_place()))
    _style = "user-select: all; white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem"
    mo.vstack(
        [
            mo.md("## Code\n\nThese lines make what is on screen."),
            mo.Html(f'<pre style="{_style}">{_lines}</pre>'),
        ]
    )
    return


@app.cell
def _():
    # In a cell of their own: they keep what was chosen when the graph changes.
    dataset = mo.ui.dropdown(DATASETS, value=DATASETS[0], label="Data")
    epochs = mo.ui.slider(1, 30, value=10, label="epochs", show_value=True)
    refresh = mo.ui.refresh(default_interval="1s")
    return dataset, epochs, refresh


@app.cell
def _(
    choice,
    dataset,
    epochs,
    get_job,
    get_shown,
    refresh,
    set_job,
    set_untrained,
    uploads,
    widget,
):
    mo.stop(widget is None)
    from mpnn_arch.explorer.live_training import LiveTraining, trained_pair

    _model = choice.subject if choice.subject in NETWORKS else "mlp"

    def _start(_):
        if isinstance(get_job(), LiveTraining):
            get_job().discard()
        shown = get_shown()
        swapped = {key: shown[key] for key in ("message", "aggr") if key in shown}
        folder = uploads if "toggled" in shown else None
        try:
            pair = trained_pair(choice.graph, widget.layer.graph, folder)
            job = LiveTraining(
                pair, model=_model, dataset=dataset.value, epochs=epochs.value, **swapped
            )
            set_job(job)
            set_untrained(None)
        except (InputError, OSError) as error:
            set_job(None)
            set_untrained(str(error))

    def _stop(_):
        if isinstance(get_job(), LiveTraining):
            get_job().stop()

    start = mo.ui.button(label="Train", on_change=_start)
    stop = mo.ui.button(label="Stop", on_change=_stop)
    mo.vstack(
        [
            mo.md(
                f"## Train\n\n{NETWORKS[_model]} on this graph and on the complete one, at equal "
                "multiply-adds, three seeds each, in a process of its own. A message or AGG that "
                "was swapped is that of both."
            ),
            mo.hstack([dataset, epochs, start, stop], justify="start", wrap=True),
            # It asks once a second how far the training is; there is nothing to see of it.
            mo.Html(f'<div style="display: none">{refresh.text}</div>'),
        ]
    )
    return


@app.cell
def _(get_job, get_untrained, refresh):
    refresh.value
    mo.stop(get_untrained() is not None, refusal(get_untrained()))
    _job = get_job()
    mo.stop(_job is None)
    _rows = _job.look()
    _done, _all = len(_rows), len(_job.graphs) * _job.seeds * _job.epochs
    _with = "".join(f", {what} {name}" for what, name in _job.swapped.items() if name)
    if _job.failure:
        _said = refusal(_job.failure)
    elif _job.is_running:
        _said = mo.md(f"training: {_done} of {_all} epochs{_with}")
    else:
        _ended = "finished" if _done == _all else "stopped"
        _said = mo.md(f"{_ended}: {_done} of {_all} epochs{_with}")
    mo.vstack([_said, mo.Html(curves(_rows, _job.graphs, _job.epochs))])
    return


if __name__ == "__main__":
    app.run()
