# Read by CMake at llama-cpp-python's `project()`. It builds llama.cpp's "common" library, 40 % of the compilation, and does not use it: a normal
# variable comes before the one that it forces into CMake's cache.
set(LLAMA_BUILD_COMMON OFF)
