#!/usr/bin/env bash
# What the pages tell to type works. 77, skipped, where the model of the examples cannot be fetched.
exec python3 tools/docs_check.py commands
