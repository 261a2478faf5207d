"""The crash matrix: real processes die by SIGKILL at named points; then `recover`, and a look from outside.

`python -m chaos --kills 12` is a short form; `make chaos` runs the whole. See `chaos/__main__.py`.
"""
