# /// script
# [tool.marimo.display]
# theme = "system"
# ///
"""The page, a marimo app; ``mpnn-arch explore`` serves it."""

import marimo

app = marimo.App(width="full", app_title="mpnn-arch explore")

with app.setup:
    import tempfile
    from pathlib import Path

    import marimo as mo
    import numpy as np

    from mpnn_arch.errors import InputError
    from mpnn_arch.explorer.choice import SUBJECTS, Choice
    from mpnn_arch.explorer.drawing import curves, plane
    from mpnn_arch.explorer.mark import mark
    from mpnn_arch.explorer.measured import RESULTS
    from mpnn_arch.graphs.connectomes import CONNECTOMES
    from mpnn_arch.graphs.generators.ws_flex import ws_flex

    # What needs torch is imported in the cells that use it, so that the controls and the plane are
    # on screen before.

    def refusal(error):
        """What cannot be, as a message on the page."""
        return mo.callout(mo.plain_text(str(error)), kind="danger")


@app.cell
def _():
    mo.hstack(
        [mo.Html(mark(ws_flex(12, 4, 0.2))), mo.md("# A layer is a round of message exchange")],
        justify="start",
        align="center",
    )
    return


@app.cell
def _():
    source = mo.ui.dropdown(
        {
            "WS-flex, by sliders": "sliders",
            "any family or published list": "text",
            "a connectome": "connectome",
            "a file of my own": "file",
        },
        value="WS-flex, by sliders",
        label="Graph",
    )
    subject = mo.ui.dropdown(
        {said: name for name, said in SUBJECTS.items()}, value=SUBJECTS["linear"], label="See"
    )
    channels = mo.ui.dropdown(["16", "32", "64", "128", "256", "512"], value="64", label="Channels")
    return channels, source, subject


@app.cell
def _():
    sliders = mo.ui.dictionary(
        {
            "nodes": mo.ui.slider(4, 64, value=16, label="nodes", show_value=True),
            "degree": mo.ui.slider(
                2, 63, step=0.5, value=4, label="average degree", show_value=True
            ),
            "rewiring": mo.ui.slider(
                0, 1, step=0.05, value=0.1, label="rewiring probability", show_value=True
            ),
            "seed": mo.ui.slider(0, 20, value=0, label="seed", show_value=True),
        }
    )
    text = mo.ui.text(value="ba:16,4,0", label="as `complete:16`, `ring:64,8`, `published:64/52/7`")
    connectome = mo.ui.dropdown(list(CONNECTOMES), value=next(iter(CONNECTOMES)), label="of the")
    upload = mo.ui.file(
        filetypes=[".csv", ".txt", ".tsv", ".npy", ".edges", ".edgelist", ".graphml", ".gexf"],
        max_size=5_000_000,
        label="a matrix, an edge list, GraphML or GEXF",
    )
    uploads = Path(tempfile.mkdtemp(prefix="mpnn-arch-"))
    return connectome, sliders, text, upload, uploads


@app.cell
def _(connectome, sliders, source, text, upload, uploads):
    def _uploaded():
        if not upload.value:
            return None
        given = upload.value[0]
        path = uploads / f"graph{Path(given.name).suffix.lower()}"
        path.write_bytes(given.contents)
        return f"file:{path}"

    chosen = {
        "sliders": lambda: "ws_flex:{nodes},{degree:g},{rewiring:g},{seed}".format(**sliders.value),
        "text": lambda: text.value,
        "connectome": lambda: f"connectome:{connectome.value}",
        "file": _uploaded,
    }[source.value]()
    control = {"sliders": sliders.vstack(), "text": text, "connectome": connectome, "file": upload}
    return chosen, control


@app.cell
def _():
    # What was changed on the widget since it was made, for the plane, the code and the training.
    get_shown, set_shown = mo.state({})
    get_job, set_job = mo.state(None)
    return get_job, get_shown, set_job, set_shown


