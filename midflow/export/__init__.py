"""Networks as files for other engines: ONNX, OpenVINO, torch programs; checked before kept."""
