"""llama.cpp's C API. All of this package imports it from here, so that a library that cannot be loaded is told in one way."""

from sage_cli.errors import loading

with loading("llama-cpp-python", variable="LLAMA_CPP_LIB_PATH"):
    from llama_cpp import llama_cpp as llama
    from llama_cpp import mtmd_cpp as mtmd

__all__ = ["llama", "mtmd"]