@app.cell
def _(channels, chosen, set_shown, subject):
    choice, graph, refused = None, None, None
    try:
        if chosen is None:
            raise InputError("choose a file: a matrix of 0 and 1, an edge list, GraphML or GEXF")
        choice = Choice(graph=chosen, subject=subject.value, channels=int(channels.value))
        graph = choice.make_graph()
    except InputError as _error:
        choice, refused = None, refusal(_error)
    set_shown({})
    return choice, graph, refused


@app.cell
def _(channels, control, get_shown, graph, refused, source, subject):
    def _plane():
        pairs = get_shown().get("toggled")
        drawn = graph
        if pairs:
            from mpnn_arch.widget.rewire import toggled_graph

            drawn = toggled_graph(graph, pairs)
        return mo.Html(plane(drawn, RESULTS.get(drawn.num_nodes, wait=0.1)))

    _figure = _plane() if graph is not None else refused
    _controls = mo.vstack([source, control[source.value], subject, channels])
    # Beside each other, or below where there is no room.
    mo.Html(
        '<div style="display: grid; gap: 1rem; '
        'grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr))">'
        f"<div>{_controls.text}</div><div>{_figure.text}</div></div>"
    )
    return


@app.cell
def _(choice, set_shown):
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

        widget.observe(_changed, names=list(_first))
    return unbuilt, widget


@app.cell
def _(unbuilt, widget):
    RESULTS.start()  # only now: what is on screen comes first
    mo.stop(widget is None, unbuilt)
    mo.ui.anywidget(widget)
    return


@app.cell
def _(choice, get_shown, widget):
    mo.stop(widget is None)
    mo.vstack(
        [
            mo.md("## Code\n\nThese lines make what is on screen."),
            mo.plain_text(choice.code(get_shown())).style(
                {"user-select": "all", "white-space": "pre-wrap"}
            ),
        ]
    )
    return


@app.cell
def _(choice, get_job, get_shown, set_job, uploads, widget):
    mo.stop(widget is None)
    from mpnn_arch.explorer.live_training import LiveTraining

    dataset = mo.ui.dropdown(["digits", "mnist5k"], value="digits", label="Data")
    epochs = mo.ui.slider(1, 30, value=10, label="epochs", show_value=True)

    def _start(_):
        if get_job() is not None:
            get_job().discard()
        graph, spec = widget.layer.graph, choice.graph
        if "toggled" in get_shown():  # a graph of one's own making has no name but its matrix
            path = uploads / "edited.csv"
            np.savetxt(path, graph.adjacency.astype(int), fmt="%d", delimiter=",")
            spec = f"file:{path}"
        pair = [spec, f"complete:{graph.num_nodes}"]
        try:
            set_job(LiveTraining(pair, dataset=dataset.value, epochs=epochs.value))
        except (InputError, OSError) as error:
            set_job(str(error))

    def _stop(_):
        if isinstance(get_job(), LiveTraining):
            get_job().stop()

    start = mo.ui.button(label="Train", on_change=_start)
    stop = mo.ui.button(label="Stop", on_change=_stop)
    refresh = mo.ui.refresh(default_interval="1s")
    mo.vstack(
        [
            mo.md(
                "## Train\n\nThe paper's MLP on this graph and on the complete one, at equal "
                "multiply-adds, three seeds each, in a process of its own."
            ),
            mo.hstack([dataset, epochs, start, stop], justify="start", wrap=True),
            # It asks once a second how far the training is; there is nothing to see of it.
            mo.Html(f'<div style="display: none">{refresh.text}</div>'),
        ]
    )
    return (refresh,)


@app.cell
def _(get_job, refresh):
    refresh.value
    _job = get_job()
    mo.stop(_job is None)
    _rows = _job.look()
    _done, _all = len(_rows), 2 * _job.seeds * _job.epochs
    if _job.failure:
        _said = refusal(_job.failure)
    elif _job.is_running:
        _said = mo.md(f"training: {_done} of {_all} epochs")
    else:
        _said = mo.md(f"{'finished' if _done == _all else 'stopped'}: {_done} of {_all} epochs")
    mo.vstack([_said, mo.Html(curves(_rows, _job.graphs, _job.epochs))])
    return


if __name__ == "__main__":
    app.run()
