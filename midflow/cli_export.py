"""`midflow export`: a network as a file for other engines."""

from pathlib import Path
from typing import Annotated

import midflow
from midflow import arguments as args
from midflow.errors import OptionError

Paths = Annotated[
    list[Path],
    args.argument(
        "A release or weights, default: midflow-2; and the file to write: .onnx, .xml "
        "(OpenVINO), .pt2 (torch.export) or .engine (TensorRT).",
        "[MODEL] OUT",
    ),
]
Side = Annotated[
    int | None,
    args.option("Take this size only; default: any multiple of what the network pads to."),
]
Precision = Annotated[
    str,
    args.option("Of convolutions: float32, or float16 in .onnx and .engine; default: float32."),
]


def export(
    paths: Paths,
    flow_scale: args.FlowScale = None,
    ensemble: args.Ensemble = False,
    height: Side = None,
    width: Side = None,
    precision: Precision = "float32",
    overwrite: args.Overwrite = False,
    quiet: args.Quiet = False,
) -> None:
    """Write a network for other engines (ONNX, OpenVINO, ...); kept only if it paints the same."""
    if len(paths) > 2:
        raise OptionError(f"export takes [MODEL] OUT, got {len(paths)} names")
    if (height is None) != (width is None):
        raise OptionError("height and width go together: give both or none")
    *given, out = paths
    from midflow.display import Display
    from midflow.export.engines import engine_of
    from midflow.export.files import export_model
    from midflow.export.graph import inputs_of

    engine = engine_of(out)
    with Display(is_quiet=quiet) as display:
        model = midflow.load_model(str(given[0]) if given else None)
        display.say(f"{engine.name}: a minute or two for a large network")
        checks = export_model(
            model,
            out,
            flow_scale=1.0 if flow_scale is None else flow_scale,
            ensemble=ensemble,
            size=None if height is None or width is None else (height, width),
            precision=precision,
            overwrite=overwrite,
        )
    if not quiet:
        print(f"{out}: {', '.join(inputs_of(model))} -> frame, flow, weight; beside the network")
        print("\n".join(f"  {found}" for found in checks))
