"""Quantises a half-precision GGUF to Q8_0 with llama.cpp."""

from __future__ import annotations

import argparse
import ctypes
from pathlib import Path

import llama_cpp


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q8_0
    settings.nthread = 1
    failed = llama_cpp.llama_model_quantize(
        str(options.source).encode(), str(options.out).encode(), ctypes.byref(settings)
    )
    if failed:
        raise SystemExit(f"llama.cpp could not quantise {options.source} (code {failed})")
    print(f"{options.out}: {options.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
